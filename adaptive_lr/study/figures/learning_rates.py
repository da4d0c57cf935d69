"""How a run ends against the learning rate given, by optimizer and base schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from adaptive_lr.study.errors import require
from adaptive_lr.study.figures.style import (
    BAND,
    BASELINE,
    BLUE,
    PAGE,
    STYLE,
    VERMILION,
    legend_above,
    new_figure,
    number_log_axis,
    save,
)
from adaptive_lr.study.recipe import Recipe, find_optimizer, find_recipe
from adaptive_lr.study.summary import Cell, RecipeSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIXED = BASELINE | {"markersize": 2.6, "linewidth": 1.0, "markeredgewidth": 0.8}
GUARDED: dict[str, Any] = {"color": BLUE, "linewidth": 1.9, "marker": "o", "markersize": 4.2, "zorder": 2}
AUTOMATIC: dict[str, Any] = {"color": VERMILION, "linewidth": 1.9, "marker": "D", "markersize": 3.8, "zorder": 3}

WIDE = 1.6
"""Width of a panel with an automatic recipe, in widths of the others: it is what there is most to see in."""

MOST_COLUMNS = 4
"""Panels side by side; of more base schedules each optimizer has several rows."""


class Measure(NamedTuple):
    """What is drawn of the runs of a cell.

    Attributes:
        label: of the axis.
        values: cell -> one value for each seed; lower is better.
        start: cell -> the same before the first update.
    """

    label: str
    values: Callable[[Cell], list[float]]
    start: Callable[[Cell], list[float]]


LOSS = Measure("final validation loss", lambda cell: cell.validation_losses, lambda cell: cell.initial_losses)
ERROR = Measure(
    "final test error, %",
    lambda cell: [100.0 * (1.0 - accuracy) for accuracy in cell.test_accuracies or ()],
    lambda cell: [100.0 * (1.0 - accuracy) for accuracy in cell.initial_accuracies or ()],
)


def draw(summaries: Sequence[RecipeSummary], path: Path, *, workload: str, measure: Measure = LOSS) -> list[Path]:
    """Draw a figure, as PDF and as PNG.

    A row for each optimizer and a column for each base schedule: the fixed recipe dashed, the same one guarded in blue,
    and in the panel of its base the one that finds its own peak in orange. Points are means over seeds, bands reach
    from the best to the worst seed; a dotted line is where runs start, and losses are clipped there. Both axes are
    logarithmic; the vertical one is shared by all panels.

    Args:
        summaries: what to draw; at least one.
        path: where to, without the suffix.
        workload: its title, for the record in the PDF.
        measure: what to draw.

    Returns:
        The files written. The PDF has no date in it: the same numbers make the same bytes.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: the files cannot be written.
    """
    matplotlib = require("matplotlib")
    optimizers = list(dict.fromkeys(summary.optimizer for summary in summaries))
    bases = list(dict.fromkeys(find_recipe(summary.recipe).base for summary in summaries))
    wide = {find_recipe(summary.recipe).base for summary in summaries if find_recipe(summary.recipe).finds_peak}
    num_columns = min(len(bases), MOST_COLUMNS)
    lines = [(o, bases[i : i + num_columns]) for o in optimizers for i in range(0, len(bases), num_columns)]
    widths = [WIDE if column == 0 and bases[0] in wide else 1.0 for column in range(num_columns)]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(min(PAGE, 1.6 + 1.25 * max(2.0, sum(widths))), 0.7 + 1.75 * len(lines))
        panels = figure.subplots(len(lines), num_columns, sharey=True, squeeze=False, width_ratios=widths)
        for row, (optimizer, of_row) in enumerate(lines):
            for column, base in enumerate(of_row):
                chosen = [s for s in summaries if s.optimizer == optimizer and find_recipe(s.recipe).base == base]
                _panel(panels[row][column], chosen, measure, num_ticks=12 if widths[column] > 1.0 else 4)
                if row == 0 or len(bases) > num_columns:
                    panels[row][column].set_title(base, fontweight="normal")
            for unused in panels[row][len(of_row) :]:
                unused.set_visible(False)
            if row == 0 or lines[row - 1][0] != optimizer:  # above the names of the bases, where they are
                named = row == 0 or len(bases) > num_columns
                panels[row][0].set_title(find_optimizer(optimizer).label + ("\n" if named else ""), loc="left")
            panels[row][0].set_ylabel(measure.label)
        number_log_axis(panels[0][0])
        figure.supxlabel("learning rate given", fontsize=STYLE["axes.labelsize"])
        legend_above(figure, _handles(summaries), num_columns=3 if num_columns >= 3 else 2)
        return save(figure, path, f"{measure.label} against the learning rate given: {workload}")


def _panel(axes: Axes, summaries: Sequence[RecipeSummary], measure: Measure, *, num_ticks: int) -> None:
    for summary in summaries:
        look = _look(find_recipe(summary.recipe))
        rates = [cell.peak_lr for cell in summary.cells]
        values = [measure.values(cell) for cell in summary.cells]
        if any(len(of_seeds) > 1 for of_seeds in values):
            opacity = BAND if find_recipe(summary.recipe).controllers is not None else BAND / 2
            low, high = list(map(min, values)), list(map(max, values))
            axes.fill_between(rates, low, high, color=look["color"], alpha=opacity, linewidth=0.0)
        axes.plot(rates, list(map(fmean, values)), clip_on=False, **look)
    if summaries:
        axes.axhline(fmean(measure.start(summaries[0].cells[0])), color="0.35", linestyle=":", linewidth=1.0, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticker = require("matplotlib.ticker")
    axes.xaxis.set_major_locator(ticker.LogLocator(numticks=num_ticks))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.grid(True)


def _look(recipe: Recipe) -> dict[str, Any]:
    if recipe.controllers is None:
        return FIXED
    return AUTOMATIC if recipe.finds_peak else GUARDED


def _handles(summaries: Sequence[RecipeSummary]) -> list[Any]:
    line = require("matplotlib.lines").Line2D
    patch = require("matplotlib.patches").Patch
    recipes = [find_recipe(summary.recipe) for summary in summaries]
    handles: list[Any] = []
    if any(recipe.controllers is None for recipe in recipes):
        handles.append(line([], [], label="fixed schedule", **FIXED))
    if any(recipe.controllers is not None and not recipe.finds_peak for recipe in recipes):
        handles.append(line([], [], label="the same, guarded", **GUARDED))
    if any(recipe.finds_peak for recipe in recipes):
        handles.append(line([], [], label="automatic: finds its own peak", **AUTOMATIC))
    if any(len(cell.results) > 1 for summary in summaries for cell in summary.cells):
        handles.append(patch(facecolor="0.8", label="best to worst seed"))
    handles.append(line([], [], color="0.35", linestyle=":", linewidth=1.0, label="at initialisation"))
    return handles
