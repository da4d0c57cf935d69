"""The figures of a study: how a run ends against the learning rate given, by optimizer and base schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from adaptive_lr.study.errors import require
from adaptive_lr.study.recipe import OPTIMIZERS, RECIPES, Recipe
from adaptive_lr.study.summary import Cell, RecipeSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIXED: dict[str, Any] = {
    "color": "0.25",
    "linestyle": (0, (3.0, 1.6)),
    "linewidth": 1.0,
    "marker": "o",
    "markersize": 2.6,
    "markerfacecolor": "white",
    "markeredgewidth": 0.8,
    "zorder": 4,
}
"""The fixed recipe is thin, dashed and on top: where guarded is equal to it, both can be seen."""

GUARDED: dict[str, Any] = {"color": "#0072B2", "linewidth": 2.2, "marker": "o", "markersize": 5.0, "zorder": 2}
AUTOMATIC: dict[str, Any] = {"color": "#D55E00", "linewidth": 2.2, "marker": "D", "markersize": 4.5, "zorder": 3}
"""Two of Okabe & Ito's colours for colour-blind readers."""

BAND = 0.18
"""Opacity of a band; of those of fixed recipes half."""

WIDE = 1.6
"""Width of a panel with an automatic recipe, in widths of the others: it is what there is most to see in."""

STYLE: dict[str, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "pdf.fonttype": 42,  # TrueType: publishers refuse type 3
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.04,
}


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
    figure_class = require("matplotlib.figure").Figure
    optimizers = list(dict.fromkeys(summary.optimizer for summary in summaries))
    bases = list(dict.fromkeys(RECIPES[summary.recipe].base for summary in summaries))
    wide = {RECIPES[summary.recipe].base for summary in summaries if RECIPES[summary.recipe].finds_peak}
    widths = [WIDE if base in wide else 1.0 for base in bases]
    with matplotlib.rc_context(STYLE):
        # Figure, not pyplot: no window system, no global state.
        figure = figure_class(figsize=(1.0 + 1.75 * max(2.6, sum(widths)), 0.85 + 1.75 * len(optimizers)))
        panels = figure.subplots(len(optimizers), len(bases), sharey=True, squeeze=False, width_ratios=widths)
        for row, optimizer in enumerate(optimizers):
            for column, base in enumerate(bases):
                chosen = [s for s in summaries if s.optimizer == optimizer and RECIPES[s.recipe].base == base]
                _panel(panels[row][column], chosen, measure, num_ticks=12 if base in wide else 4)
                if row == 0:
                    panels[row][column].set_title(base, fontweight="bold")
            panels[row][0].set_ylabel(f"{OPTIMIZERS[optimizer].label}\n{measure.label}")
        figure.supxlabel("learning rate given", fontsize=STYLE["axes.labelsize"])
        _legend(figure, summaries, num_columns=5 if len(bases) >= 4 else 2)
        files = [path.with_suffix(suffix) for suffix in (".pdf", ".png")]
        figure.savefig(
            files[0],
            metadata={"CreationDate": None, "Title": f"{measure.label} against the learning rate given: {workload}"},
        )
        figure.savefig(files[1], dpi=200)
    return files


def _panel(axes: Axes, summaries: Sequence[RecipeSummary], measure: Measure, *, num_ticks: int) -> None:
    for summary in summaries:
        look = _look(RECIPES[summary.recipe])
        rates = [cell.peak_lr for cell in summary.cells]
        values = [measure.values(cell) for cell in summary.cells]
        if any(len(of_seeds) > 1 for of_seeds in values):
            opacity = BAND if RECIPES[summary.recipe].controllers is not None else BAND / 2
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
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(True, which="major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _look(recipe: Recipe) -> dict[str, Any]:
    if recipe.controllers is None:
        return FIXED
    return AUTOMATIC if recipe.finds_peak else GUARDED


def _legend(figure: Any, summaries: Sequence[RecipeSummary], *, num_columns: int) -> None:
    line = require("matplotlib.lines").Line2D
    patch = require("matplotlib.patches").Patch
    recipes = [RECIPES[summary.recipe] for summary in summaries]
    handles = []
    if any(recipe.controllers is None for recipe in recipes):
        handles.append(line([], [], label="fixed schedule", **FIXED))
    if any(recipe.controllers is not None and not recipe.finds_peak for recipe in recipes):
        handles.append(line([], [], label="the same, guarded", **GUARDED))
    if any(recipe.finds_peak for recipe in recipes):
        handles.append(line([], [], label="automatic: finds its own peak", **AUTOMATIC))
    if any(len(cell.results) > 1 for summary in summaries for cell in summary.cells):
        handles.append(patch(facecolor="0.8", label="best to worst seed"))
    handles.append(line([], [], color="0.35", linestyle=":", linewidth=1.0, label="at initialisation"))
    figure.legend(handles=handles, loc="outside upper center", ncols=num_columns, frameon=False, handlelength=2.4)
