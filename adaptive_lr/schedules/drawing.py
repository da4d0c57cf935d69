"""Schedules as a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from adaptive_lr.schedules import checks
from adaptive_lr.schedules.base import FloatArray, Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Okabe & Ito's palette, told apart with any colour vision; without its yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
GREY = "#555555"
MAX_TOGETHER = len(COLOURS)
POINTS = 2000


def draw(
    schedules: Mapping[str, Schedule],
    total_steps: int,
    path: str | os.PathLike[str] | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw the factor of each schedule over the steps, and the momentum of those that have one.

    Up to six schedules share one panel, with the momenta in a second one below; more get a small panel each, the
    momentum as a dashed line in it.

    Args:
        schedules: label -> schedule, at least one.
        total_steps: steps to draw, 0 to total_steps, >= 1.
        path: where to save it (the suffix gives the format); None: nowhere.
        ax: axes for the factors alone, all in one panel; None: a figure of its own.

    Returns:
        The figure, which belongs to no window.

    Raises:
        ImportError: matplotlib is missing.
        TypeError: a schedule is not one.
        ValueError: there is none, more than six for one `ax`, or `total_steps` < 1.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('drawing needs matplotlib: pip install "adaptive-lr[compare]"') from error
    checks.integer("total_steps", total_steps, at_least=1)
    if not schedules:
        raise ValueError("schedules must have at least one schedule, got none")
    for label, schedule in schedules.items():
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedules must map labels to schedules, got {schedule!r} for {label!r}")

    steps = _steps(total_steps)
    if ax is not None:
        if len(schedules) > MAX_TOGETHER:
            raise ValueError(f"schedules must be at most {MAX_TOGETHER} for one ax, got {len(schedules)}")
        _together(ax, {label: schedule(steps) for label, schedule in schedules.items()}, steps)
        figure = ax.get_figure(root=True)
        assert figure is not None
    elif len(schedules) <= MAX_TOGETHER:
        figure = Figure(layout="constrained")
        _one_panel(figure, schedules, steps)
    else:
        figure = Figure(layout="constrained")
        _small_panels(figure, schedules, steps)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _steps(total_steps: int) -> FloatArray:
    """Every step, or as many whole steps as a screen can show."""
    return np.unique(np.linspace(0, total_steps, min(total_steps, POINTS) + 1).round())


def _one_panel(figure: Figure, schedules: Mapping[str, Schedule], steps: FloatArray) -> None:
    momenta = {label: values for label, s in schedules.items() if (values := s.momentum(steps)) is not None}
    figure.set_size_inches(8.0, 6.0 if momenta else 4.2)
    if momenta:
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (2.2, 1.0)})
        for index, label in enumerate(schedules):
            if label in momenta:
                bottom.plot(steps, momenta[label], color=COLOURS[index], linewidth=2.0)
        bottom.set_ylabel("momentum")
        _tidy(bottom, steps)
        top.tick_params(labelbottom=False)
    else:
        top = bottom = figure.subplots()
    _together(top, {label: schedule(steps) for label, schedule in schedules.items()}, steps)
    if momenta:
        top.set_xlabel("")
        bottom.set_xlabel("step")


def _together(ax: Axes, factors: Mapping[str, FloatArray], steps: FloatArray) -> None:
    for (label, values), colour in zip(factors.items(), COLOURS, strict=False):
        ax.plot(steps, values, color=colour, linewidth=2.0, label=label)
    ax.set_ylabel("learning rate / peak")
    ax.set_xlabel("step")
    ax.set_ylim(bottom=0.0)
    _tidy(ax, steps)
    # Beside the panel, where it hides no line.
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.0, labelcolor="linecolor")


def _small_panels(figure: Figure, schedules: Mapping[str, Schedule], steps: FloatArray) -> None:
    columns = 4 if len(schedules) > 9 else 3
    rows = math.ceil(len(schedules) / columns)
    figure.set_size_inches(2.7 * columns, 1.9 * rows + 0.4)
    dashed: list[Line2D] = []
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, (label, schedule) in zip(panels, schedules.items(), strict=False):
        solid = panel.plot(steps, schedule(steps), color=COLOURS[0], linewidth=2.0)
        panel.set_title(label, fontsize=10, loc="left")
        momentum = schedule.momentum(steps)
        if momentum is not None:
            dashed = panel.plot(steps, momentum, color=COLOURS[1], linewidth=1.5, linestyle=(0, (4, 2)))
        _tidy(panel, steps)
    panels[0].set_ylim(bottom=0.0)
    for unused in panels[len(schedules) :]:
        unused.set_visible(False)
    # Where a panel is unused, the one above it is the last of its column and gets the numbers.
    for column in range(columns):
        panels[(len(schedules) - 1 - column) // columns * columns + column].tick_params(labelbottom=True)
    figure.supxlabel("step", fontsize=10)
    if dashed:
        names = ("learning rate / peak", "momentum")
        figure.legend(
            [*solid, *dashed], names, loc="outside upper right", ncols=2, frameon=False, labelcolor="linecolor"
        )
    else:
        figure.supylabel("learning rate / peak", fontsize=10)


def _tidy(ax: Axes, steps: FloatArray) -> None:
    ax.set_xlim(steps[0], steps[-1])
    ax.grid(visible=True, color="#E4E4E4", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(colors=GREY, labelsize=9)
    ax.locator_params(axis="x", nbins=5)
