"""The figure of range tests over seeds: the curves, and below them where every rule points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adaptive_lr.lr_range_test import RangeTestResult
from adaptive_lr.range_figure import COLOURS, INTERVAL, RAW, SMOOTHED, loss_limits, magnitude
from adaptive_lr.study.errors import require
from adaptive_lr.study.figures.style import STYLE
from adaptive_lr.study.range_tests import NAMES, RULES, spreads, value
from adaptive_lr.study.recipe import find_optimizer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL = (3.5, 2.1)
STRIP = 1.15
"""Inches of one panel of curves, and the height of the strip of suggestions below it."""

LABEL_SHARE = 0.22
"""Of the axis, what the number beside a rule's rings may take."""


def draw(results: Mapping[str, Sequence[RangeTestResult]], path: Path) -> list[Path]:
    """Draw the figure, as PDF and as PNG: a column for each optimizer.

    Above, the losses of every seed (light) and the same smoothed (dark); shaded, the interval from the geometric mean
    of its lower ends to that of its upper ends. Below, on the same axis, a row for each rule: one ring for each seed
    and a bar at the geometric mean, its value beside it.

    Args:
        results: for each optimizer the results of its seeds, at least one.
        path: where to, without the suffix.

    Returns:
        The files written. The PDF has no date in it: the same numbers make the same bytes.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: the files cannot be written.
    """
    matplotlib = require("matplotlib")
    figure_class = require("matplotlib.figure").Figure
    with matplotlib.rc_context(STYLE):
        size = (0.9 + PANEL[0] * len(results), 0.8 + PANEL[1] + STRIP)
        figure = figure_class(figsize=size)
        panels = figure.subplots(
            2, len(results), sharex="col", sharey="row", squeeze=False,
            gridspec_kw={"height_ratios": (PANEL[1], STRIP)},
        )  # fmt: skip
        for column, (optimizer, of_one) in enumerate(results.items()):
            above, below = panels[0][column], panels[1][column]
            above.set_title(find_optimizer(optimizer).label, fontweight="bold")
            _curves(above, of_one)
            _strip(below, of_one)
            below.set_xlabel("learning rate")
        limits = [loss_limits(*(np.array(r.losses) for r in of_one)) for of_one in results.values()]
        panels[0][0].set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        panels[0][0].set_ylabel("training loss")
        panels[1][0].set_yticks(range(len(RULES)), [NAMES.get(rule, rule) for rule in RULES])
        panels[1][0].set_ylim(len(RULES) - 0.4, -0.6)
        # Of all panels: the first may have no interval. Three columns are wider than a single panel.
        pairs = (pair for ax in panels[0] for pair in zip(*ax.get_legend_handles_labels(), strict=True))
        handles = {label: handle for handle, label in pairs}
        figure.legend(
            handles.values(), handles, loc="outside upper center", ncols=3 if len(results) > 1 else 2, frameon=False
        )  # fmt: skip
        files = [path.with_suffix(suffix) for suffix in (".pdf", ".png")]
        figure.savefig(files[0], metadata={"CreationDate": None, "Title": "LR range tests"})
        figure.savefig(files[1], dpi=200)
    return files


def _curves(ax: Axes, results: Sequence[RangeTestResult]) -> None:
    for index, result in enumerate(results):
        raw, smoothed = ("loss of each batch", "smoothed, one line a seed") if index == 0 else ("", "")
        ax.plot(result.lrs, result.losses, color=RAW, linewidth=0.5, zorder=1.5, label=raw)
        ax.plot(result.lrs, result.smoothed, color=SMOOTHED, linewidth=1.0, zorder=2, label=smoothed)
    _shade(ax, results, label="interval in which the loss falls")
    ax.set_xscale("log")


def _strip(ax: Axes, results: Sequence[RangeTestResult]) -> None:
    _shade(ax, results)
    by_rule = spreads(results)
    for row, rule in enumerate(RULES):
        colour = COLOURS[rule]
        ax.axhline(row, color="0.92", linewidth=0.6, zorder=0.5)
        points = [point for point in (value(result, rule) for result in results) if point is not None]
        ax.plot(
            points, [row] * len(points), linestyle="none", marker="o", markersize=4.5, color=colour,
            markerfacecolor="white", markeredgewidth=0.9, alpha=0.9,
        )  # fmt: skip
        mean = by_rule[rule].mean
        if mean is None:
            ax.annotate(
                "none", (0.01, row), xycoords=("axes fraction", "data"), va="center", color=colour, fontsize=7.5
            )
            continue
        ax.plot([mean], [row], marker="|", markersize=11, markeredgewidth=2.0, color=colour)
        # The value stands where it covers nothing: left of the leftmost ring, or right of all where the axis ends.
        at_edge = _share(min(points), results) < LABEL_SHARE
        ax.annotate(
            magnitude(mean), (max(points) if at_edge else min(points), row), xytext=(7 if at_edge else -7, 0),
            textcoords="offset points", ha="left" if at_edge else "right", va="center", color=colour, fontsize=7.5,
        )  # fmt: skip
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _share(rate: float, results: Sequence[RangeTestResult]) -> float:
    """Where a learning rate lies between the lowest and the highest that were tried, from 0 to 1 in the logarithm."""
    tried = [rate for result in results for rate in result.lrs]
    low, high = math.log(min(tried)), math.log(max(tried))
    return (math.log(rate) - low) / (high - low) if high > low else 0.0


def _shade(ax: Axes, results: Sequence[RangeTestResult], *, label: str | None = None) -> None:
    ends = spreads(results)
    low, high = ends["interval low"].mean, ends["interval high"].mean
    if low is not None and high is not None:
        ax.axvspan(low, high, color=INTERVAL, alpha=0.18, linewidth=0.0, label=label)
