"""One run: its losses, its learning rate, and what was decided when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adaptive_lr.study.errors import require
from adaptive_lr.study.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    STYLE,
    VERMILION,
    new_figure,
    number_log_axis,
    save,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from adaptive_lr.study.run import RunResult

WIDTH, HEIGHT = 5.2, 3.5

MARKS = (VERMILION, GREEN, PURPLE, ORANGE, SKY)
SHAPES = ("v", "o", "s", "D", "^")

MOST_NUMBERED = 12
"""Decisions that get a line through both panels; of more there are only marks."""


def draw(result: RunResult, path: Path, *, title: str) -> list[Path]:
    """Draw the loss of a run over its learning rate, both over steps, with every decision marked above and on the rate.

    Args:
        result: a run that was carried out.
        path: where to, without the suffix.
        title: above the figure: what was trained, and how.

    Returns:
        The files written.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: the files cannot be written.
    """
    matplotlib = require("matplotlib")
    with matplotlib.rc_context(STYLE):
        figure = new_figure(WIDTH, HEIGHT)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.25, 1.0))
        steps = np.arange(len(result.train_losses))
        losses = np.array(result.train_losses, dtype=np.float64)
        losses[~np.isfinite(losses)] = np.nan
        above.plot(steps, losses, color="0.7", linewidth=0.8, label="training loss, each batch")
        above.plot(
            [step for step, *_ in result.evaluations], [loss for _, loss, _ in result.evaluations],
            color="0.1", linewidth=1.3, marker="o", markersize=3.0, label="validation loss",
        )  # fmt: skip
        above.set_yscale("log" if np.nanmin(losses, initial=math.inf) > 0.0 else "linear")
        above.set_ylabel("loss")
        rates = np.array(result.learning_rates, dtype=np.float64)
        below.plot(steps, np.where(rates > 0.0, rates, np.nan), color=BLUE, linewidth=1.3)
        below.set_yscale("log")
        below.set_ylabel("learning rate used")
        below.set_xlabel("step")
        _marks(above, below, result.decisions, rates)
        for panel in (above, below):
            panel.grid(True)
            panel.margins(x=0.02)
            if panel.get_yscale() == "log":
                number_log_axis(panel)
        handles, labels = above.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, title=title, title_fontsize=8)
        return save(figure, path, title)


def _marks(above: Axes, below: Axes, decisions: Sequence[Mapping[str, Any]], rates: np.ndarray) -> None:
    kinds = list(dict.fromkeys(map(_kind, decisions)))
    few = len(decisions) <= MOST_NUMBERED
    offset_copy = require("matplotlib.transforms").offset_copy
    lifted = [sum(other["step"] == d["step"] for other in decisions[:place]) for place, d in enumerate(decisions)]
    for index, kind in enumerate(kinds):
        look: dict[str, Any] = {
            "linestyle": "none", "marker": SHAPES[index % len(SHAPES)], "markersize": 5.5, "clip_on": False,
            "color": MARKS[index % len(MARKS)], "markeredgecolor": "white", "markeredgewidth": 0.6, "zorder": 5,
        }  # fmt: skip
        own = [place for place, d in enumerate(decisions) if _kind(d) == kind]
        label = kind + (f" ({len(own)})" if len(own) > 1 else "")
        for number, place in enumerate(own):
            step = min(max(int(decisions[place]["step"]), 0), len(rates) - 1)
            # On the upper edge, where no loss is hidden; several decisions of one step stand above each other.
            lift = offset_copy(
                above.get_xaxis_transform(), above.figure, y=4 + 6.5 * min(lifted[place], 4), units="points"
            )
            above.plot([step], [1.0], transform=lift, label=label if number == 0 else None, **look)
            below.plot([step], [rates[step]], **look | {"markersize": 3.0, "markeredgewidth": 0.3})
            if few:
                for panel in (above, below):
                    panel.axvline(step, color=look["color"], linewidth=0.7, alpha=0.6, zorder=1)


def _kind(decision: Mapping[str, Any]) -> str:
    """What is in the legend: the law, and what it did where that says more."""
    controller, action = (str(decision[name]).replace("_", " ") for name in ("controller", "action"))
    return controller if controller == action else f"{controller}: {action}"
