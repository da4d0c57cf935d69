"""One style for all figures: the sizes of a paper's columns, looks that survive grey print, reproducible files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from adaptive_lr.study.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.35, 6.9
"""Width in inches of one column and of a page with two; figures are made at the size at which they are printed."""

STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "pdf.fonttype": 42,  # TrueType: publishers refuse type 3
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.wspace": 0.05,
}

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
"""Okabe & Ito's colours, told apart by colour-blind readers (without yellow, which is lost on paper)."""

BAND = 0.18
"""Opacity of a band."""

MOST_BANDS = 3
"""With more methods than this in a panel, intervals are left out: they would be mud."""

BASELINE: dict[str, Any] = {
    "color": "0.25",
    "linestyle": (0, (3.0, 1.6)),
    "linewidth": 1.2,
    "marker": "o",
    "markersize": 3.2,
    "markerfacecolor": "white",
    "markeredgewidth": 0.9,
    "zorder": 4,
}
"""The baseline is thin, dashed, grey and on top: where a method is equal to it, both can be seen."""

_LINES = ("-", (0, (5.0, 1.2)), (0, (4.0, 1.2, 1.0, 1.2)), (0, (1.2, 1.0)))
_MARKERS = ("D", "s", "^", "v", "P", "X", "<", ">", "h")

DPI = 200
"""Of the PNGs."""


def looks(methods: Sequence[str], baseline: str | None) -> dict[str, dict[str, Any]]:
    """Method -> the settings of its line: colour, line style and marker are all its own, so that grey print will do.

    Args:
        methods: in the order of the tables; the same list gives the same looks.
        baseline: the one of them that is grey and dashed, or None.
    """
    others = [method for method in methods if method != baseline]
    colours = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY)
    found = {
        method: {
            "color": colours[index % len(colours)],
            "linestyle": _LINES[index % len(_LINES)],
            "linewidth": 1.6,
            "marker": _MARKERS[index % len(_MARKERS)],
            "markersize": 4.4,
            "markeredgecolor": "white",
            "markeredgewidth": 0.4,
            "zorder": 3,
        }
        for index, method in enumerate(others)
    }
    return {method: found.get(method, BASELINE) for method in methods}


def without_marker(look: dict[str, Any]) -> dict[str, Any]:
    """The same line where there are too many points to mark."""
    return {name: value for name, value in look.items() if not name.startswith("marker")}


def draw_interval(axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, look: dict[str, Any], **how: Any) -> None:
    """An interval around a line: a light band, edged in the line's own colour and dashes, so that several can be told.

    Args:
        axes: where to.
        x: shape (k,).
        low: shape (k,).
        high: shape (k,).
        look: settings of the line.
        **how: for `Axes.fill_between`, such as ``step="post"``.
    """
    axes.fill_between(
        x, low, high, facecolor=(look["color"], BAND / 3), edgecolor=(look["color"], 0.7), linewidth=0.5,
        linestyle=look.get("linestyle", "-"), **how,
    )  # fmt: skip


def interval_handle(label: str) -> Any:
    """What stands for the intervals of all methods in a legend."""
    return require("matplotlib.patches").Patch(facecolor="0.94", edgecolor="0.5", linewidth=0.5, label=label)


def number_log_axis(axes: Axes) -> None:
    """Numbers on a logarithmic vertical axis, the more in each decade the fewer decades it spans.

    Plain where they are short, else all as multiples of powers of ten: 0.001 beside 1e-05 reads badly.
    """
    ticker = require("matplotlib.ticker")
    low, high = axes.get_ylim()
    span = high / low
    subs = (1.0, 2.0, 3.0, 5.0, 7.0) if span < 10.0 else (1.0, 2.0, 5.0) if span < 100.0 else (1.0, 3.0)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs if span < 1e3 else (1.0,)))
    plain = ticker.FormatStrFormatter("%g") if low >= 1e-3 and high <= 1e5 else None
    every_tick = (math.inf, math.inf)  # by default only whole powers where there are several decades
    axes.yaxis.set_major_formatter(plain or ticker.LogFormatterSciNotation(minor_thresholds=every_tick))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def new_figure(width: float, height: float) -> Figure:
    """A figure of that size in inches; not pyplot's: no window system, no global state.

    Raises:
        StudyError: matplotlib is not installed.
    """
    figure: Figure = require("matplotlib.figure").Figure(figsize=(width, height))
    return figure


def legend_above(figure: Figure, handles: Iterable[Any], *, num_columns: int) -> None:
    """The legend of a whole figure, above its panels."""
    figure.legend(handles=list(handles), loc="outside upper center", ncols=num_columns)


def save(figure: Figure, path: Path, title: str) -> list[Path]:
    """Write a figure as PDF and as PNG; the PDF has no date in it: the same numbers make the same bytes.

    Args:
        figure: what to write.
        path: where to, without the suffix; the folder exists.
        title: for the record in the PDF.

    Raises:
        OSError: the files cannot be written.
    """
    files = [path.with_name(path.name + suffix) for suffix in (".pdf", ".png")]
    figure.savefig(files[0], metadata={"CreationDate": None, "Title": title})
    figure.set_layout_engine("none")  # it is laid out; once is enough
    figure.savefig(files[1], dpi=DPI)
    return files
