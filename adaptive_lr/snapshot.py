"""A copy of a run in memory, to go back to: parameters, buffers, optimizer state."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from adaptive_lr_kernels.shards import local

SCHEDULED = frozenset(
    {"params", "lr", "initial_lr", "max_lr", "min_lr", "momentum", "betas", "base_momentum", "max_momentum"}
)
"""Group entries that belong to the schedule, whose clock does not run back."""


class Snapshot:
    """Copies of the parameters of an optimizer, of its state, and of a model's buffers.

    Takes as much memory as the parameters and the optimizer's state do (`num_bytes`), on their devices.

    Args:
        optimizer: what is copied.
        model: whose buffers are copied as well (running statistics of batch normalisation), or None.
    """

    def __init__(self, optimizer: Optimizer, model: nn.Module | None) -> None:
        self._parameters = [p.detach().clone() for p in _parameters(optimizer)]
        self._states = [_copied(dict(optimizer.state.get(p, {}))) for p in _parameters(optimizer)]
        self._groups = [_copied(_own(group)) for group in optimizer.param_groups]
        self._buffers = {} if model is None else {name: b.detach().clone() for name, b in model.named_buffers()}

    @property
    def num_bytes(self) -> int:
        """Memory of all copies on this process."""
        return sum(local(t).numel() * t.element_size() for t in _tensors(self.state_dict()))

    def put_back(self, optimizer: Optimizer, model: nn.Module | None) -> None:
        """Bring everything back to what was copied, in place where a tensor still has its shape.

        Parameters that came later (a group added since) are left as they are.
        """
        with torch.no_grad():
            for parameter, copy, state in zip(_parameters(optimizer), self._parameters, self._states, strict=False):
                parameter.copy_(copy)
                if not state:
                    optimizer.state.pop(parameter, None)
                else:
                    _restore(optimizer.state[parameter], state)
            for group, values in zip(optimizer.param_groups, self._groups, strict=False):
                group.update(_copied(values))
            if model is not None:
                buffers = dict(model.named_buffers())
                for name in self._buffers.keys() & buffers.keys():
                    buffers[name].copy_(self._buffers[name])

    def state_dict(self) -> dict[str, Any]:
        """The copies as tensors and plain values."""
        return {
            "parameters": self._parameters,
            "states": self._states,
            "groups": self._groups,
            "buffers": self._buffers,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Snapshot:
        """The snapshot that gave this `state_dict`."""
        snapshot = cls.__new__(cls)
        snapshot._parameters = list(state["parameters"])
        snapshot._states = list(state["states"])
        snapshot._groups = list(state["groups"])
        snapshot._buffers = dict(state["buffers"])
        return snapshot


def _parameters(optimizer: Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _own(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in SCHEDULED}


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value


def _restore(now: dict[str, Any], copy: dict[str, Any]) -> None:
    for key in now.keys() - copy.keys():
        del now[key]
    for key, value in copy.items():
        held = now.get(key)
        if isinstance(value, torch.Tensor) and isinstance(held, torch.Tensor) and held.shape == value.shape:
            held.detach().copy_(value)
        else:
            now[key] = _copied(value)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in _tensors(item)]
