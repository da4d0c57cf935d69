"""What differs between optimizers: where momentum lives, and what an optimizer cannot bear."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

MOMENTUM_BUFFERS = ("momentum_buffer", "exp_avg")
"""Names under which optimizers keep the running mean of gradients, in torch and in the packages that follow it."""


Rate = float | torch.Tensor | None
"""What a group may hold as its learning rate."""


def as_float(value: Rate) -> float:
    """A learning rate as a number; NaN for an optimizer that has none (Adafactor with relative steps)."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
    return float("nan") if value is None else float(value)


def reference_lr(group: Mapping[str, Any], attached: float | None = None) -> float:
    """What a held level multiplies in a parameter group.

    Args:
        group: the group.
        attached: its learning rate when control was attached; None: its `lr` now.

    Returns:
        Its `max_lr` (OneCycleLR sets `initial_lr` to a 25th of it), else its `initial_lr`, else `attached`.
    """
    for name in ("max_lr", "initial_lr"):
        if group.get(name) is not None:
            return as_float(group[name])
    return as_float(group.get("lr")) if attached is None else attached


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be changed in an optimizer.

    Attributes:
        momentum: whether its momentum may be changed between steps.
        raise_lr: whether the learning rate may be raised above its base.
        reason: why not, as a sentence; empty where everything may.
    """

    momentum: bool = True
    raise_lr: bool = True
    reason: str = ""


def limits(optimizer: Optimizer) -> Limits:
    """What this optimizer bears.

    Raises:
        ValueError: Prodigy with different learning rates in its groups: it estimates one step size for all of them.
    """
    name = type(optimizer).__name__
    groups = optimizer.param_groups
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        return Limits(
            momentum=False,
            raise_lr=False,
            reason=f"{name} averages its iterates: its momentum interpolates between train and eval weights, and it "
            "remembers its largest learning rate, so neither a momentum change nor a raised learning rate is undone",
        )
    if "Prodigy" in name:
        rates = {float(group["lr"]) for group in groups} - {0.0}
        if len(rates) > 1:
            raise ValueError(
                f"{name} supports one learning rate for all parameter groups (or 0), got {sorted(rates)}: "
                "it estimates a single step size"
            )
    if "Lion" in name:
        return Limits(
            momentum=False,
            reason=f"the first beta of {name} interpolates between gradient and momentum; it is no momentum decay",
        )
    return Limits()


_USUAL = {
    "Adam": -1.75,
    "AdamW": -1.75,
    "RMSprop": -2.25,
    "Adagrad": -1.125,
    "NAdam": -1.875,
    "Muon": -1.75,
    "Lion": -2.5,
}
"""log10 of the peak learning rate that is best for a cosine run of 300 steps, median over ten small workloads; for Lion
AdamW's less 0.75, the middle of the 3 to 10 times less of its authors (Chen et al. 2023, arXiv:2302.06675)."""

_USUAL_SGD = 1.3
"""The same for SGD without momentum; with momentum m, 1 - m times that: its steps add up to 1 / (1 - m)."""


def usual_lr(optimizer: Optimizer, group: Mapping[str, Any]) -> float | None:
    """The usual peak learning rate of this kind of optimizer in a run of 300 steps, or None where there is none."""
    name = type(optimizer).__name__
    if name == "SGD":
        return _USUAL_SGD * (1.0 - (momentum(group) or 0.0))
    return 10.0 ** _USUAL[name] if name in _USUAL else None


def momentum_key(group: Mapping[str, Any]) -> str | None:
    """The entry of a parameter group that holds its momentum: `momentum`, `betas` (its first), or None.

    Looked up per group, never in the optimizer's defaults: one optimizer may mix both kinds.
    """
    if group.get("momentum") is not None:
        return "momentum"
    betas = group.get("betas")
    if isinstance(betas, tuple | list) and betas:
        return "betas"
    return None


def momentum(group: Mapping[str, Any]) -> float | None:
    """The momentum of a parameter group, or None where it has none."""
    key = momentum_key(group)
    if key is None:
        return None
    return float(group["momentum"] if key == "momentum" else group["betas"][0])


def with_momentum(group: Mapping[str, Any], value: Any) -> tuple[str, Any]:
    """The group entry (key, value) that holds a new momentum; the other betas and the container's type are kept.

    Raises:
        ValueError: the group has no momentum.
    """
    key = momentum_key(group)
    if key is None:
        raise ValueError("the parameter group has no momentum to set")
    if key == "momentum":
        return key, value
    betas = group["betas"]
    return key, type(betas)((value, *betas[1:]))


def scaled_momentum(group: Mapping[str, Any], scale: float) -> tuple[str, Any]:
    """The group entry (key, value) with the momentum multiplied by `scale`.

    At 0, SGD and RMSprop would leave their buffer as it is, and everything in it would be back with the momentum. The
    least positive number empties it instead.
    """
    base = group["momentum"] if momentum_key(group) == "momentum" else group["betas"][0]
    return with_momentum(group, base * (scale or sys.float_info.min))


def momentum_buffer(optimizer: Optimizer, parameter: torch.Tensor) -> torch.Tensor | None:
    """The running mean of gradients that the optimizer keeps for a parameter, or None where it keeps none (yet)."""
    state = optimizer.state.get(parameter)
    if state:
        for name in MOMENTUM_BUFFERS:
            buffer = state.get(name)
            if isinstance(buffer, torch.Tensor):
                return buffer
    return None


def parameter_names(
    parameters: Sequence[torch.Tensor], optimizer: Optimizer, model: nn.Module | None
) -> tuple[str, ...]:
    """A name for each of these parameters of an optimizer; no two are alike.

    The model's own, else the optimizer's (one made of `named_parameters()` knows them), else where it stands there:
    "1.0" is the first parameter of the second group.
    """
    places, names = {}, {}
    for number, group in enumerate(optimizer.param_groups):
        listed = group.get("param_names", ())
        for index, parameter in enumerate(group["params"]):
            places[id(parameter)] = place = f"{number}.{index}"
            names[id(parameter)] = listed[index] if index < len(listed) else place
    if model is not None:
        names.update({id(parameter): name for name, parameter in model.named_parameters()})
    found = [names[id(parameter)] for parameter in parameters]
    counts = Counter(found)
    return tuple(
        name if counts[name] == 1 else f"{name} ({places[id(parameter)]})"
        for name, parameter in zip(found, parameters, strict=True)
    )


def unwrapped(optimizer: Any) -> Optimizer:
    """The torch optimizer itself, out of an object that wraps one as `.optimizer` (Accelerate's).

    Raises:
        TypeError: there is none.
    """
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, Optimizer) and not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        optimizer = inner
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer
