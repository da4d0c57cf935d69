"""How numbers and tables are written in the paper."""

from __future__ import annotations

from collections.abc import Sequence

from adaptive_lr.study.paper import escape

OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
"""Names of optimizers -> how they are called."""


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, as mathematics: 0.00123, 1.2 x 10^-5, -3.4."""
    text = f"{value:.{digits}g}"
    mantissa, exponent_sign, exponent = text.partition("e")
    return rf"${mantissa}\times10^{{{int(exponent)}}}$" if exponent_sign else f"${text}$"


def points(value: float) -> str:
    """Percentage points with their sign, to a tenth."""
    return f"${round(value, 1) + 0.0:+.1f}$"


def percent(share: float) -> str:
    """A share as a percentage, to a tenth."""
    return rf"{100.0 * share:.1f}\,\%"


def signed(share: float) -> str:
    """A change as a percentage with its sign, to a tenth."""
    return rf"${round(100.0 * share, 1) + 0.0:+.1f}\,\%$"


def tabular(
    columns: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, spans: Sequence[tuple[str, int]] = ()
) -> str:
    r"""A booktabs table.

    Args:
        columns: LaTeX's column letters.
        heads: the head of each column, as LaTeX.
        rows: cells, as LaTeX.
        spans: a line above the heads: (text, number of columns), an empty text for none.
    """
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    if spans:
        first, cells, rules = 1, [], []
        for text, width in spans:
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{text}}}")
            if text:
                rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
            first += width
        lines += [" & ".join(cells) + r" \\", "".join(rules)]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    lines += [" & ".join(cells) + r" \\" for cells in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


__all__ = ["OPTIMIZERS", "escape", "number", "percent", "points", "signed", "tabular"]
