"""What the record of the tuning budget comes to, and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, median
from typing import Any

from experiments.records import heading, table

SHOWN = (1, 2, 3, 5, 7)

INTRODUCTION = """\
*Automatic*: mean over nine starting learning rates, one run each. *cosine, k*: the expected validation loss of the best
of k runs of the seven half-decades around its peak (in the last column of k, all nine decades), over that of one
automatic run: below 1, tuning is the better. The best has the least validation loss on other seeds, of which nothing is
reported. *k to match*: the fewest runs whose expected best is no worse than one automatic run, of the half-decades and
of the decades; - where even all of them are worse. *Gap*: what one automatic run, and the best of k half-decades, lack
of the test accuracy of the best of all seven, in points. Finding the seven half-decades took nine runs, which are not
counted: that favours tuning.
"""


@dataclass(frozen=True)
class Budget:
    """One automatic run against a tuned cosine, on one workload with one optimizer.

    Attributes:
        workload, optimizer: names.
        nearby, decades: expected validation loss of the best of k = 1, 2, ... runs, over that of one automatic run.
        matched_nearby, matched_decades: the fewest runs that are no worse than it in expectation, or None.
        gaps: missing test accuracy of the best of k half-decades, in points, in expectation; None
            without accuracies.
        automatic_gap: that of one automatic run.
    """

    workload: str
    optimizer: str
    nearby: list[float]
    decades: list[float]
    matched_nearby: int | None
    matched_decades: int | None
    gaps: list[float] | None
    automatic_gap: float | None


def budgets(record: Mapping[str, Any]) -> list[Budget]:
    """All pairs of the record."""
    return [_budget(entry) for entry in record["pairs"]]


def _budget(entry: Mapping[str, Any]) -> Budget:
    level = fmean(one["validation_loss"] for one in entry["automatic"])
    nearby, decades = (
        [value / level for value in expected_of_best(entry[name], "validation_loss")] for name in ("nearby", "decades")
    )
    gaps = automatic_gap = None
    tuned = min(entry["nearby"], key=lambda one: one["tuning_loss"])["test_accuracy"]
    if tuned is not None:
        gaps = [100.0 * (tuned - accuracy) for accuracy in expected_of_best(entry["nearby"], "test_accuracy")]
        automatic_gap = 100.0 * (tuned - fmean(one["test_accuracy"] for one in entry["automatic"]))
    return Budget(
        entry["workload"], entry["optimizer"], nearby, decades, matched(nearby), matched(decades), gaps, automatic_gap
    )


def expected_of_best(outcomes: Sequence[Mapping[str, Any]], value: str) -> list[float]:
    """What the best by tuning of k = 1, 2, ..., n outcomes has in expectation, over all choices of k."""
    ordered = sorted(outcomes, key=lambda one: one["tuning_loss"])
    return [fmean(chosen[0][value] for chosen in combinations(ordered, k)) for k in range(1, len(ordered) + 1)]


def matched(ratios: Sequence[float]) -> int | None:
    """The fewest runs whose expected best is no worse than one automatic run."""
    return next((k for k, ratio in enumerate(ratios, start=1) if ratio <= 1.0), None)


def unmatched_share(found: Sequence[Budget], k: int, *, decades: bool) -> float:
    """Share of pairs on which one automatic run is better than the expected best of k."""
    needed = [one.matched_decades if decades else one.matched_nearby for one in found]
    return sum(number is None or number > k for number in needed) / len(needed)


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    heads = ["workload", "optimizer", "automatic: loss", *(f"cosine, {k}" for k in SHOWN), "nine decades",
             "k to match", "of decades", "gap: automatic", *(f"{k}" for k in SHOWN)]  # fmt: skip
    rows = []
    found = budgets(record)
    for entry, one in zip(record["pairs"], found, strict=True):
        level = fmean(outcome["validation_loss"] for outcome in entry["automatic"])
        gaps = [""] * (1 + len(SHOWN))
        if one.gaps is not None and one.automatic_gap is not None:
            gaps = [f"{one.automatic_gap:+.1f}", *(f"{one.gaps[k - 1]:+.1f}" for k in SHOWN)]
        rows.append(
            [one.workload, one.optimizer, f"{level:.3g}", *(f"{one.nearby[k - 1]:.3g}" for k in SHOWN),
             f"{one.decades[-1]:.3g}", str(one.matched_nearby or "-"), str(one.matched_decades or "-"), *gaps]
        )  # fmt: skip
    shares = ", ".join(f"{unmatched_share(found, k, decades=False):.0%} at k = {k}" for k in SHOWN)
    wide = ", ".join(f"{unmatched_share(found, k, decades=True):.0%} at k = {k}" for k in (*SHOWN, 9))
    scored = [one for one in found if one.gaps is not None and one.automatic_gap is not None]
    lines = [
        f"- One automatic run has the lower validation loss than the expected best of k half-decades on {shares} of "
        f"{len(found)} pairs; of k of the nine decades on {wide}."
    ]
    if scored:
        middle = ", ".join(f"{median(one.gaps[k - 1] for one in scored if one.gaps):+.1f} at k = {k}" for k in SHOWN)
        own = median(one.automatic_gap for one in scored if one.automatic_gap is not None)
        lines.append(f"- Median gap in test accuracy: automatic {own:+.1f} points; cosine {middle}.")
    return "\n".join([heading("What tuning buys", record["about"]), INTRODUCTION, table(heads, rows), "", *lines, ""])
