"""What the record of the ablation comes to, and its table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, median
from typing import Any, NamedTuple

from experiments.records import Repetitions, heading, table

FACTORS = ("1", "10", "30")
TOLERANCE_POINTS, TOLERANCE_LOSS = 1.0, 0.02
"""Unharmed is within this many points of accuracy of the tuned schedule, or where there is none this much loss."""

INTRODUCTION = """\
Guarded control with one law left out, or with one law alone, given the tuned peak and 10 and 30 times as much.
*Within*: pairs of workload and optimizer whose mean test accuracy is within one point of `cosine` at the tuned peak
(test loss within 2 %, where there is no accuracy). *Loss*: geometric mean over pairs of the ratio of validation losses
to that of `cosine` at the tuned peak. *Gap*: mean over pairs of the missing test accuracy, in points.
"""


class Score(NamedTuple):
    """One recipe at one multiple of the tuned peak, over all pairs.

    Attributes:
        within: pairs within the tolerance of the tuned schedule.
        loss_ratio: geometric mean of validation losses over those of the tuned schedule.
        gap: mean missing test accuracy, in points, over the pairs that have it; NaN without any.
        interventions: per 1,000 updates, median over pairs.
    """

    within: int
    loss_ratio: float
    gap: float
    interventions: float


def scores(record: Mapping[str, Any]) -> dict[str, dict[str, Score]]:
    """Recipe -> multiple of the tuned peak -> its score."""
    names = list(record["pairs"][0]["recipes"])
    return {name: {factor: _score(record, name, factor) for factor in FACTORS} for name in names}


def _score(record: Mapping[str, Any], name: str, factor: str) -> Score:
    ratios, gaps, within, rates = [], [], 0, []
    for pair in record["pairs"]:
        tuned = Repetitions(**pair["recipes"]["cosine"]["1"])
        found = Repetitions(**pair["recipes"][name][factor])
        ratios.append(math.log(fmean(found.validation_loss) / fmean(tuned.validation_loss)))
        rates.append(found.rate)
        if tuned.test_accuracy is not None and found.test_accuracy is not None:
            gaps.append(100.0 * (fmean(tuned.test_accuracy) - fmean(found.test_accuracy)))
            within += gaps[-1] <= TOLERANCE_POINTS + 1e-9
        else:
            within += fmean(found.test_loss) <= (1.0 + TOLERANCE_LOSS) * fmean(tuned.test_loss)
    return Score(within, math.exp(fmean(ratios)), fmean(gaps) if gaps else math.nan, median(rates))


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    count = len(record["pairs"])
    heads = ["recipe", *(f"x {f}: {what}" for f in FACTORS for what in (f"within, of {count}", "loss", "gap"))]
    rows = []
    for name, by_factor in scores(record).items():
        cells = [(str(s.within), f"{s.loss_ratio:.3f}", f"{s.gap:+.1f}") for s in by_factor.values()]
        rows.append([name.replace("_", " "), *(text for found in cells for text in found)])
    return "\n".join(
        [heading("Which laws earn their place", record["about"]), INTRODUCTION, table(heads, rows, left=1), ""]
    )
