"""Time to target: the share of runs that have reached it, against steps."""

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

MOST_COLUMNS = 4
"""Panels side by side."""

ROOM = 0.03
"""Share of the horizon that is left free beyond it, so that a step there is seen whole."""


class Curve(NamedTuple):
    """One method on one task.

    Attributes:
        steps: shape (k,), ascending from 0 to the horizon.
        share: shape (k,), of the runs that have reached the target, from each step on.
        low, high: shape (k,), its interval at each step; NaN is not drawn.
    """

    steps: Array
    share: Array
    low: Array
    high: Array


def draw(
    panels: Mapping[str, Mapping[str, Curve]], methods: Sequence[str], path: Path, *, baseline: str, target: str
) -> list[Path]:
    """Draw step curves, a panel for each task, with a bar at the horizon where runs are short of the target to the end.

    Args:
        panels: title -> method -> its curve.
        methods: their names, in the order of the tables.
        path: where to, without the suffix.
        baseline: name of the baseline among them.
        target: what is reached, for the label of the axis.

    Returns:
        The files written.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: the files cannot be written.
    """
    matplotlib = require("matplotlib")
    num_columns = min(MOST_COLUMNS, len(panels))
    num_rows = -(-len(panels) // num_columns)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(min(PAGE, 1.3 + 1.9 * max(2, num_columns)), 0.95 + 1.55 * num_rows)
        axes = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True)
        for axis, (title, curves) in zip(axes.flat, panels.items(), strict=False):
            _panel(axis, curves, methods, baseline)
            axis.set_title(title, loc="left")
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        axes[0][0].set_ylim(-0.04, 1.04)
        figure.supxlabel("step", fontsize=STYLE["axes.labelsize"])
        for row in axes:
            row[0].set_ylabel(f"share of runs at\n{target}")
        handles = list(axes[0][0].get_lines()[: len(methods)])
        if any(_banded(curve, methods) for curves in panels.values() for curve in curves.values()):
            handles.append(interval_handle("95 % interval at each step"))
        legend_above(figure, handles, num_columns=4 if num_columns > 2 else 2)
        return save(figure, path, f"time to {target}")


def _panel(axis: Axes, curves: Mapping[str, Curve], methods: Sequence[str], baseline: str) -> None:
    styles = looks(methods, baseline)
    for method in methods:
        steps, share, low, high = curves[method]
        look = without_marker(styles[method])
        if _banded(curves[method], methods):
            draw_interval(axis, steps, low, high, look, step="post")
        axis.plot(steps, share, drawstyle="steps-post", label=method, **look)
    short = {method: curves[method] for method in methods if curves[method].share[-1] < 1.0}
    for method, curve in short.items():
        axis.plot(curve.steps[-1:], curve.share[-1:], linestyle="none", marker="|", markersize=9.0, markeredgewidth=1.6,
                  color=styles[method]["color"], clip_on=False, zorder=5)  # fmt: skip
    horizon = max(float(curve.steps[-1]) for curve in curves.values())
    axis.set_xlim(0.0, (1.0 + ROOM) * horizon)
    axis.set_yticks(np.linspace(0.0, 1.0, 5))
    axis.grid(True)


def _banded(curve: Curve, methods: Sequence[str]) -> bool:
    return len(methods) <= MOST_BANDS and bool(np.isfinite(curve.low).all())
