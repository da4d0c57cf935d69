"""A recorded sweep, and the rules that find a peak in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adaptive_lr import optimizers
from adaptive_lr.controllers.peak import horizon_share, measured_peak, with_usual
from adaptive_lr.controllers.sweep import LossWatch

SHARE = 0.1
"""Share of the run that a sweep may take; two of its updates are trials."""

Peak = Callable[["Sweep"], float]


@dataclass(frozen=True)
class Sweep:
    """A recorded sweep: rows with `lr`, `loss` and `ratios` (‖update‖ / ‖weight‖ of each matrix), and the horizon."""

    optimizer: str
    steps: int
    rows: Sequence[Mapping[str, Any]]

    def usual(self) -> float:
        """The usual learning rate for this horizon, or 0."""
        names = {"adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad", "nadam": "NAdam", "lion": "Lion"}
        if self.optimizer == "sgd":
            exponent = math.log10(0.1 * optimizers._USUAL_SGD)  # momentum 0.9
        elif self.optimizer in names:
            exponent = optimizers._USUAL[names[self.optimizer]]
        else:
            return 0.0
        return float(10.0**exponent * horizon_share(self.steps))


def by_ratio(level: float, *, quantile: float = 1.0, weight: float = 0.0, shrink: bool = True) -> Peak:
    """Where a quantile over matrices of the ratio meets its level; see `adaptive_lr.controllers.peak`.

    Args:
        level: of a run of 300 updates.
        quantile: 1 is the largest.
        weight: of the usual learning rate.
        shrink: whether that weight falls where the two are far apart.
    """

    def rule(sweep: Sweep) -> float:
        bar = level * horizon_share(sweep.steps)
        watch, crossed, ratio, lr = LossWatch(), 0.0, 0.0, math.nan
        for row in sweep.rows[: max(1, int(SHARE * sweep.steps) - 2)]:
            lr, loss = row["lr"], row["loss"]
            ratio = float(np.quantile(row["ratios"], quantile))
            watch = watch.add(loss) if math.isfinite(ratio) else watch._replace(diverged=True)
            if watch.diverged:
                break
            if ratio >= bar:
                crossed = lr * bar / ratio
                break
        measured = measured_peak(lr, ratio, bar, crossed=crossed, diverged=watch.diverged)
        usual = sweep.usual()
        if not usual:
            return math.log10(measured)
        if not shrink:
            return (1.0 - weight) * math.log10(measured) + weight * math.log10(usual)
        return math.log10(with_usual(measured, usual, weight))

    return rule


def by_divergence(sweep: Sweep) -> float:
    """A tenth of where the loss diverges."""
    watch = LossWatch()
    for row in sweep.rows[: max(1, int(SHARE * sweep.steps) - 2)]:
        watch = watch.add(row["loss"])
        if watch.diverged:
            return math.log10(row["lr"] / 10.0)
    return math.log10(sweep.rows[min(len(sweep.rows), int(SHARE * sweep.steps)) - 1]["lr"])


def by_usual(sweep: Sweep) -> float:
    """What is usual, without looking; where nothing is, AdamW's."""
    return math.log10(sweep.usual() or 10.0**-1.75 * horizon_share(sweep.steps))


RULES: dict[str, Peak] = {
    "divergence / 10": by_divergence,
    "usual": by_usual,
    "largest 0.14, usual ½ (the first law)": by_ratio(0.14, weight=0.5, shrink=False),
    **{f"largest {level}": by_ratio(level) for level in (0.05, 0.07, 0.1, 0.12, 0.14, 0.2)},
    **{f"75th percentile {level}": by_ratio(level, quantile=0.75) for level in (0.07, 0.1, 0.14, 0.2)},
    **{f"median {level}": by_ratio(level, quantile=0.5) for level in (0.05, 0.07, 0.1, 0.14)},
    "largest 0.1, usual ½ shrinking": by_ratio(0.1, weight=0.5),
    "largest 0.12, usual ½ shrinking (the law)": by_ratio(0.12, weight=0.5),
    "largest 0.14, usual ½ shrinking": by_ratio(0.14, weight=0.5),
    "largest 0.12, usual 0.3 shrinking": by_ratio(0.12, weight=0.3),
}
"""Name -> rule: log10 of the peak it names. "Shrinking": the less of the usual, the farther it is off."""

LEVELS = {f"{level}": by_ratio(level, weight=0.5) for level in (0.05, 0.07, 0.1, 0.12, 0.14, 0.17, 0.2)}
"""The law at several levels, one of which is chosen without the workload it is judged on."""
