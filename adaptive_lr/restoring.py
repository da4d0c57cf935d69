"""Leaves a training run as it was found: what an excursion with its model and optimizer touches is put back.

Everything goes back *in place*: the same tensors, dicts and lists with the content they had, so that schedulers,
captured graphs and others that hold them notice nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, MutableMapping, MutableSequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Sampler


@contextmanager
def restored(
    *,
    modules: tuple[nn.Module, ...],
    optimizer: Optimizer,
    scaler: GradScaler | None = None,
    batches: object = None,
) -> Iterator[None]:
    """Whatever happens inside, an exception or Ctrl-C included, everything is afterwards as it was before.

    That is: parameters with their gradients and `requires_grad`, buffers, the train and eval flags of every submodule;
    the optimizer with its state, its groups (learning rates that are tensors stay the tensors they are) and its hooks;
    the scaler; the random generators of Python, numpy and torch, those of a `DataLoader` and of its samplers; whether
    the loader has workers that go on living. Inside, all gradients are None.

    It takes as much memory as parameters, buffers and optimizer state do, on their devices. What a module keeps outside
    its parameters and buffers is not seen, nor are batches that an iterator has already given.

    Args:
        modules: the model, and a loss that is a module.
        optimizer: any torch optimizer; one that holds another (a wrapper) is put back with it.
        scaler: the gradient scaler, or None.
        batches: where batches come from.
    """
    memory = _Memory()
    for module in modules:
        memory.keep_module(module)
    memory.keep(optimizer)
    memory.keep(scaler)
    if isinstance(batches, DataLoader):
        memory.keep(batches)
        batches._iterator = None  # workers that live on belong to whoever iterates now; the excursion gets its own
    memory.keep_generators()
    for parameter in memory.parameters:
        parameter.grad = None
    try:
        yield
    finally:
        memory.put_back()


class _Memory:
    """What was kept, and how each piece goes back."""

    def __init__(self) -> None:
        self.parameters: list[torch.Tensor] = []  # every tensor that may have a gradient
        self._undo: list[Callable[[], object]] = []
        self._seen: dict[int, object] = {}  # objects by identity; holding them keeps identities from being used again

    def put_back(self) -> None:
        with torch.no_grad():
            for undo in self._undo:
                undo()

    def keep_module(self, root: nn.Module) -> None:
        for module in root.modules():
            self.keep(module._parameters)
            self.keep(module._buffers)
            self._undo.append(partial(setattr, module, "training", module.training))

    def keep(self, value: Any) -> None:
        """Remember the content of a value, as deep as it can change; anything unknown is left alone."""
        if isinstance(value, tuple):  # cannot change, what is in it can
            for item in value:
                self.keep(item)
            return
        if id(value) in self._seen:
            return
        if isinstance(value, torch.Tensor):
            self._seen[id(value)] = value
            self._keep_tensor(value)
        elif isinstance(value, MutableMapping):
            self._seen[id(value)] = value
            self._keep_mapping(value)
        elif isinstance(value, MutableSequence):
            self._seen[id(value)] = value
            self._keep_sequence(value)
        elif isinstance(value, torch.Generator):
            self._seen[id(value)] = value
            self._undo.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, Optimizer | GradScaler):
            self._seen[id(value)] = value
            self.keep(vars(value))
        elif isinstance(value, DataLoader | Sampler):
            self._seen[id(value)] = value
            self._keep_attributes(value)

    def keep_generators(self) -> None:
        """The global random generators."""
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global one is what must be kept)
        cpu = torch.get_rng_state()
        self._undo += [
            lambda: random.setstate(python),
            lambda: np.random.set_state(numpy),  # noqa: NPY002
            lambda: torch.set_rng_state(cpu),
        ]
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # asking would initialise every device, and take memory on each
            devices = torch.cuda.get_rng_state_all()
            self._undo.append(lambda: torch.cuda.set_rng_state_all(devices))
        if torch.backends.mps.is_available():
            mps = torch.mps.get_rng_state()
            self._undo.append(lambda: torch.mps.set_rng_state(mps))

    def _keep_tensor(self, tensor: torch.Tensor) -> None:
        if tensor.is_leaf:
            gradient, flag = tensor.grad, tensor.requires_grad
            self.parameters.append(tensor)

            def put_gradient_back() -> None:
                if tensor.requires_grad is not flag:
                    tensor.requires_grad_(flag)
                tensor.grad = gradient

            self._undo.append(put_gradient_back)
        if tensor.layout is torch.strided and any(
            size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
        ):
            return  # expanded: torch refuses to write to it, so nobody else could
        copy = tensor.detach().clone()
        self._undo.append(lambda: tensor.detach().copy_(copy))

    def _keep_mapping(self, mapping: MutableMapping[Any, Any]) -> None:
        items = dict(mapping)

        def put_back() -> None:
            mapping.clear()
            mapping.update(items)

        self._undo.append(put_back)
        for item in items.values():
            self.keep(item)

    def _keep_sequence(self, sequence: MutableSequence[Any]) -> None:
        items = list(sequence)

        def put_back() -> None:
            sequence.clear()
            sequence.extend(items)

        self._undo.append(put_back)
        for item in items:
            self.keep(item)

    def _keep_attributes(self, owner: DataLoader[Any] | Sampler[Any]) -> None:
        """Attributes as they are; of their contents only what orders batches: never the data."""
        attributes = vars(owner)
        items = dict(attributes)

        def put_back() -> None:
            attributes.clear()
            attributes.update(items)

        self._undo.append(put_back)
        for item in items.values():
            if isinstance(item, torch.Generator | Sampler):
                self.keep(item)
