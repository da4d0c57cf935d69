"""What the workloads set aside give the paper: `results/set_aside.json` -> numbers."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from experiments.paper import Part
from experiments.paper.latex import number, points
from experiments.paper.robustness import pair_of
from experiments.robustness_tables import FACTORS, gaps, ratio


def part(record: Mapping[str, Any]) -> Part:
    """Automatic control from nine decades, and guarded control of peaks that are too large.

    Args:
        record: the contents of `results/set_aside.json`.
    """
    pairs = [pair_of(entry) for entry in record["pairs"]]
    scored = [pair for pair in pairs if pair.tuned.test_accuracy is not None]
    ratios = [fmean(ratio(outcome, pair.tuned) for outcome in pair.decades["automatic"]) for pair in pairs]
    numbers = {
        "set-aside.seeds": str(record["about"]["seeds"]),
        "set-aside.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
        "set-aside.pairs": str(len(pairs)),
        "set-aside.workloads": str(len({pair.workload for pair in pairs})),
        "set-aside.scored": str(len(scored)),
        "set-aside.worst-gap": points(max(max(gaps(pair.decades["automatic"], pair.tuned)[0]) for pair in scored)),
        "set-aside.least-ratio": number(min(ratios)),
        "set-aside.most-ratio": number(max(ratios)),
    }
    for index, factor in enumerate(FACTORS):
        for recipe, name in (("cosine", "cosine"), ("cosine+guarded", "guarded")):
            worst = max(ratio(pair.above[recipe][index], pair.tuned) for pair in pairs)
            numbers[f"set-aside.above-{factor}.{name}.ratio"] = number(worst)
            gap = max(gaps(pair.above[recipe], pair.tuned)[0][index] for pair in scored)
            numbers[f"set-aside.above-{factor}.{name}.worst"] = points(gap)
    return Part(numbers)
