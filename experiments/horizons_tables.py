"""What the record of longer runs comes to, and its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from experiments.records import heading, table

POINTS, SHARE_OF_LOSS = 1.0, 0.02
"""As good as tuned: within a point of accuracy or, where there is none, 2 % of the loss."""

WORST_POINTS = 5.0

FACTORS = (1, 10)
"""How many times the tuned peak a given peak is."""

INTRODUCTION = """\
*Tuned*: `cosine` (5 % warm-up) at the best of at least seven half-decades, by validation loss on two other seeds; a *
marks a best one at the edge. *Found*: the geometric mean over seeds of the peak that `automatic` set, here in decades
from the tuned one. *Gap*: missing to tuned, points of test accuracy; negative is better; with its 95 % interval
(Student's, paired by seed; of the ratio of test losses where there is no accuracy). *Loss*: test loss over tuned. *Peak
alone*: the same of a cosine that is given the peak found, on the seeds for tuning (interpolated between half-decades):
what remains is what finding it and the guard cost. *Spent*: share of the run until the peak was known, and of probes,
the largest over seeds. All else: means over seeds.
"""

LARGE = """\
### A given peak, {steps:,} updates

Gap to tuned (or, with an x, the ratio of test losses) at the tuned peak and at ten times it, with 95 % intervals as
above.
"""


RULES = """\
## Which rule finds their peak?

Sweeps and rehearsals were recorded once. A rule is judged by what a cosine does at the peak it names, as in
`peak_rules.md`: *inside*, *in+*, *worst error*: of the peaks as good as tuned (a point of accuracy, 10 % of the loss
where there is none), in decades; *gap* in points; *loss ratio*: geometric mean over classification; *objectives*: over
workloads without accuracy. A rehearsal is a 40th of the run long; *drift*: the power of that ratio by which its peak is
taken to lie above the run's; 3: half a decade to either side of the peak that the sweep found, 5: a decade. The updates
that rehearsals cost are not counted here; above they are.
"""


@dataclass(frozen=True)
class Comparison:
    """`automatic` against the tuned cosine, on one workload with one optimizer for one number of updates.

    Attributes:
        workload, optimizer, steps: which.
        tuned: the outcome of `cosine` at its best.
        at_edge: whether that is the lowest or highest peak tried.
        decades: log10 of the peak found over the tuned one.
        interval: 95 % interval of the gap, or of the ratio of test losses without accuracies; None below two seeds.
        above: recipe -> its gaps (or ratios) at the tuned peak and ten times that.
        above_intervals: the same of their intervals; empty below two seeds.
        gap, peak_gap: missing points of accuracy, of `automatic` and of a cosine at the peak found, or None.
        ratio, peak_ratio: of test losses, likewise.
        spent: share of the run until the peak was known, and of probes; the largest over seeds.
    """

    workload: str
    optimizer: str
    steps: int
    tuned: Mapping[str, Any]
    at_edge: bool
    decades: float
    interval: Sequence[float] | None
    above: Mapping[str, Sequence[float]]
    above_intervals: Mapping[str, Sequence[Sequence[float]]]
    gap: float | None
    peak_gap: float | None
    ratio: float
    peak_ratio: float
    spent: float

    @property
    def within(self) -> bool:
        """Whether `automatic` is as good as tuned."""
        return self.gap <= POINTS if self.gap is not None else self.ratio <= 1.0 + SHARE_OF_LOSS


def comparison(entry: Mapping[str, Any]) -> Comparison:
    """One entry of the record, judged."""
    tuning, automatic, tuned = entry["tuning"], entry["automatic"], entry["above"]["cosine"][0]
    chosen = min(range(len(tuning)), key=lambda index: tuning[index]["validation_loss"])
    found = fmean(math.log10(peak) for peak in entry["found"])
    lrs = [math.log10(one["lr"]) for one in tuning]
    losses = [math.log(one["test_loss"]) for one in tuning]
    gap = peak_gap = None
    if tuned["test_accuracy"] is not None:
        gap = _missing(automatic, tuned)
        at_peak = float(np.interp(found, lrs, [one["test_accuracy"] for one in tuning]))
        peak_gap = 100.0 * (tuning[chosen]["test_accuracy"] - at_peak)
    intervals = entry["intervals"]
    return Comparison(
        workload=entry["workload"], optimizer=entry["optimizer"], steps=entry["steps"], tuned=tuned,
        at_edge=chosen in (0, len(tuning) - 1), decades=found - math.log10(tuned["lr"]),
        interval=intervals["automatic"][0] if intervals else None,
        above={recipe: [_missing(one, tuned) for one in outcomes] for recipe, outcomes in entry["above"].items()},
        above_intervals={recipe: intervals[recipe] for recipe in entry["above"] if intervals},
        gap=gap, peak_gap=peak_gap, ratio=automatic["test_loss"] / tuned["test_loss"],
        peak_ratio=math.exp(float(np.interp(found, lrs, losses))) / tuning[chosen]["test_loss"],
        spent=max(entry["spent"]),
    )  # fmt: skip


def _missing(one: Mapping[str, Any], tuned: Mapping[str, Any]) -> float:
    """Points of test accuracy that are missing, or without accuracies the ratio of test losses."""
    if tuned["test_accuracy"] is None:
        return float(one["test_loss"] / tuned["test_loss"])
    return 100.0 * float(tuned["test_accuracy"] - one["test_accuracy"])


def row(one: Comparison) -> list[str]:
    """One line of the table."""
    accuracy = one.tuned["test_accuracy"]
    points = ["" if value is None else f"{value:+.1f}" for value in (one.gap, one.peak_gap)]
    return [
        one.workload, one.optimizer, f"{one.tuned['lr']:.2g}{'*' if one.at_edge else ''}",
        f"{one.tuned['test_loss']:.3g}" if accuracy is None else f"{accuracy:.1%}",
        f"{one.decades:+.2f}", points[0], _interval(one, one.interval), f"{one.ratio:.2f}", points[1],
        f"{one.peak_ratio:.2f}", f"{one.spent:.0%}",
    ]  # fmt: skip


def large_row(one: Comparison) -> list[str]:
    """One line of the table of given peaks."""
    (_, fixed), guarded = one.above["cosine"], one.above["cosine+guarded"]
    of_fixed, of_guarded = (one.above_intervals.get(recipe, [None] * 2) for recipe in ("cosine", "cosine+guarded"))
    cells = [(fixed, of_fixed[1]), *zip(guarded, of_guarded, strict=True)]
    return [
        one.workload,
        one.optimizer,
        *(t for value, ends in cells for t in (_text(one, value), _interval(one, ends))),
    ]


def _text(one: Comparison, value: float) -> str:
    return f"{value:.3g}x" if one.gap is None else f"{round(value, 1) + 0.0:+.1f}"


def _interval(one: Comparison, ends: Sequence[float] | None) -> str:
    return "" if ends is None else " to ".join(_text(one, end) for end in ends)


def summary(found: Sequence[Comparison]) -> list[str]:
    """What a table comes to."""
    scored = [one for one in found if one.gap is not None]
    gaps = [one.gap for one in scored if one.gap is not None]
    lines = [
        f"- As good as tuned (a point, or 2 % of the loss where there is no accuracy): {sum(o.within for o in found)} "
        f"of {len(found)}."
    ]
    if gaps:
        lines.append(
            f"- Classification: median gap {median(gaps):+.1f}, worst {max(gaps):+.1f} points, "
            f"{sum(gap > WORST_POINTS for gap in gaps)} of {len(gaps)} worse than {WORST_POINTS:g}; loss over tuned: "
            f"geometric mean {math.exp(fmean(math.log(one.ratio) for one in scored)):.2f}, of the peak alone "
            f"{math.exp(fmean(math.log(one.peak_ratio) for one in scored)):.2f}."
        )
    lines.append(
        f"- The peak found is {median(one.decades for one in found):+.2f} decades from the tuned one in the median."
    )
    return lines


def large_summary(found: Sequence[Comparison]) -> list[str]:
    """What a table of given peaks comes to."""
    counts = {
        f"{name} x {factor}": sum(holds(one, recipe, index) for one in found)
        for recipe, name in (("cosine", "cosine"), ("cosine+guarded", "guarded"))
        for index, factor in enumerate(FACTORS)
    }
    named = ", ".join(f"{name} on {count}" for name, count in counts.items())
    return [f"- As good as tuned (as above), of {len(found)}: {named}."]


def holds(one: Comparison, recipe: str, index: int) -> bool:
    """Whether a recipe is as good as tuned at one of `FACTORS` times the tuned peak."""
    return one.above[recipe][index] <= (POINTS if one.gap is not None else 1.0 + SHARE_OF_LOSS)


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    heads = ["workload", "optimizer", "tuned LR", "tuned", "found, decades", "gap", "95 % interval", "loss",
             "peak alone: gap",
             "loss", "spent"]  # fmt: skip
    large = ["workload", "optimizer", *(text for head in ("cosine x 10", "guarded x 1", "guarded x 10")
                                        for text in (head, "95 % interval"))]  # fmt: skip
    found = [comparison(entry) for entry in record["pairs"]]
    parts = [heading("Longer runs", record["about"]), INTRODUCTION]
    for steps in dict.fromkeys(one.steps for one in found):
        own = [one for one in found if one.steps == steps]
        parts += [f"## {steps:,} updates\n", table(heads, map(row, own)), "", *summary(own), ""]
        parts += [LARGE.format(steps=steps), table(large, map(large_row, own)), "", *large_summary(own), ""]
    if record["rules"]:
        parts.append(RULES)
    for steps in dict.fromkeys(one["steps"] for one in record["rules"]):
        parts += [f"### {steps:,} updates\n", rule_table([o for o in record["rules"] if o["steps"] == steps]), ""]
    return "\n".join(parts)


def rule_table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rules for one length."""
    heads = ["rule", "inside", "in+", "worst error", "median gap", "mean gap", "within 1", "loss ratio", "objectives"]
    formats = {"median gap": "+.1f", "mean gap": "+.2f"}
    return table(heads, ([one["rule"], *(format(one[n], formats.get(n, ".2f")) for n in heads[1:])] for one in found),
                 left=1)  # fmt: skip
