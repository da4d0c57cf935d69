"""What a step changes in an optimizer, and how it is put back: rates, momenta, gradients.

Every function here makes a change and returns, or is, what undoes it; the layer says when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from adaptive_lr import optimizers
from adaptive_lr.optimizers import Rate
from adaptive_lr_kernels.shards import local


@dataclass(slots=True)
class Written:
    """One group entry that holds our value for the time of a step."""

    group: int
    key: str
    base: Any
    value: Any

    def put_back(self, groups: list[dict[str, Any]]) -> None:
        """Give the group its base again."""
        # If someone else has written since, the entry is theirs.
        if self.group < len(groups) and groups[self.group].get(self.key) is self.value:
            groups[self.group][self.key] = self.base


@dataclass(slots=True)
class Filled:
    """One learning-rate tensor, filled in place (captured graphs hold its address) for the time of a step."""

    tensor: torch.Tensor
    base: torch.Tensor
    version: int

    def put_back(self, groups: list[dict[str, Any]]) -> None:
        """Fill the tensor with its base again, unless someone else has written to it since."""
        del groups
        if self.tensor._version == self.version:
            with torch.no_grad():
                self.tensor.copy_(self.base)


Change = Written | Filled


class Taken:
    """Gradients taken away for a step that is left out, and what some optimizers touch all the same.

    An optimizer leaves parameters without gradients alone. Schedule-free still advances counters in its groups, LBFGS
    one in its state; values that the step replaced are put back.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._groups = [dict(group) for group in optimizer.param_groups]
        # Some optimizers keep plain values beside the dict of each parameter.
        self._states = {key: dict(s) if isinstance(s, dict) else s for key, s in optimizer.state.items()}
        self._gradients = [(p, p.grad) for group in optimizer.param_groups for p in group["params"]]
        self.take()

    def take(self) -> None:
        """Take the gradients away (again: a closure may have made new ones)."""
        for parameter, _ in self._gradients:
            parameter.grad = None

    def put_back(self, optimizer: Optimizer) -> None:
        """Give back the gradients, and what the step replaced in groups and state."""
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for group, before in zip(optimizer.param_groups, self._groups, strict=False):
            _put_back(group, before)
        for key, state in list(optimizer.state.items()):
            if key not in self._states:
                del optimizer.state[key]
            elif isinstance(state, dict):
                _put_back(state, self._states[key])
            else:
                optimizer.state[key] = self._states[key]


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    for key in now.keys() - before.keys():
        del now[key]
    now.update(before)


def copied_lr(value: Rate) -> Rate:
    """A learning rate as it is now: a tensor may be filled with another."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def fill(tensor: torch.Tensor, value: Any) -> None:
    """Give a one-element tensor the value of a number or another tensor, without waiting for its device."""
    with torch.no_grad():
        if isinstance(value, torch.Tensor):
            tensor.copy_(value, non_blocking=True)
        else:
            tensor.fill_(value)


def write_learning_rates(groups: list[dict[str, Any]], rate: Callable[[int, Any], Any]) -> list[Change]:
    """Give every group the learning rate that `rate` makes of its index and its base.

    Returns:
        What was changed, to be put back.
    """
    changes: list[Change] = []
    filled: set[int] = set()
    for index, group in enumerate(groups):
        lr = group.get("lr")
        if lr is None:
            continue
        if isinstance(lr, torch.Tensor) and not lr.requires_grad:
            if id(lr) not in filled:  # one tensor may be the learning rate of several groups
                filled.add(id(lr))
                base = lr.clone()
                fill(lr, rate(index, lr))
                changes.append(Filled(lr, base, lr._version))
        else:
            # A learning rate that is itself differentiated must not be overwritten: the group gets another.
            group["lr"] = rate(index, lr)
            changes.append(Written(index, "lr", lr, group["lr"]))
    return changes


def write_momentum(groups: list[dict[str, Any]], scale: float) -> list[Change]:
    """Multiply the momentum of every group that has one.

    Returns:
        What was changed, to be put back.
    """
    changes: list[Change] = []
    for index, group in enumerate(groups):
        if optimizers.momentum_key(group) is not None:
            key, value = optimizers.scaled_momentum(group, scale)
            changes.append(Written(index, key, group[key], value))
            group[key] = value
    return changes


def damp_gradients(optimizer: Optimizer, damp: float) -> None:
    """Multiply the gradients, in place where that is possible (as `clip_grad_norm_` does)."""
    dense: dict[int, torch.Tensor] = {}  # each once, should parameters share a gradient
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.requires_grad or gradient.layout is not torch.strided:
                parameter.grad = gradient * damp
            else:
                dense[id(gradient)] = local(gradient)  # torch multiplies no mixed list of DTensors and others
    if dense:
        with torch.no_grad():
            torch._foreach_mul_(list(dense.values()), damp)
