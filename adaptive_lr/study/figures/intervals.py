"""Pooled figures with their intervals, a line for each method: interquartile mean, median, rates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from adaptive_lr.study.errors import require
from adaptive_lr.study.figures.style import PAGE, STYLE, legend_above, looks, new_figure, save
from adaptive_lr.study.statistics import Estimates


def draw(
    panels: Mapping[str, Mapping[str, Estimates]],
    methods: Sequence[str],
    path: Path,
    *,
    baseline: str,
    marks: Mapping[str, float],
    shares: Collection[str],
    title: str,
) -> list[Path]:
    """Draw points with intervals: a row of panels for each optimizer, a column for each figure.

    Args:
        panels: optimizer -> what is estimated -> estimates of shape (methods,).
        methods: their names, from the top down.
        path: where to, without the suffix.
        baseline: name of the baseline among them.
        marks: what is estimated -> where a dotted line stands, such as the baseline's value.
        shares: what is estimated and lies in [0, 1]; all of that is shown.
        title: for the record in the PDF.

    Returns:
        The files written.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: the files cannot be written.
    """
    matplotlib = require("matplotlib")
    columns = list(next(iter(panels.values())))
    with matplotlib.rc_context(STYLE):
        figure = new_figure(PAGE, 0.7 + len(panels) * (0.35 + 0.17 * len(methods)))
        axes = figure.subplots(len(panels), len(columns), squeeze=False, sharey=True, sharex="col")
        styles = looks(methods, baseline)
        for row, (optimizer, estimates) in enumerate(panels.items()):
            for column, name in enumerate(columns):
                panel = axes[row][column]
                values, low, high = estimates[name]
                if name in marks:
                    panel.axvline(marks[name], color="0.35", linestyle=":", linewidth=1.0, zorder=1)
                for place, method in enumerate(methods):
                    look = styles[method]
                    if np.isfinite(low[place]):
                        panel.plot([low[place], high[place]], [place, place], color=look["color"], linewidth=1.8)
                    point = {key: value for key, value in look.items() if not key.startswith("line")}
                    panel.plot([values[place]], [place], linestyle="none", **point | {"markersize": 4.5})
                panel.grid(True, axis="x")
                if name in shares:
                    panel.set_xlim(-0.03, 1.03)
                panel.tick_params(axis="y", length=0)
                if row == len(panels) - 1:
                    panel.set_xlabel(name)
            axes[row][0].set_title(optimizer, loc="left")
        axes[0][0].set_yticks(range(len(methods)), methods)
        axes[0][0].set_ylim(len(methods) - 0.5, -0.5)
        line = require("matplotlib.lines").Line2D
        handles = [line([], [], color="0.35", linestyle=":", linewidth=1.0, label=f"as good as {baseline}")]
        if any(np.isfinite(found.low).any() for estimates in panels.values() for found in estimates.values()):
            handles.insert(0, line([], [], color="0.35", linewidth=1.8, label="95 % interval"))
        legend_above(figure, handles, num_columns=2)
        return save(figure, path, title)
