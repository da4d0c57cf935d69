"""What the study of longer runs gives the paper: `results/horizons.json` -> numbers, a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from adaptive_lr.controllers.rehearsal import DRIFT, OFFSETS
from experiments.horizons_tables import FACTORS, Comparison, comparison, holds
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
        "horizons.tuning-seeds": str(record["pairs"][0]["tuning"][0]["seeds"]),
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
    return Part(numbers, {"horizons": _table(found, lengths), "horizons-large": _large(found, lengths)})


def _numbers(prefix: str, found: Sequence[Comparison]) -> dict[str, str]:
    numbers = {
        f"{prefix}.pairs": str(len(found)),
        f"{prefix}.within": str(sum(one.within for one in found)),
        f"{prefix}.decades": _decades(median(one.decades for one in found)),
        f"{prefix}.spent": percent(max(one.spent for one in found)),
    }
    for recipe, name in (("cosine", "cosine"), ("cosine+guarded", "guarded")):
        for index, factor in enumerate(FACTORS):
            count = sum(holds(one, recipe, index) for one in found)
            numbers[f"{prefix}.above-{factor}.{name}.within"] = str(count)
            lost = [one.above[recipe][index] for one in found if one.gap is not None]
            if lost:
                numbers[f"{prefix}.above-{factor}.{name}.worst"] = points(max(lost))
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
    """Columns of `_cells` for each length."""
    spans = [("", 2)]
    for steps in lengths:
        spans += [(f"{steps:,} updates", 5), ("alone", 1)]
    return _by_pair(found, lengths, ["tuned", "found", "gap", "interval", "loss", "loss"], _cells, spans)


def _large(found: Sequence[Comparison], lengths: Sequence[int]) -> str:
    """Given peaks: the fixed schedule at ten times the tuned peak; guarded at that and at ten times."""
    heads = [r"fixed $\times10$", r"$\times1$", r"$\times10$", "interval"]
    return _by_pair(found, lengths, heads, _large_cells, [("", 2), *((f"{steps:,} updates", 4) for steps in lengths)])


def _by_pair(
    found: Sequence[Comparison],
    lengths: Sequence[int],
    heads: Sequence[str],
    cells: Callable[[Comparison], list[str]],
    spans: Sequence[tuple[str, int]],
) -> str:
    """A row for each pair, with the same columns for each length; empty where it was not trained for so long."""
    by_pair: dict[tuple[str, str], dict[int, Comparison]] = {}
    for one in found:
        by_pair.setdefault((one.workload, one.optimizer), {})[one.steps] = one
    rows, previous = [], ""
    for (workload, optimizer), by_length in by_pair.items():
        groups = [cells(by_length[steps]) if steps in by_length else [""] * len(heads) for steps in lengths]
        first = "" if workload == previous else escape(workload)
        rows.append([first, OPTIMIZERS[optimizer], *(text for group in groups for text in group)])
        previous = workload
    columns = len(heads) * len(lengths)
    return tabular("ll" + "r" * columns, ["workload", "", *(list(heads) * len(lengths))], rows, spans=spans)


def _cells(one: Comparison) -> list[str]:
    accuracy = one.tuned["test_accuracy"]
    tuned = number(one.tuned["test_loss"]) if accuracy is None else percent(accuracy)
    gap = "" if one.gap is None else points(one.gap)
    edge = "*" if one.at_edge else ""
    return [tuned + edge, _decades(one.decades), gap, _interval(one, one.interval), number(one.ratio),
            number(one.peak_ratio)]  # fmt: skip


def _large_cells(one: Comparison) -> list[str]:
    guarded, intervals = one.above["cosine+guarded"], one.above_intervals.get("cosine+guarded")
    gaps = [_gap(one, value) for value in (one.above["cosine"][-1], *guarded)]
    return [*gaps, _interval(one, intervals[-1] if intervals else None)]


def _gap(one: Comparison, value: float) -> str:
    """Points, or without accuracies the ratio of losses."""
    return points(value) if one.gap is not None else number(value) + r"$\times$"


def _interval(one: Comparison, ends: Sequence[float] | None) -> str:
    """Ends of an interval, in points to a tenth, or of a ratio to two digits where it is small."""
    if ends is None:
        return ""
    texts = [f"{end:.2g}" if one.gap is None and abs(end) < 100.0 else f"{round(end, 1) + 0.0:.1f}" for end in ends]
    return rf"$[{texts[0]},{texts[1]}]$"


def _decades(value: float) -> str:
    return f"${round(value, 2) + 0.0:+.2f}$"


def _geometric(values: Iterable[float]) -> float:
    return math.exp(fmean(map(math.log, values)))
