"""A row that is still on the device: what was measured of a step, collected now and read some updates later."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from adaptive_lr.controllers.composition import Outcome
from adaptive_lr.meter import Meter
from adaptive_lr.optimizers import Rate, as_float
from adaptive_lr.readback import Ring, Slot
from adaptive_lr.series import NormScore
from adaptive_lr.statistics import SCORE_STATISTICS
from adaptive_lr.steps import Step
from adaptive_lr_kernels.reflex import Judgement, ReflexSettings, Window, judge

Key: TypeAlias = tuple[str, str]

UNLIKE = "all ranks of process_group must call step and observe together, with metrics of the same names"


class DeviceRow:
    """Named numbers on a device, sent to the host together."""

    def __init__(self) -> None:
        self._columns: list[tuple[Key, int]] = []
        self._pieces: list[Tensor] = []
        self._slot: Slot | None = None

    def takes(self, value: Tensor) -> bool:
        """Whether a tensor is on the device of the row, which is that of the first number added."""
        return not self._pieces or self._pieces[0].device == value.device

    def add(self, section: str, name: str, value: Tensor) -> None:
        """Add one number or a vector, as it is now."""
        value = value.detach().reshape(-1)
        self._columns.append(((section, name), value.numel()))
        self._pieces.append(value.double())

    def send(self, ring: Ring) -> None:
        """Enqueue the copy to the host."""
        if self._pieces:
            self._slot = ring.send(torch.cat(self._pieces))
            self._pieces = []

    def read(self) -> dict[Key, list[float]]:
        """What was added; waits for the device where it has not arrived."""
        if self._slot is None:
            return {}
        values, self._slot = self._slot.read(), None
        found, position = {}, 0
        for key, length in self._columns:
            found[key] = values[position : position + length]
            position += length
        return found


@dataclass(slots=True)
class Pending:
    """What the laws have yet to see: a step and the report on it, or a report alone.

    Attributes:
        first: the first update that decisions on the BEFORE row act on.
        step: the step; None for a report without one.
        num_groups: parameter groups it had.
        completed: whether the step ended as it should.
        known: what the host knows of the step's AFTER row.
        lr, base_lr: of each group, where they are asked for.
        metrics: what `control.step` was given: numbers, and None for what is in `row`; None where it was not called.
        after: the first update that decisions on the AFTER row act on.
        row: the numbers on the device.
    """

    first: int
    step: Step | None = None
    num_groups: int = 0
    completed: bool = False
    known: dict[str, float] = field(default_factory=dict)
    lr: tuple[Rate, ...] = ()
    base_lr: tuple[Rate, ...] = ()
    metrics: dict[str, float | None] | None = None
    after: int = sys.maxsize
    row: DeviceRow = field(default_factory=DeviceRow)

    @property
    def due(self) -> int:
        """The update before which it must be read."""
        return min(self.first, self.after)

    def complete(self, known: dict[str, float], *, lr: bool, base_lr: bool) -> None:
        """The step has ended; learning rates that are tensors are read with the rest, where they are asked for."""
        self.completed, self.known = True, known
        assert self.step is not None
        self.lr = self.step.lr if lr else ()
        self.base_lr = self.step.base_lr if base_lr else ()
        for section, rates in (("lr", self.lr), ("base_lr", self.base_lr)):
            for index, rate in enumerate(rates):
                if isinstance(rate, Tensor) and self.row.takes(rate):
                    self.row.add(section, str(index), rate)

    def report(self, metrics: Mapping[str, float | Tensor], after: int) -> None:
        """Take in what `control.step` was given."""
        self.metrics, self.after = {}, after
        for name, value in metrics.items():
            if isinstance(value, Tensor) and self.row.takes(value):
                self.metrics[name] = None
                self.row.add("metric", name, value)
            else:
                self.metrics[name] = float(value)


@dataclass(slots=True)
class Reading:
    """A row that was read.

    Attributes:
        values, groups: what was measured before the update.
        afterwards: what was measured after it.
        overflow: whether a GradScaler kept the optimizer from the update.
        damp, skipped: what the reflex did.
        lr, base_lr: the learning rates used and their bases, per group, where they were asked for.
        metrics: what `control.step` was given; None where it was not called.
    """

    values: dict[str, float]
    groups: tuple[dict[str, float], ...]
    afterwards: dict[str, float]
    overflow: bool
    damp: float
    skipped: bool
    lr: tuple[float, ...]
    base_lr: tuple[float, ...]
    metrics: dict[str, float] | None


class DeviceMeter:
    """Measures steps on their device, judges their gradients there, and reads what it measured later.

    Args:
        meter: what is measured; keeps the past norms while no step is under way.
        reflex: the law by which norms are scored and judged.
        acts: whether the judgement acts on the step.
    """

    def __init__(self, meter: Meter, reflex: ReflexSettings, *, acts: bool) -> None:
        self.acts = acts
        self._meter = meter
        self._reflex = reflex
        self._window: Window | None = None
        self._holds_past = False  # whether the past norms are in the window, not in the meter

    def measure(self, optimizer: Optimizer, pending: Pending) -> Judgement | None:
        """Measure the gradients of the step to come into the row of `pending`; what is to be done with them."""
        pending.num_groups = len(optimizer.param_groups)
        row, names = pending.row, self._meter.statistics
        overflow, scale = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
        if not self._meter.measures_gradients:
            if overflow is not None:
                row.add("overflow", "", overflow)
            return None
        measurement = self._meter.measurement(optimizer)
        for name in names:
            row.add("value", name, measurement.overall[name])
        if self._meter.measures_groups(pending.num_groups):
            for name in names:
                row.add("group", name, measurement.per_group[name])
        device = measurement.overall[names[0]].device  # a GradScaler's tensors may be on another GPU
        if overflow is not None:
            overflow = overflow.reshape(()).to(device, non_blocking=True)
            row.add("overflow", "", overflow)
        if scale is not None:
            scale = scale.reshape(()).to(device, non_blocking=True)
            row.add("scale", "", scale)
        if not self._meter.scores:
            return None
        norm = measurement.overall["grad_norm"]
        if overflow is not None:  # no update, so no norm to judge others by
            norm = norm.masked_fill(overflow != 0, math.inf)
        judgement = judge(self._past(device), norm, self._reflex, grad_scale=scale)
        row.add("reflex", "", judgement.row)
        return judgement if self.acts else None

    def read(self, pending: Pending) -> Reading:
        """What was measured; waits where it has not arrived.

        Raises:
            ValueError: the processes that decide as one reported different steps or metrics.
        """
        found = pending.row.read()
        if found.get(("alike", ""), [1.0])[0] == 0.0:
            raise ValueError(UNLIKE)
        overflow = found.get(("overflow", ""), [0.0])[0] != 0.0
        reading = Reading({}, (), pending.known, overflow, 1.0, False, (), (), None)
        if pending.metrics is not None:
            metrics = pending.metrics.items()
            reading.metrics = {name: found["metric", name][0] if v is None else v for name, v in metrics}
        if pending.step is None or overflow:
            return reading
        judged = found.get(("reflex", ""), [])
        if self._meter.measures_gradients:
            values = {name: column[0] for (section, name), column in found.items() if section == "value"}
            columns = {name: column for (section, name), column in found.items() if section == "group"}
            scored = dict(zip(SCORE_STATISTICS, judged, strict=False)) if judged else None
            scale = found.get(("scale", ""), [1.0])[0]
            reading.values, reading.groups = self._meter.row(values, columns, pending.num_groups, scale, scored)
        if ("ratio", "") in found:
            reading.afterwards = {**pending.known, "update_ratio": found["ratio", ""][0]}
        if judged and self.acts:
            reading.damp, reading.skipped = judged[3], bool(judged[4])
        reading.lr = _rates(found, "lr", pending.lr)
        reading.base_lr = _rates(found, "base_lr", pending.base_lr)
        return reading

    def check(self, outcome: Outcome, reading: Reading) -> None:
        """The laws must ask for what was done.

        Raises:
            RuntimeError: they ask for something else: a controller's `reflex` is not the law of its `update`.
        """
        if not self.acts:
            return
        same = outcome.skip or math.isclose(outcome.damp, reading.damp, rel_tol=1e-6)
        if outcome.skip != reading.skipped or not same:
            done = f"damp={reading.damp:.6g}, skip={reading.skipped}"
            asked = f"damp={outcome.damp:.6g}, skip={outcome.skip}"
            raise RuntimeError(
                f"a controller's reflex must be the law of its update: on the device it did {done}, "
                f"and the controllers ask for {asked}"
            )

    def give_past(self) -> None:
        """Hand the past norms to the meter; waits for the device."""
        if self._holds_past and self._window is not None:
            self._meter.score = NormScore(tuple(self._window.read()))
            self._holds_past = False

    def _past(self, device: torch.device) -> Window:
        if self._window is None or self._window.values.device != device:
            self.give_past()
            self._window = Window.empty(self._reflex.window, device)
        if not self._holds_past:
            self._window.fill(self._meter.score.window)
            self._holds_past = True
        return self._window


def _rates(found: Mapping[Key, list[float]], section: str, rates: tuple[Rate, ...]) -> tuple[float, ...]:
    """Learning rates as numbers."""
    return tuple(
        found[section, str(index)][0] if (section, str(index)) in found else as_float(rate)
        for index, rate in enumerate(rates)
    )
