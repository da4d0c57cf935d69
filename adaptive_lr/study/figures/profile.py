"""The profiles: how fast on how many tasks, and how many runs score how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from adaptive_lr.study.errors import require
from adaptive_lr.study.figures.style import (
    MOST_BANDS,
    PAGE,
    STYLE,
    draw_interval,
    interval_handle,
    legend_above,
    looks,
    new_figure,
    save,
    without_marker,
)
from adaptive_lr.study.statistics.resampling import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Curves(NamedTuple):
    """Step curves of several methods with their bands.

    Attributes:
        places: shape (k,), ascending.
        values, low, high: shape (methods, k), shares in [0, 1]; NaN bounds are not drawn.
    """

    places: Array
    values: Array
    low: Array
    high: Array


def draw(
    panels: Mapping[str, tuple[Curves, Curves]],
    methods: Sequence[str],
    path: Path,
    *,
    baseline: str,
    target: str,
    score: str,
) -> list[Path]:
    """Draw performance profiles (left) and distributions of scores (right), a row for each optimizer.

    Args:
        panels: optimizer -> its two sets of curves, over the ratio to the best time and over the score.
        methods: their names; the first axis of every curve.
        path: where to, without the suffix.
        baseline: name of the baseline among them.
        target: what is reached, for the label of the axis.
        score: label of the axis of scores.

    Returns:
        The files written.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: the files cannot be written.
    """
    matplotlib = require("matplotlib")
    with matplotlib.rc_context(STYLE):
        figure = new_figure(PAGE, 0.75 + 2.0 * len(panels))
        axes = figure.subplots(len(panels), 2, squeeze=False, sharey=True, sharex="col")
        for row, (optimizer, (profile, distribution)) in enumerate(panels.items()):
            _curves(axes[row][0], profile, methods, baseline)
            _curves(axes[row][1], distribution, methods, baseline)
            axes[row][0].set_xscale("log", base=2)
            axes[row][0].set_title(optimizer, loc="left")
            axes[row][0].set_ylabel("share of tasks")
            axes[row][1].set_ylabel("share of runs that score more")
            axes[row][0].set_ylim(-0.03, 1.03)
        ticker = require("matplotlib.ticker")
        axes[-1][0].xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes[-1][0].set_xlabel(f"steps to {target},\nat most this many times the fastest method's")
        axes[-1][1].set_xlabel(score)
        handles = list(axes[0][0].get_lines())
        if any(_banded(curves, methods) for pair in panels.values() for curves in pair):
            handles.append(interval_handle("95 % interval at each place"))
        legend_above(figure, handles, num_columns=min(5, len(handles)))
        return save(figure, path, "performance profile and distribution of scores")


def _curves(axes: Axes, curves: Curves, methods: Sequence[str], baseline: str) -> None:
    styles = looks(methods, baseline)
    for index, method in enumerate(methods):
        look = without_marker(styles[method])
        low, high = curves.low[index], curves.high[index]
        if _banded(curves, methods):
            draw_interval(axes, curves.places, low, high, look, step="post")
        axes.plot(curves.places, curves.values[index], drawstyle="steps-post", label=method, **look)
    axes.set_xlim(curves.places[0], curves.places[-1])
    axes.grid(True)


def _banded(curves: Curves, methods: Sequence[str]) -> bool:
    return len(methods) <= MOST_BANDS and bool(np.isfinite(curves.low).all())
