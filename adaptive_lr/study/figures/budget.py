"""What tuning buys: the expected best against the number of settings tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from adaptive_lr.study.statistics import TuningCurve


def draw(
    panels: Mapping[str, Mapping[str, TuningCurve]],
    methods: Sequence[str],
    path: Path,
    *,
    baseline: str,
    label: str,
    mean_of: int,
) -> list[Path]:
    """Draw the curves with their bands, a panel for each optimizer; a method with one setting is a level.

    Args:
        panels: optimizer -> method -> its curve over 1, 2, ..., n settings.
        methods: all names, in the order of the tables.
        path: where to, without the suffix.
        baseline: name of the baseline among them.
        label: of the vertical axis.
        mean_of: how many tasks a curve is the mean of, which says what its band is.

    Returns:
        The files written.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: the files cannot be written.
    """
    matplotlib = require("matplotlib")
    styles = looks(methods, baseline)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(PAGE, 2.75)
        axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        handles: dict[str, Any] = {}
        few = len(methods) <= MOST_BANDS
        banded = False
        for panel, (optimizer, curves) in zip(axes, panels.items(), strict=True):
            longest = max(len(curve.expected) for curve in curves.values())
            for method, curve in curves.items():
                settings = np.arange(1, len(curve.expected) + 1)
                if len(settings) == 1:  # it has nothing to tune: what others must reach
                    level = without_marker(styles[method]) | {"linewidth": 0.8}
                    panel.plot([1, longest], [curve.expected[0]] * 2, **level)
                if few and np.isfinite(curve.low).all():
                    banded = True
                    draw_interval(panel, settings, curve.low, curve.high, styles[method])
                handles[method] = panel.plot(settings, curve.expected, label=method, **styles[method])[0]
            panel.set_title(optimizer, loc="left")
            panel.set_xlabel("settings tried, each a whole run")
            panel.xaxis.set_major_locator(require("matplotlib.ticker").MaxNLocator(integer=True))
            panel.grid(True)
        axes[0].set_ylabel(label)
        what = (
            "95 % band, were the settings drawn at random"
            if mean_of == 1
            else f"95 % interval of the mean over {mean_of} tasks"
        )
        if banded:
            handles[""] = interval_handle(what)
        legend_above(figure, (handles[m] for m in [*methods, ""] if m in handles), num_columns=4)
        return save(figure, path, label.replace("\n", " "))
