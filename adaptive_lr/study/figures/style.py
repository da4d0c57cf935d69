"""One style for all figures: the sizes of a paper's columns, looks that survive grey print, reproducible files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive_lr.study.errors import require

if TYPE_CHECKING:
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

MOST_BANDS = 5
"""With more methods than this in a panel, bands are left out: they would be mud."""

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
