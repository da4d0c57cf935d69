"""A recorded sweep, and the rules that find a peak in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from adaptive_lr import optimizers
from adaptive_lr.controllers.peak import horizon_share, measured_peak, with_usual
from adaptive_lr.controllers.sweep import LossWatch
from adaptive_lr.controllers.update_size import update_size
from adaptive_lr.statistics import RATIO_STATISTICS, Statistics
from adaptive_lr.update_ratio import Ratios

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


Summary = Callable[[Sequence[float]], float]


def quantile(share: float) -> Summary:
    """The quantile of the ratios over matrices; of 1 the largest."""
    return lambda ratios: float(np.quantile(ratios, share))


def compound(ratios: Sequence[float]) -> float:
    """The compound ratio."""
    return _row(ratios).values["compound_ratio"]


def size(ratios: Sequence[float]) -> float:
    """The size of the update."""
    return update_size(_row(ratios)) or 0.0


def _row(ratios: Sequence[float]) -> Statistics:
    """What a law sees of these ratios."""
    summary = Ratios(torch.tensor(ratios, dtype=torch.float64), None).summary.tolist()
    return Statistics(0, values=dict(zip(RATIO_STATISTICS, summary, strict=True)))


def by_ratio(level: float, summary: Summary = max, *, weight: float = 0.0, shrink: bool = True) -> Peak:
    """Where the ratios over matrices meet a level; see `adaptive_lr.controllers.peak`.

    Args:
        level: of a run of 300 updates.
        summary: what is compared with it.
        weight: of the usual learning rate.
        shrink: whether that weight falls where the two are far apart.
    """

    def rule(sweep: Sweep) -> float:
        bar = level * horizon_share(sweep.steps)
        watch, crossed, ratio, lr = LossWatch(), 0.0, 0.0, math.nan
        for row in sweep.rows[: max(1, int(SHARE * sweep.steps) - 2)]:
            lr, loss = row["lr"], row["loss"]
            ratio = summary(row["ratios"])
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
    **{f"75th percentile {level}": by_ratio(level, quantile(0.75)) for level in (0.07, 0.1, 0.14, 0.2)},
    **{f"median {level}": by_ratio(level, quantile(0.5)) for level in (0.05, 0.07, 0.1, 0.14)},
    **{f"compound {level}": by_ratio(level, compound) for level in (0.1, 0.14, 0.17, 0.2, 0.24, 0.28)},
    **{f"size {level}": by_ratio(level, size) for level in (0.1, 0.12, 0.14, 0.17, 0.2, 0.24)},
    "largest 0.1, usual ½ shrinking": by_ratio(0.1, weight=0.5),
    "largest 0.12, usual ½ shrinking (the law before)": by_ratio(0.12, weight=0.5),
    "largest 0.14, usual ½ shrinking": by_ratio(0.14, weight=0.5),
    **{f"compound {level}, usual ½ shrinking": by_ratio(level, compound, weight=0.5) for level in (0.17, 0.2, 0.24)},
    "size 0.14, usual ½ shrinking": by_ratio(0.14, size, weight=0.5),
    "size 0.17, usual ½ shrinking (the law)": by_ratio(0.17, size, weight=0.5),
    "size 0.2, usual ½ shrinking": by_ratio(0.2, size, weight=0.5),
    "size 0.17, usual 0.3 shrinking": by_ratio(0.17, size, weight=0.3),
}
"""Name -> rule: log10 of the peak it names. "Shrinking": the less of the usual, the farther it is off.
Of the ratios the *compound* is Π(1 + r) - 1, the *size* the geometric mean of the largest and Σ log(1 + r)."""

LEVELS = {f"{level}": by_ratio(level, size, weight=0.5) for level in (0.07, 0.1, 0.12, 0.14, 0.17, 0.2, 0.24)}
"""The law at several levels, one of which is chosen without the workload it is judged on."""
