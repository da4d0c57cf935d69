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

INTRODUCTION = """\
*Tuned*: `cosine` (5 % warm-up) at the best of at least seven half-decades, by validation loss; a * marks a best one at
the edge. *Found*: the geometric mean over seeds of the peak that `automatic` set, here in decades from the tuned one.
*Gap*: missing to tuned, points of test accuracy; negative is better. *Loss*: test loss over tuned. *Peak alone*: the
same of a cosine that is given the peak found (interpolated between half-decades): what remains is what finding it and
the guard cost. *Spent*: share of the run until the peak was known, and of probes, the largest over seeds. All else:
means over seeds.
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
    cosine, automatic = entry["cosine"], entry["automatic"]
    chosen = min(range(len(cosine)), key=lambda index: cosine[index]["validation_loss"])
    tuned = cosine[chosen]
    found = fmean(math.log10(peak) for peak in entry["found"])
    lrs = [math.log10(one["lr"]) for one in cosine]
    losses = [math.log(one["test_loss"]) for one in cosine]
    gap = peak_gap = None
    if tuned["test_accuracy"] is not None:
        gap = 100.0 * (tuned["test_accuracy"] - automatic["test_accuracy"])
        at_peak = float(np.interp(found, lrs, [one["test_accuracy"] for one in cosine]))
        peak_gap = 100.0 * (tuned["test_accuracy"] - at_peak)
    return Comparison(
        workload=entry["workload"], optimizer=entry["optimizer"], steps=entry["steps"], tuned=tuned,
        at_edge=chosen in (0, len(cosine) - 1), decades=found - math.log10(tuned["lr"]), gap=gap, peak_gap=peak_gap,
        ratio=automatic["test_loss"] / tuned["test_loss"],
        peak_ratio=math.exp(float(np.interp(found, lrs, losses))) / tuned["test_loss"], spent=max(entry["spent"]),
    )  # fmt: skip


def row(one: Comparison) -> list[str]:
    """One line of the table."""
    accuracy = one.tuned["test_accuracy"]
    points = ["" if value is None else f"{value:+.1f}" for value in (one.gap, one.peak_gap)]
    return [
        one.workload, one.optimizer, f"{one.tuned['lr']:.2g}{'*' if one.at_edge else ''}",
        f"{one.tuned['test_loss']:.3g}" if accuracy is None else f"{accuracy:.1%}",
        f"{one.decades:+.2f}", points[0], f"{one.ratio:.2f}", points[1], f"{one.peak_ratio:.2f}", f"{one.spent:.0%}",
    ]  # fmt: skip


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


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    heads = ["workload", "optimizer", "tuned LR", "tuned", "found, decades", "gap", "loss", "peak alone: gap", "loss",
             "spent"]  # fmt: skip
    found = [comparison(entry) for entry in record["pairs"]]
    parts = [heading("Longer runs", record["about"]), INTRODUCTION]
    for steps in dict.fromkeys(one.steps for one in found):
        own = [one for one in found if one.steps == steps]
        parts += [f"## {steps:,} updates\n", table(heads, map(row, own)), "", *summary(own), ""]
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
