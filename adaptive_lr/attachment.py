"""What is checked of an optimizer and its controllers when control is attached, and what is told of them."""

from __future__ import annotations

import json
import math

from torch import nn
from torch.optim import Optimizer

from adaptive_lr import optimizers
from adaptive_lr.buffers import Buffers
from adaptive_lr.controllers import Composition
from adaptive_lr.optimizers import as_float
from adaptive_lr.statistics import Phase
from adaptive_lr.trace import Header, describe_controllers


def checked_interval(name: str, every: int | None) -> int:
    """The interval, or 0 for never."""
    if every is None:
        return 0
    if isinstance(every, bool) or not isinstance(every, int):
        raise TypeError(f"{name} must be a number of updates (int >= 1) or None, got {every!r}")
    if every < 1:
        raise ValueError(f"{name} must be at least 1 update, got {every}")
    return every


def check_rates(optimizer: Optimizer, composition: Composition) -> None:
    """Refuse learning rates that nothing can multiply (None is an optimizer that makes its own)."""
    for index, group in enumerate(optimizer.param_groups):
        for name in ("lr", "initial_lr", "max_lr"):
            rate = group.get(name)
            if rate is not None and not math.isfinite(as_float(rate)):
                raise ValueError(
                    f"optimizer must have finite learning rates, got {name}={as_float(rate)} in group {index}"
                )
    rates = [optimizers.reference_lr(group) for group in optimizer.param_groups]
    if composition.holds_lr and not any(rate > 0.0 for rate in rates):
        raise ValueError(
            f"optimizer must have a learning rate > 0 in some group where a controller sweeps it, got {rates}"
        )


def check_sweep(composition: Composition, limits: optimizers.Limits, *, shadow: bool) -> None:
    """Refuse a sweep of the learning rate where it cannot be made."""
    if not composition.holds_lr:
        return
    names = [name for name, law in zip(composition.names, composition, strict=True) if law.holds_lr]
    if len(names) > 1:
        raise ValueError(f"controllers must hold at most one that sweeps the learning rate, got {names}")
    if shadow:
        raise ValueError(f"shadow must be False with {names[0]}: a sweep cannot be judged without acting")
    if not limits.raise_lr:
        raise ValueError(f"controllers must not include {names[0]} for this optimizer: {limits.reason}")


def buffers(model: nn.Module | None, composition: Composition, *, shadow: bool) -> Buffers | None:
    """The buffers to take back with an update, where a controller may leave one out and there are any."""
    if model is None or shadow or all(controller.phase is not Phase.BEFORE for controller in composition):
        return None
    return Buffers(model) if any(True for _ in model.buffers()) else None


def terms(optimizer: Optimizer, composition: Composition, *, lag: int, shadow: bool) -> dict[str, object]:
    """What must be alike on all processes for their decisions to be alike."""
    described = describe_controllers(composition)
    laws = {
        f"controller {law['name']}": json.dumps(law, default=lambda value: type(value).__name__) for law in described
    }
    return {
        "the controllers": (composition.names, composition.min_factor, composition.max_factor),
        **laws,
        "lag": lag,
        "shadow": shadow,
        "the type of the optimizer": type(optimizer).__name__,
        "the number of parameter groups": len(optimizer.param_groups),
    }


def header(optimizer: Optimizer, composition: Composition, *, lag: int, shadow: bool) -> Header:
    """What a trace begins with."""
    return Header(
        optimizer=type(optimizer).__name__,
        groups=tuple(str(group.get("name", index)) for index, group in enumerate(optimizer.param_groups)),
        controllers=describe_controllers(composition),
        min_factor=composition.min_factor,
        max_factor=composition.max_factor,
        lag=lag,
        shadow=shadow,
    )
