"""Rows as `Rescue` sees them, and what it says to a list of them."""

from __future__ import annotations

from typing import Any

from adaptive_lr.controllers import Adjustment, Rescue
from adaptive_lr.statistics import Phase, Statistics


def row(
    step: int,
    loss: float | None,
    ratio: float = 0.01,
    base: float = 1.0,
    *,
    compound: float | None = None,
    **more: Any,
) -> Statistics:
    """After an update: its loss, its largest update-to-weight ratio, its base learning rate, its compound ratio.

    Of one matrix, where that is not given.
    """
    values = {"update_ratio": ratio, "compound_ratio": ratio if compound is None else compound, "base_lr": base}
    if loss is not None:
        values["loss"] = loss
    return Statistics(step, Phase.AFTER, values, **more)


def run(rows: list[Statistics], law: Rescue | None = None) -> list[Adjustment]:
    """One adjustment for each row."""
    return (law or Rescue()).simulate([Statistics(0, Phase.START), *rows])[1:]
