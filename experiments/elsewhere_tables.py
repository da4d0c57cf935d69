"""What the record of problems of other kinds comes to, and its tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from experiments.horizons_tables import POINTS, Comparison, comparison, holds
from experiments.records import heading, table
from experiments.robustness_tables import FACTORS

MARGINS = (0.02, 0.1, 1.0)
"""Shares of the loss that are counted: some of these losses end near zero, where 2 % is next to nothing."""

INTRODUCTION = """\
None of these problems had a part in choosing a constant. *Tuned*: `cosine` (5 % warm-up) at the best of at least seven
half-decades, by validation loss on two other seeds; a * marks a best one at the edge. *Gap*: missing to tuned, points
of test accuracy, or, with an x, the ratio of test losses where there is no accuracy; lower is better. *Found*: the
peak that `automatic` set, in decades from the tuned one. All are means over seeds; losses are clipped at that of the
start.
"""

INTERVALS = """\
## How sure they are

95 % intervals of the gaps: Student's, paired by seed.
"""


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    found = [comparison(entry) for entry in record["pairs"]]
    fixed, guarded = ([f"{name} x {factor}" for factor in FACTORS] for name in ("cosine", "guarded"))
    heads = ["problem", "optimizer", "tuned LR", "tuned", *fixed[1:], *guarded, "automatic", "found, decades"]
    ends = ["problem", "optimizer", *guarded, "automatic"]
    parts = [heading("Problems of other kinds", record["about"]), INTRODUCTION, table(heads, map(row, found)), ""]
    parts += [*summary(found), ""]
    if all(one.interval is not None for one in found):
        parts += [INTERVALS, table(ends, map(interval_row, found)), ""]
    return "\n".join(parts)


def row(one: Comparison) -> list[str]:
    """One line of the table of gaps."""
    accuracy = one.tuned["test_accuracy"]
    gaps = [*one.above["cosine"][1:], *one.above["cosine+guarded"], automatic_gap(one)]
    return [
        one.workload, one.optimizer, f"{one.tuned['lr']:.2g}{'*' if one.at_edge else ''}",
        f"{one.tuned['test_loss']:.3g}" if accuracy is None else f"{accuracy:.1%}",
        *(text(one, gap) for gap in gaps), f"{one.decades:+.2f}",
    ]  # fmt: skip


def interval_row(one: Comparison) -> list[str]:
    """One line of the table of intervals."""
    assert one.interval is not None
    pairs = [*one.above_intervals["cosine+guarded"], one.interval]
    return [one.workload, one.optimizer, *(" to ".join(text(one, end) for end in pair) for pair in pairs)]


def automatic_gap(one: Comparison) -> float:
    """Points of accuracy that `automatic` lacks, or the ratio of losses."""
    return one.ratio if one.gap is None else one.gap


def text(one: Comparison, gap: float) -> str:
    """A gap as tables have it."""
    return f"{gap:.3g}x" if one.gap is None else f"{round(gap, 1) + 0.0:+.1f}"


def summary(found: Sequence[Comparison]) -> list[str]:
    """What the table comes to: how often each is as good as tuned, and how large the losses are in the mean."""
    total = len(found)
    counts = [
        f"{name} x {factor} on {sum(holds(one, recipe, index) for one in found)}"
        for recipe, name in (("cosine", "cosine"), ("cosine+guarded", "guarded"))
        for index, factor in enumerate(FACTORS)
    ]
    lines = [
        f"- As good as tuned (within {POINTS:g} point, or 2 % of the loss where there is no accuracy), of {total}: "
        f"{', '.join(counts)}, automatic on {sum(one.within for one in found)}.",
        f"- The peak that automatic found is {median(one.decades for one in found):+.2f} decades from the tuned one in "
        f"the median, and its test loss {math.exp(fmean(math.log(one.ratio) for one in found)):.2f} times tuned in the "
        "geometric mean.",
    ]
    objectives = [one for one in found if one.gap is None]
    if objectives:
        within = (sum(one.ratio <= 1.0 + margin for one in objectives) for margin in MARGINS)
        named = ", ".join(f"{count} within {margin:.0%}" for margin, count in zip(MARGINS, within, strict=True))
        lines.append(f"- Of the {len(objectives)} pairs without accuracy automatic has {named} of the tuned loss.")
    return lines
