"""A row that is still on the device: what was measured of a step, collected now and read some updates later."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from adaptive_lr.optimizers import Rate
from adaptive_lr.readback import Ring, Slot
from adaptive_lr.steps import Step
from adaptive_lr.update_ratio import Ratios

Key: TypeAlias = tuple[str, str]

RATIOS = ("ratios", "ratio errors")
"""Sections of a row that hold the update-to-weight ratio of each tensor."""


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

    def take_ratios(self, ratios: Ratios) -> None:
        """The ratio of each tensor in the step is read with the rest."""
        for section, numbers in zip(RATIOS, ratios, strict=True):
            if numbers is not None:
                self.row.add(section, "", numbers)

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
        ratios: the update-to-weight ratio of each tensor, and the errors of estimates, where they were asked for.
        scored_loss: the score of the training loss, where it is asked for.
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
    ratios: tuple[list[float], ...] = ()
    scored_loss: dict[str, float] = field(default_factory=dict)
