"""A table of text, and what it is written as: CSV, Markdown, LaTeX, or a table in the terminal."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptive_lr.study.errors import require

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "⁺": "$^{+}$", "⁻": "$^{-}$", "ⁿ": "$^{n}$", "≤": r"$\le$",
}  # fmt: skip
"""What LaTeX reads otherwise than it stands, and the signs that the tables use."""


@dataclass(frozen=True)
class Table:
    """Cells of text under headings; the first column is aligned left, the others right.

    Attributes:
        title: above it.
        headings: one for each column.
        rows: as many cells each.
        notes: sentences below it, which say what the columns mean.

    Raises:
        ValueError: a row of another length.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lengths = {len(row) for row in self.rows}
        if not lengths <= {len(self.headings)}:
            raise ValueError(f"rows must have {len(self.headings)} cells, as many as headings, got {sorted(lengths)}")


def markdown(table: Table) -> str:
    """The table with its title as a heading and its notes as a list."""
    lines = [
        f"## {table.title}",
        "",
        _markdown_row(table.headings),
        _markdown_row(["---", *["---:"] * (len(table.headings) - 1)]),
        *map(_markdown_row, table.rows),
    ]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in table.notes)] if table.notes else [])]) + "\n"


def latex(table: Table) -> str:
    r"""A booktabs ``tabular`` and nothing around it: caption and label stay in the paper.

    The title and the notes stand in it as comments.
    """
    comments = [f"% {line}" for text in (table.title, *table.notes) for line in text.splitlines()]
    body = [
        rf"\begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}",
        r"\toprule",
        _latex_row(table.headings),
        r"\midrule",
        *map(_latex_row, table.rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*comments, *body]) + "\n"


def csv_text(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Numbers at full precision, one line a row; None and NaN are empty."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(headings)
    for row in rows:
        writer.writerow(["" if value is None or value != value else _exact(value) for value in row])
    return output.getvalue()


def terminal(table: Table, width: int | None = None) -> RichTable:
    """A rich table.

    Args:
        table: what to show.
        width: characters in a line; where the table has more, intervals stand below their values, and not broken
            wherever the line ends. None: no edge.

    Raises:
        StudyError: rich is not installed.
    """
    literal = require("rich.text").Text  # brackets of a name are no markup
    rich: RichTable = require("rich.table").Table(
        title=literal(table.title), title_justify="left", title_style="bold", box=require("rich.box").SIMPLE_HEAD,
        pad_edge=False, collapse_padding=True,
    )  # fmt: skip
    for index, heading in enumerate(table.headings):
        rich.add_column(literal(heading), justify="left" if index == 0 else "right")
    needed = sum(max(map(len, column)) + 2 for column in zip(table.headings, *table.rows, strict=True))
    below = width is not None and needed > width
    for label, *cells in table.rows:
        rich.add_row(literal(label), *(literal(cell.replace(" [", "\n[") if below else cell) for cell in cells))
    return rich


def escape(text: str) -> str:
    """Text as LaTeX prints it; a hyphen before a number that stands alone is a minus sign."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w.})-])-(?=\d)", "$-$", escaped)


def with_uncertainty(value: float, half: float) -> str:
    """A number with half the width of its interval, both to the digits that the latter deserves: two of its own.

    0.12345 ± 0.0678 is 0.123 ± 0.068; where the width is not known the value stands alone, with four digits.
    """
    if not math.isfinite(half):
        return f"{value:.4g}"
    if half == 0.0:
        return f"{value + 0.0:.4g} ± 0"
    digits = max(0, 1 - math.floor(math.log10(float(f"{half:.1e}"))))
    return f"{round(value, digits) + 0.0:.{digits}f} ± {half:.{digits}f}"


def between(value: float, low: float, high: float) -> str:
    """A number in [0, 1] or near it with its interval, which need not be symmetric."""
    return f"{value:.2f}" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def probability(p_value: float) -> str:
    """A p-value, as it is printed."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}" if p_value < 0.1 else f"{p_value:.2f}"


def _exact(value: object) -> object:
    return repr(float(value)) if isinstance(value, float) else value


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"
