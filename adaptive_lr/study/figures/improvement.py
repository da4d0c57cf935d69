"""The probability of improvement over the baseline, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from adaptive_lr.study.errors import require
from adaptive_lr.study.figures.style import PAGE, STYLE, legend_above, looks, new_figure, save
from adaptive_lr.study.statistics import Estimates

WORTHWHILE = 0.75
"""From here on an improvement counts as one that will be met again (Bouthillier et al. 2021, arXiv:2103.03098)."""


def draw(panels: Mapping[str, Estimates], methods: Sequence[str], path: Path, *, baseline: str) -> list[Path]:
    """Draw bars from one half to the probability that a run beats one of the baseline, a panel for each optimizer.

    Args:
        panels: optimizer -> estimates of shape (methods,).
        methods: their names, from the top down; the baseline has no bar.
        path: where to, without the suffix.
        baseline: name of the baseline among them.

    Returns:
        The files written.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: the files cannot be written.
    """
    matplotlib = require("matplotlib")
    shown = [(index, method) for index, method in enumerate(methods) if method != baseline]
    styles = looks(methods, baseline)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(PAGE, 1.0 + 0.19 * len(shown))
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for panel, (optimizer, (values, low, high)) in zip(axes, panels.items(), strict=True):
            for place, (index, method) in enumerate(shown):
                colour = styles[method]["color"]
                panel.barh(place, values[index] - 0.5, left=0.5, height=0.62, color=colour, alpha=0.45, linewidth=0.0)
                if np.isfinite(low[index]):
                    panel.plot([low[index], high[index]], [place, place], color=colour, linewidth=1.8)
                panel.plot([values[index]], [place], marker="|", color=colour, markersize=8, markeredgewidth=1.8)
            panel.axvline(0.5, color="0.25", linewidth=0.9)
            panel.axvline(WORTHWHILE, color="0.35", linestyle=":", linewidth=1.0)
            panel.set_xlim(-0.02, 1.02)
            panel.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
            panel.set_title(optimizer, loc="left")
            panel.grid(True, axis="x")
            panel.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(shown)), [method for _, method in shown])
        axes[0].set_ylim(len(shown) - 0.5, -0.5)
        line = require("matplotlib.lines").Line2D
        mark = f"{WORTHWHILE:g}: from here on an improvement counts as reliable (Bouthillier et al. 2021)"
        handles = [line([], [], color="0.35", linestyle=":", linewidth=1.0, label=mark)]
        if any(np.isfinite(estimates.low[index]) for estimates in panels.values() for index, _ in shown):
            handles.insert(0, line([], [], color="0.35", linewidth=1.8, label="95 % interval"))
        legend_above(figure, handles, num_columns=2)
        figure.supxlabel(f"probability that a run is better than one of {baseline}", fontsize=STYLE["axes.labelsize"])
        return save(figure, path, f"probability of improvement over {baseline}")
