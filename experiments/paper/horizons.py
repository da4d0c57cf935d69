"""What the study of longer runs gives the paper: `results/horizons.json` -> numbers, a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from adaptive_lr.controllers.rehearsal import DRIFT, OFFSETS
from experiments.horizons_tables import Comparison, comparison
from experiments.paper import Part
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, points, tabular

RULES = {
    "the sweep alone (the law of shorter runs)": "sweep",
    f"{len(OFFSETS)} rehearsals, drift {DRIFT}": "rehearsals",
}
"""Rules that were judged on recorded sweeps -> how the paper calls them: without and with what longer runs do."""


def part(record: Mapping[str, Any]) -> Part:
    """All of it.

    Args:
        record: the contents of `results/horizons.json`.
    """
    found = [comparison(entry) for entry in record["pairs"]]
    lengths = sorted({one.steps for one in found})
    numbers = {
        "horizons.seeds": str(record["about"]["seeds"]),
        "horizons.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
        "horizons.workloads": str(len({one.workload for one in found})),
        "horizons.lengths": " and ".join(f"{steps:,}" for steps in lengths),
        "horizons.longest": f"{lengths[-1]:,}",
        "horizons.pairs": str(len(found)),
        "horizons.within": str(sum(one.within for one in found)),
    }
    for steps in lengths:
        numbers |= _numbers(f"horizons.{steps}", [one for one in found if one.steps == steps])
    for rule in record["rules"]:
        if rule["rule"] in RULES:
            numbers |= _judged(f"horizons.{rule['steps']}.{RULES[rule['rule']]}", rule)
    return Part(numbers, {"horizons": _table(found, lengths)})


def _numbers(prefix: str, found: Sequence[Comparison]) -> dict[str, str]:
    numbers = {
        f"{prefix}.pairs": str(len(found)),
        f"{prefix}.within": str(sum(one.within for one in found)),
        f"{prefix}.decades": _decades(median(one.decades for one in found)),
        f"{prefix}.spent": percent(max(one.spent for one in found)),
    }
    scored = {(one.workload, one.optimizer): one for one in found if one.gap is not None}
    gaps = {pair: one.gap for pair, one in scored.items() if one.gap is not None}
    functions = [one.ratio for one in found if one.gap is None]
    if gaps:
        worst = max(gaps, key=lambda pair: gaps[pair])
        numbers |= {
            f"{prefix}.median-gap": points(median(gaps.values())),
            f"{prefix}.worst-gap": points(gaps[worst]),
            f"{prefix}.worst-workload": escape(worst[0]),
            f"{prefix}.worst-optimizer": OPTIMIZERS[worst[1]],
            f"{prefix}.loss-ratio": number(_geometric(one.ratio for one in scored.values())),
            f"{prefix}.peak-loss-ratio": number(_geometric(one.peak_ratio for one in scored.values())),
        }
    if functions:
        numbers |= {f"{prefix}.functions.least-ratio": number(min(functions)),
                    f"{prefix}.functions.most-ratio": number(max(functions))}  # fmt: skip
    return numbers


def _judged(prefix: str, rule: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{prefix}.mean-gap": f"${rule['mean gap']:+.2f}$",
        f"{prefix}.loss-ratio": number(rule["loss ratio"]),
        f"{prefix}.functions": number(rule["objectives"]),
    }


def _table(found: Sequence[Comparison], lengths: Sequence[int]) -> str:
    """A row for each pair, with the columns of `_cells` for each length; empty where it was not trained for so long."""
    by_pair: dict[tuple[str, str], dict[int, Comparison]] = {}
    for one in found:
        by_pair.setdefault((one.workload, one.optimizer), {})[one.steps] = one
    rows, previous = [], ""
    for (workload, optimizer), by_length in by_pair.items():
        cells = [_cells(by_length.get(steps)) for steps in lengths]
        first = "" if workload == previous else escape(workload)
        rows.append([first, OPTIMIZERS[optimizer], *(text for group in cells for text in group)])
        previous = workload
    heads = ["workload", "", *(["tuned", "found", "gap", "loss", "gap", "loss"] * len(lengths))]
    spans = [("", 2)]
    for steps in lengths:
        spans += [(f"{steps:,} updates", 4), ("peak alone", 2)]
    return tabular("ll" + "r" * (len(heads) - 2), heads, rows, spans=spans)


def _cells(one: Comparison | None) -> list[str]:
    if one is None:
        return [""] * 6
    accuracy = one.tuned["test_accuracy"]
    tuned = number(one.tuned["test_loss"]) if accuracy is None else percent(accuracy)
    gap, peak_gap = ("" if value is None else points(value) for value in (one.gap, one.peak_gap))
    edge = "*" if one.at_edge else ""
    return [tuned + edge, _decades(one.decades), gap, number(one.ratio), peak_gap, number(one.peak_ratio)]


def _decades(value: float) -> str:
    return f"${round(value, 2) + 0.0:+.2f}$"


def _geometric(values: Iterable[float]) -> float:
    return math.exp(fmean(map(math.log, values)))
