"""The figure of a study: final loss against peak learning rate, a panel for each optimizer and base schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive_lr.study.errors import require
from adaptive_lr.study.recipe import OPTIMIZERS, RECIPES
from adaptive_lr.study.statistics import mean_interval
from adaptive_lr.study.summary import RecipeSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe & Ito's colours for colour-blind readers; one for each base schedule."""

ADAPTIVE: dict[str, Any] = {"linestyle": "-", "linewidth": 2.2, "marker": "o", "markersize": 5.5, "zorder": 2}
FIXED: dict[str, Any] = {
    "linestyle": (0, (3.0, 1.6)),
    "linewidth": 1.0,
    "marker": "o",
    "markersize": 2.8,
    "markerfacecolor": "white",
    "markeredgewidth": 0.9,
    "zorder": 3,
}
"""The fixed recipe is thin, dashed and on top: where the two are equal, both can be seen."""

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
}


def draw(summaries: Sequence[RecipeSummary], path: Path, *, workload: str) -> list[Path]:
    """Draw the figure, as PDF and as PNG.

    Each panel holds one base schedule with one optimizer: the fixed recipe dashed, its adaptive partner solid, both in
    the hue of the base. Points are means over seeds, bands their t-intervals; losses are clipped at the loss at
    initialisation, a dotted line. Both axes are logarithmic and shared by row, so panels compare at a glance.

    Args:
        summaries: what to draw; at least one.
        path: where to, without the suffix.
        workload: its name, for the axis.

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
    hues = {
        base: HUES[index % len(HUES)] for index, base in enumerate(name for name, r in RECIPES.items() if not r.partner)
    }
    with matplotlib.rc_context(STYLE):
        # Figure, not pyplot: no window system, no global state.
        figure = figure_class(figsize=(1.0 + 1.75 * max(2, len(bases)), 0.75 + 1.75 * len(optimizers)))
        panels = figure.subplots(len(optimizers), len(bases), sharex="row", sharey=True, squeeze=False)
        for row, optimizer in enumerate(optimizers):
            for column, base in enumerate(bases):
                chosen = [s for s in summaries if s.optimizer == optimizer and RECIPES[s.recipe].base == base]
                _panel(panels[row][column], chosen, hues[base])
                if row == 0:
                    panels[row][column].set_title(base, color=hues[base], fontweight="bold")
            panels[row][0].set_ylabel(f"{OPTIMIZERS[optimizer].label}\nfinal validation loss")
        figure.supxlabel("peak learning rate", fontsize=9)
        _legend(figure, summaries, num_columns=4 if len(bases) >= 4 else 2)
        files = [path.with_suffix(suffix) for suffix in (".pdf", ".png")]
        figure.savefig(
            files[0], metadata={"CreationDate": None, "Title": f"Loss against peak learning rate: {workload}"}
        )
        figure.savefig(files[1], dpi=200)
    return files


def _panel(axes: Axes, summaries: Sequence[RecipeSummary], hue: str) -> None:
    for summary in summaries:
        adaptive = RECIPES[summary.recipe].controllers is not None
        rates = [cell.peak_lr for cell in summary.cells]
        initial = _initial(summary)
        intervals = [mean_interval(cell.validation_losses) for cell in summary.cells]
        # The band cannot leave the range of the values it is about: (0, loss at initialisation].
        floor = 0.5 * min(min(cell.validation_losses) for cell in summary.cells)
        low = [max(floor, interval.low) for interval in intervals]
        high = [min(initial, interval.high) for interval in intervals]
        if not any(map(math.isnan, (*low, *high))):
            axes.fill_between(rates, low, high, color=hue, alpha=0.22 if adaptive else 0.12, linewidth=0.0)
        means = [interval.mean for interval in intervals]
        axes.plot(
            rates, means, color=hue if adaptive else _darker(hue), clip_on=False, **(ADAPTIVE if adaptive else FIXED)
        )
    if summaries:
        axes.axhline(_initial(summaries[0]), color="0.35", linestyle=":", linewidth=1.0, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticker = require("matplotlib.ticker")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.grid(True, which="major", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _darker(hue: str) -> tuple[float, ...]:
    red, green, blue = require("matplotlib.colors").to_rgb(hue)
    return (0.5 * red, 0.5 * green, 0.5 * blue)


def _initial(summary: RecipeSummary) -> float:
    """Mean loss at initialisation: of the seeds, which all recipes share."""
    return mean_interval(summary.cells[0].initial_losses).mean


def _legend(figure: Any, summaries: Sequence[RecipeSummary], *, num_columns: int) -> None:
    line = require("matplotlib.lines").Line2D
    patch = require("matplotlib.patches").Patch
    kinds = {RECIPES[summary.recipe].controllers is not None for summary in summaries}
    handles = []
    if False in kinds:
        handles.append(line([], [], color="0.15", label="fixed schedule", **FIXED))
    if True in kinds:
        handles.append(line([], [], color="0.5", label="the same, with AdaptiveLR", **ADAPTIVE))
    if all(len(cell.results) > 1 for summary in summaries for cell in summary.cells):
        handles.append(patch(facecolor="0.75", label="95 % t-interval over seeds"))
    handles.append(line([], [], color="0.35", linestyle=":", linewidth=1.0, label="loss at initialisation"))
    figure.legend(handles=handles, loc="outside upper center", ncols=num_columns, frameon=False, handlelength=2.6)
