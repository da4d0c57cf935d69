"""What the study of the tuning budget gives the paper: `results/tuning_budget.json` -> numbers, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from adaptive_lr.study.figures.style import (
    BASELINE,
    BLUE,
    PAGE,
    VERMILION,
    legend_above,
    new_figure,
    without_marker,
)
from experiments.paper import Part
from experiments.paper.drawing import pdf, styled
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, points, tabular
from experiments.tuning_budget_tables import SHOWN, Budget, budgets, unmatched_share


def part(record: Mapping[str, Any]) -> Part:
    """All of it.

    Args:
        record: the contents of `results/tuning_budget.json`.
    """
    found = budgets(record)
    numbers = {
        "budget.seeds": str(record["about"]["seeds"]),
        "budget.pairs": str(len(found)),
        "budget.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    gaps, own = _gaps(found)
    for k in SHOWN:
        numbers[f"budget.ratio.{k}"] = number(median(one.nearby[k - 1] for one in found))
    for k in range(1, 8):
        numbers[f"budget.ahead.{k}"] = percent(unmatched_share(found, k, decades=False))
        if gaps:
            numbers[f"budget.gap.{k}"] = points(gaps[k - 1])
    for k in range(1, 10):
        numbers[f"budget.ahead-of-decades.{k}"] = percent(unmatched_share(found, k, decades=True))
    if own is not None:
        numbers["budget.gap.automatic"] = points(own)
    return Part(numbers, {"tuning-budget": _table(found)}, {"tuning-budget.pdf": _figure(found)})


def _gaps(found: Sequence[Budget]) -> tuple[list[float], float | None]:
    """Median gap in test accuracy for k = 1, 2, ..., and that of one automatic run."""
    gaps = [one.gaps for one in found if one.gaps is not None]
    own = [one.automatic_gap for one in found if one.automatic_gap is not None]
    return [median(values) for values in zip(*gaps, strict=True)], median(own) if own else None


def _table(found: Sequence[Budget]) -> str:
    heads = ["workload", "", *(f"{k}" for k in SHOWN), "of 7", "of 9", "automatic", *(f"{k}" for k in SHOWN)]
    rows, previous = [], ""
    for one in found:
        gaps = [""] * (1 + len(SHOWN))
        if one.gaps is not None and one.automatic_gap is not None:
            gaps = [points(one.automatic_gap), *(points(one.gaps[k - 1]) for k in SHOWN)]
        needed = [str(k) if k is not None else "--" for k in (one.matched_nearby, one.matched_decades)]
        ratios = [number(one.nearby[k - 1]) for k in SHOWN]
        first = "" if one.workload == previous else escape(one.workload)
        rows.append([first, OPTIMIZERS[one.optimizer], *ratios, *needed, *gaps])
        previous = one.workload
    spans = (("", 2), ("loss ratio, $k$ runs", len(SHOWN)), ("$k$ to match", 2), ("gap, points", 1 + len(SHOWN)))
    return tabular("ll" + "r" * (len(heads) - 2), heads, rows, spans=spans)


def _figure(found: Sequence[Budget]) -> bytes:
    """Left: how often one automatic run is ahead of k tuning runs. Right: what is missing to fully tuned."""
    from matplotlib.ticker import MaxNLocator

    gaps, own = _gaps(found)
    with styled():
        figure = new_figure(PAGE, 2.5)
        ahead, missing = figure.subplots(1, 2)
        handles = []
        kinds = (
            (False, "cosine, k of seven half-decades", BLUE, "s"),
            (True, "cosine, k of nine decades", "0.45", "o"),
        )
        for decades, label, colour, marker in kinds:
            most = min(len(one.decades if decades else one.nearby) for one in found)
            counts = range(1, most + 1)
            shares = [100.0 * unmatched_share(found, k, decades=decades) for k in counts]
            handles += ahead.plot(counts, shares, color=colour, marker=marker, markersize=4.4, linewidth=1.6,
                                  markeredgecolor="white", markeredgewidth=0.4, label=label)  # fmt: skip
        ahead.set(ylim=(-3.0, 103.0), ylabel="pairs on which one automatic\nrun has the lower loss, %")
        if gaps and own is not None:
            missing.plot(range(1, len(gaps) + 1), gaps, color=BLUE, marker="s", markersize=4.4, linewidth=1.6,
                         markeredgecolor="white", markeredgewidth=0.4)  # fmt: skip
            level = without_marker(BASELINE) | {"color": VERMILION, "linewidth": 1.6}
            missing.plot([1, len(gaps)], [own, own], label="automatic, one run", **level)
            handles += missing.lines[-1:]
        missing.set_ylabel("median gap to the best of seven,\npoints of test accuracy")
        for axes in (ahead, missing):
            axes.set_xlabel("k runs spent on tuning cosine")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(True)
        legend_above(figure, handles, num_columns=3)
        return pdf(figure)
