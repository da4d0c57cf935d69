"""Rows as `Rescue` sees them, and what it says to a list of them."""

from __future__ import annotations

from typing import Any

from adaptive_lr.controllers import Adjustment, Rescue
from adaptive_lr.statistics import Phase, Statistics


def row(step: int, loss: float | None, ratio: float = 0.01, base: float = 1.0, **more: Any) -> Statistics:
    """After an update: its loss, its update-to-weight ratio, its base learning rate."""
    values = {"update_ratio": ratio, "base_lr": base}
    if loss is not None:
        values["loss"] = loss
    return Statistics(step, Phase.AFTER, values, **more)


def run(rows: list[Statistics], law: Rescue | None = None) -> list[Adjustment]:
    """One adjustment for each row."""
    return (law or Rescue()).simulate([Statistics(0, Phase.START), *rows])[1:]
