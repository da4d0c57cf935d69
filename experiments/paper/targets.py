"""How soon runs come to a target, for the paper: `results/no_harm.json` -> numbers, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_lr.study.figures.style import (
    BASELINE,
    BLUE,
    PAGE,
    VERMILION,
    draw_interval,
    legend_above,
    new_figure,
    without_marker,
)
from adaptive_lr.study.reports.comparison import TARGET
from adaptive_lr.study.reports.drawing import PROFILE_RESAMPLES
from adaptive_lr.study.statistics import Estimates, bootstrap, score_distribution
from experiments.no_harm_tables import TREATED
from experiments.paper import Part
from experiments.paper.drawing import pdf, styled
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, tabular
from experiments.target_tables import Arrival, arrivals, has_targets, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RECIPES = ("cosine", *TREATED)
NAMES = {"cosine": "cosine", "cosine+guarded": "guarded", "automatic": "automatic"}
LOOKS: Mapping[str, dict[str, Any]] = {
    "cosine": without_marker(BASELINE),
    "cosine+guarded": {"color": BLUE, "linewidth": 2.6, "zorder": 2},
    "automatic": {"color": VERMILION, "linewidth": 1.6, "linestyle": (0, (5.0, 1.2)), "zorder": 3},
}
SIGNIFICANT = 0.05

SHARES = np.linspace(0.0, 1.0, 201)
"""Of the horizon: where curves are drawn."""


def part(record: Mapping[str, Any]) -> Part:
    """All of it; nothing where the record has no targets.

    Args:
        record: the contents of `results/no_harm.json`.
    """
    if not has_targets(record):
        return Part()
    found = {recipe: arrivals(record, recipe) for recipe in RECIPES}
    numbers = {"targets.share": percent(TARGET), "targets.pairs": str(len(record["pairs"]))}
    for recipe, name in NAMES.items():
        numbers |= _numbers(f"targets.{name}", found[recipe], found["cosine"])
    return Part(numbers, {"targets": _table(record, found)}, {"targets.pdf": _figure(record)})


def _numbers(prefix: str, found: Sequence[Arrival], fixed: Sequence[Arrival]) -> dict[str, str]:
    significant = [(one, base) for one, base in zip(found, fixed, strict=True) if one.adjusted_p <= SIGNIFICANT]
    ratios = [one.mean.mean / base.mean.mean for one, base in zip(found, fixed, strict=True)]
    return {
        f"{prefix}.reached": percent(sum(one.reached for one in found) / sum(one.runs for one in found)),
        f"{prefix}.ratio": number(median(ratios), 2),
        f"{prefix}.least-ratio": number(min(ratios), 2),
        f"{prefix}.most-ratio": number(max(ratios), 2),
        f"{prefix}.significantly-later": str(sum(one.mean.mean > base.mean.mean for one, base in significant)),
        f"{prefix}.significantly-earlier": str(sum(one.mean.mean < base.mean.mean for one, base in significant)),
    }


def _table(record: Mapping[str, Any], found: Mapping[str, Sequence[Arrival]]) -> str:
    heads = ["workload", "", "target", "there", "steps", *["there", "steps", "$p$"] * len(TREATED)]
    rows, previous = [], ""
    for index, entry in enumerate(record["pairs"]):
        first = "" if entry["workload"] == previous else escape(entry["workload"])
        previous = entry["workload"]
        cells = [first, OPTIMIZERS[entry["optimizer"]], number(entry["target_loss"])]
        for recipe in RECIPES:
            one = found[recipe][index]
            cells += [f"{one.reached}/{one.runs}", f"{one.mean.mean:.0f}"]
            if recipe in TREATED:
                cells.append(number(one.adjusted_p, 2))
        rows.append(cells)
    spans = (("", 3), ("cosine", 2), ("guarded", 3), ("automatic", 3))
    return tabular("llr" + "r" * (len(heads) - 3), heads, rows, spans=spans)


def _figure(record: Mapping[str, Any]) -> bytes:
    """Share of all runs that are at the target against the share of their horizon, a panel for each optimizer."""
    with styled():
        figure = new_figure(PAGE, 2.5)
        panels = figure.subplots(1, len(OPTIMIZERS), sharey=True)
        for axes, (optimizer, title) in zip(panels, OPTIMIZERS.items(), strict=True):
            entries = [entry for entry in record["pairs"] if entry["optimizer"] == optimizer]
            if entries:
                _curves(axes, entries)
            axes.set_title(title, loc="left")
            axes.set_xlabel("step, % of the horizon")
            axes.set(xlim=(0.0, 103.0), ylim=(-3.0, 103.0))
            axes.grid(True)
        panels[0].set_ylabel(f"runs at {TARGET:.0%} of what\ncosine learns, %")
        legend_above(figure, next(axes.get_lines() for axes in panels if axes.get_lines()), num_columns=len(RECIPES))
        return pdf(figure)


def _curves(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    """With bands of a bootstrap over seeds, the workloads kept."""
    tasks = [np.stack([times(entry, recipe) / entry["steps"] for recipe in RECIPES]) for entry in entries]
    later = bootstrap(tasks, score_distribution(SHARES), resamples=PROFILE_RESAMPLES)  # a share of times above each
    values, high, low = (100.0 * (1.0 - bound.reshape(len(RECIPES), -1)) for bound in Estimates(*later))
    for place, recipe in enumerate(RECIPES):
        look = LOOKS[recipe]
        if np.isfinite(low[place]).all():
            draw_interval(axes, 100.0 * SHARES, low[place], high[place], look, step="post")
        axes.plot(100.0 * SHARES, values[place], drawstyle="steps-post", label=NAMES[recipe], **look)
