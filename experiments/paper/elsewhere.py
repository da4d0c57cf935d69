"""What the problems of other kinds give the paper: `results/elsewhere.json` -> numbers, a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from experiments.elsewhere_tables import automatic_gap
from experiments.horizons_tables import Comparison, comparison, holds
from experiments.paper import Part
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, points, tabular
from experiments.robustness_tables import FACTORS

SHOWN = (1, 2, 3)
"""Of `FACTORS`, those whose guarded gaps the table has; at the tuned peak they are told in numbers."""


def part(record: Mapping[str, Any]) -> Part:
    """How often each is as good as tuned, and every gap.

    Args:
        record: the contents of `results/elsewhere.json`.
    """
    found = [comparison(entry) for entry in record["pairs"]]
    numbers = {
        "elsewhere.seeds": str(record["about"]["seeds"]),
        "elsewhere.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
        "elsewhere.problems": str(len({one.workload for one in found})),
        "elsewhere.pairs": str(len(found)),
        "elsewhere.automatic.within": str(sum(one.within for one in found)),
        "elsewhere.automatic.loss-ratio": number(math.exp(fmean(math.log(one.ratio) for one in found))),
        "elsewhere.automatic.decades": f"${median(one.decades for one in found):+.2f}$",
    }
    for recipe, name in (("cosine", "cosine"), ("cosine+guarded", "guarded")):
        for index, factor in enumerate(FACTORS):
            count = sum(holds(one, recipe, index) for one in found)
            numbers[f"elsewhere.above-{factor}.{name}.within"] = str(count)
    return Part(numbers, {"elsewhere": _table(found)})


def _table(found: Sequence[Comparison]) -> str:
    heads = ["problem", "", "tuned", *[rf"$\times{FACTORS[i]}$" for i in SHOWN] * 2, "automatic", "found"]
    rows, previous = [], ""
    for one in found:
        accuracy = one.tuned["test_accuracy"]
        tuned = number(one.tuned["test_loss"]) if accuracy is None else percent(accuracy)
        gaps = [one.above[recipe][index] for recipe in ("cosine", "cosine+guarded") for index in SHOWN]
        first = "" if one.workload == previous else escape(one.workload)
        texts = [_gap(one, gap) for gap in (*gaps, automatic_gap(one))]
        edge = "*" if one.at_edge else ""
        rows.append([first, OPTIMIZERS[one.optimizer], tuned + edge, *texts, f"${round(one.decades, 2) + 0.0:+.2f}$"])
        previous = one.workload
    spans = [("", 3), ("fixed", len(SHOWN)), ("guarded", len(SHOWN)), ("", 2)]
    return tabular("ll" + "r" * (len(heads) - 2), heads, rows, spans=spans)


def _gap(one: Comparison, value: float) -> str:
    """Points, or without accuracies the ratio of losses."""
    return points(value) if one.gap is not None else number(value) + r"$\times$"
