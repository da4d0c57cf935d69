"""Who owns the base learning rate, where `AdaptiveLR` steps it: a torch scheduler, or a callable step -> factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from adaptive_lr import optimizers
from adaptive_lr.changes import fill
from adaptive_lr.metrics import number


class TorchSchedule:
    """A torch scheduler that owns the base learning rate."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self._scheduler = scheduler

    def step(self, optimizer: Optimizer) -> None:
        """One update is done: the next base."""
        del optimizer
        self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, as plain values."""
        return dict(self._scheduler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any], optimizer: Optimizer) -> None:
        """Go on from `state_dict`."""
        del optimizer
        self._scheduler.load_state_dict(dict(state))  # a copy: CyclicLR removes a key from what it is given


class CallableSchedule:
    """A pure step -> factor that owns the base learning rate, and the base momentum where it carries one."""

    def __init__(self, schedule: Callable[[int], float]) -> None:
        self._schedule = schedule
        momentum: Callable[[int], float | None] | None = getattr(schedule, "momentum", None)
        self._momentum = None if momentum is None or momentum(0) is None else momentum
        self._count = 0
        self._added: set[int] = set()  # indices of the groups whose `initial_lr` entry is ours

    def step(self, optimizer: Optimizer) -> None:
        """One update is done: the next base."""
        self._count += 1
        self.apply(optimizer)

    def apply(self, optimizer: Optimizer) -> None:
        """Write the base of this step into the groups.

        Raises:
            TypeError, ValueError: the schedule gives no finite number >= 0; no group is changed.
        """
        factor = number(self._schedule(self._count), f"the factor that schedule gives at step {self._count}")
        if not 0.0 <= factor < math.inf:
            raise ValueError(f"schedule must give a factor that is finite and >= 0, got {factor} at step {self._count}")
        momentum = None if self._momentum is None else self._momentum(self._count)
        for index, group in enumerate(optimizer.param_groups):
            if "initial_lr" not in group:
                lr = group["lr"]
                group["initial_lr"] = lr.detach().clone() if isinstance(lr, torch.Tensor) else lr
                self._added.add(index)
            base = group["initial_lr"] * factor
            if isinstance(group["lr"], torch.Tensor):
                fill(group["lr"], base)
            else:
                group["lr"] = float(base)
            if momentum is not None and optimizers.momentum_key(group) is not None:
                key, value = optimizers.with_momentum(group, momentum)
                group[key] = value

    def forget(self, optimizer: Optimizer) -> None:
        """Remove what was added to the groups."""
        for index, group in enumerate(optimizer.param_groups):
            if index in self._added:
                group.pop("initial_lr", None)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, as plain values."""
        return {"count": self._count}

    def load_state_dict(self, state: Mapping[str, Any], optimizer: Optimizer) -> None:
        """Go on from `state_dict`."""
        self._count = state["count"]
        self.apply(optimizer)


def base_schedule(schedule: Any, optimizer: Optimizer) -> TorchSchedule | CallableSchedule | None:
    """What a user gave as the base schedule, or None where someone else owns the base.

    Raises:
        TypeError: it is no schedule.
        ValueError: it needs a metric, or is of another optimizer.
    """
    if schedule is None:
        return None
    if isinstance(schedule, ReduceLROnPlateau):
        raise ValueError(
            "schedule must not be a ReduceLROnPlateau: it needs a metric at each step. Step it yourself (control is "
            "layered over it all the same), or add controllers.Plateau, which leaves the base alone"
        )
    if isinstance(schedule, LRScheduler):
        if optimizers.unwrapped(schedule.optimizer) is not optimizer:
            raise ValueError("schedule must be of the optimizer under control, got a scheduler of another optimizer")
        return TorchSchedule(schedule)
    if callable(schedule):
        return CallableSchedule(schedule)
    raise TypeError(
        f"schedule must be None, a torch scheduler, or a callable step -> factor, got {type(schedule).__name__}"
    )
