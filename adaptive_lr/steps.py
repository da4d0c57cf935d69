"""One `optimizer.step()` under way: what is remembered of it, and how its end is noticed, whatever ends it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch.optim import Optimizer

from adaptive_lr.actuation import Flags
from adaptive_lr.changes import Change, Taken
from adaptive_lr.deliberation import Levels
from adaptive_lr.meter import Measured
from adaptive_lr.optimizers import Rate
from adaptive_lr.update_ratio import Weights

_TORCH_STEP = "Optimizer.profile_hook_step.<locals>.wrapper"  # what torch wraps around every step, and calls hooks from


@dataclass(slots=True)
class Step:
    """One `optimizer.step()` under way.

    Attributes:
        levels: what is in force.
        nested: whether a super().step() inside it has run the hooks again.
        overflow: whether a fused optimizer under GradScaler will do nothing.
        changes, flags, taken: what is to be put back at its end.
        lr, base_lr, momentum, base_momentum: of each group, as used and as they were; momenta only where asked for.
        judged: whether its gradients were measured.
        evaluations: how often it has called its closure; more than once, it is several updates or a line search.
        damp: what the host damped the gradients by.
        measured: what the host measured of them.
        weights: as they were before the update, for the update-to-weight ratio; None where nobody reads it.
        names: of those weights, where the ratio of each is asked for.
    """

    levels: Levels
    nested: bool = False
    overflow: bool = False
    changes: list[Change] = field(default_factory=list)
    flags: Flags | None = None
    taken: Taken | None = None
    lr: tuple[Rate, ...] = ()
    base_lr: tuple[Rate, ...] = ()
    momentum: tuple[float | None, ...] = ()
    base_momentum: tuple[float | None, ...] = ()
    judged: bool = False
    evaluations: int = 0
    measured: Measured | None = None
    damp: float = 1.0
    weights: Weights | None = None
    names: tuple[str, ...] = ()


class Abandons(Protocol):
    """Who is told that a step ended without its post-hook."""

    def abandon(self, optimizer: Optimizer, step: Step) -> None:
        """The step ended."""
        ...


class Guard(dict[str, Any]):
    """The keyword arguments of a step, which live as long as the step does.

    torch has no hook for a step that raises. Its wrapper keeps what the pre-hook returns as a local variable, so this
    object dies when the step ends in any way: the base values are back as soon as an exception has been handled.
    (Where a later pre-hook of someone else replaces the arguments, it dies before the step has run, and an exception
    is only noticed by the next call.)
    """

    __slots__ = ("_layer", "_optimizer", "_step")

    def __init__(self, kwargs: dict[str, Any], layer: Abandons, optimizer: Optimizer, step: Step) -> None:
        super().__init__(kwargs)
        self._layer, self._optimizer, self._step = layer, optimizer, step

    def __del__(self) -> None:
        self._layer.abandon(self._optimizer, self._step)


def steps_under_way(optimizer: Optimizer) -> int:
    """How many calls of this optimizer's step the caller runs in: more than one where a step calls another."""
    calls = 0
    frame = sys._getframe(1).f_back
    while frame is not None:
        code = frame.f_code
        if code.co_qualname == _TORCH_STEP and frame.f_locals.get("self") is optimizer:
            calls += 1
        frame = frame.f_back
    return calls
