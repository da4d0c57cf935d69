"""The tables of a comparison on one workload: in the terminal, as CSV, Markdown and LaTeX, from the same cells."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from adaptive_lr.study.errors import require
from adaptive_lr.study.recipe import find_optimizer, find_recipe
from adaptive_lr.study.reports import tables
from adaptive_lr.study.statistics import Interval, mean_interval
from adaptive_lr.study.summary import UNTRAINED, Cell, RecipeSummary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LESS_NEEDED = ("median", "wins", "p, Holm", "good decades", "untrained", "validation loss")
"""Columns left out one by one where a terminal is too narrow. The files have all."""

NOTES = (
    "All recipes are given the same learning rates (LR): the peak of the schedule. For automatic they are no more than "
    "where it starts; it finds its own peak.",
    "±: half the 95 % t-interval over seeds. The best LR has the lowest mean validation loss; accuracy and loss are "
    "those there. A * marks a best LR at the edge of its grid.",
    "LR sensitivity: mean over the LRs of min(validation loss, loss at initialisation), less the recipe's "
    "own best, which stands beside it (Wortsman et al. 2023, arXiv:2309.14322). Lower is better.",
    "Good decades: the widest stretch of LRs within one point of the best accuracy that any recipe reaches with "
    "this optimizer; 0 is a single LR, - is none.",
    f"Untrained: runs that diverged or ended above {UNTRAINED:.0%} of the loss at initialisation.",
    "Against fixed: paired difference to the recipe without control, at that recipe's best LR; wins: share of seeds in "
    "which it is better; p, Holm: exact sign-flip test (with n seeds never below 2/2^n), after Holm's correction over "
    "all recipes and optimizers here.",
    "Losses of diverged runs count as the loss at initialisation; their accuracies count as they are.",
)


def has_accuracies(summaries: Sequence[RecipeSummary]) -> bool:
    """Whether the workload has accuracies; what is reported then are accuracies, not losses."""
    return all(summary.test_accuracy is not None for summary in summaries)


def headings(summaries: Sequence[RecipeSummary]) -> list[str]:
    """The columns of the table people read."""
    scored = has_accuracies(summaries)
    return [
        "recipe",
        "best LR",
        "test accuracy, %" if scored else "test loss",
        "median",
        "validation loss",
        "LR sensitivity",
        *(["good decades"] if scored else []),
        "worst",
        "untrained",
        "against fixed, points" if scored else "against fixed, loss",
        "wins",
        "p, Holm",
    ]


def rows(summaries: Sequence[RecipeSummary], optimizer: str) -> list[list[str]]:
    """The lines of one optimizer."""
    scored = has_accuracies(summaries)
    lines = []
    for summary in summaries:
        if summary.optimizer != optimizer:
            continue
        result = _percent(summary.test_accuracy) if summary.test_accuracy and scored else _number(summary.test_loss)
        lines.append(
            [
                summary.recipe,
                f"{summary.best.peak_lr:g}{'*' if summary.at_edge else ''}",
                result,
                f"{100.0 * summary.median:.1f}" if scored else f"{summary.median:.4g}",
                f"{summary.validation_loss.mean:.3g}",
                f"{summary.sensitivity:.3f}",
                *([_decades(summary.good_decades)] if scored else []),
                f"{_worst(summary.worst, scored)} at {summary.worst.peak_lr:g}",
                f"{summary.untrained:.0%}",
                *_difference(summary, scored),
            ]
        )
    return lines


def terminal_tables(summaries: Sequence[RecipeSummary], console: Console) -> list[Table]:
    """One rich table for each optimizer; adaptive recipes are bold.

    Args:
        summaries: what to show.
        console: where; if it is too narrow, some of `LESS_NEEDED` are left out.

    Raises:
        StudyError: rich is not installed.
    """
    left_out = 0
    while left_out < len(LESS_NEEDED) and _width(summaries, LESS_NEEDED[:left_out]) > console.width:
        left_out += 1
    return [_table(summaries, optimizer, LESS_NEEDED[:left_out]) for optimizer in _optimizers(summaries)]


def _width(summaries: Sequence[RecipeSummary], left_out: Sequence[str]) -> int:
    """Characters that the widest table takes: its columns, with a space on either side of each."""
    columns = [_columns(summaries, optimizer, left_out) for optimizer in _optimizers(summaries)]
    return max(sum(width + 2 for _, _, width in of_one) for of_one in columns)


def _columns(summaries: Sequence[RecipeSummary], optimizer: str, left_out: Sequence[str]) -> list[tuple[int, str, int]]:
    """Index, heading and width. Headings may break between words; nothing else may break."""
    lines = rows(summaries, optimizer)
    return [
        (index, heading, max(map(len, (*heading.split(), *(line[index] for line in lines)))))
        for index, heading in enumerate(headings(summaries))
        if heading not in left_out
    ]


def _table(summaries: Sequence[RecipeSummary], optimizer: str, left_out: Sequence[str]) -> Table:
    table: Table = require("rich.table").Table(
        title=find_optimizer(optimizer).label,
        title_justify="left",
        title_style="bold",
        box=require("rich.box").SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    columns = _columns(summaries, optimizer, left_out)
    for index, heading, width in columns:
        table.add_column(textwrap.fill(heading, width), justify="left" if index == 0 else "right", no_wrap=True)
    lines = rows(summaries, optimizer)
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        adaptive = find_recipe(line[0]).controllers is not None
        last = following is None or find_recipe(following[0]).controllers is None
        table.add_row(*(line[i] for i, *_ in columns), style="bold" if adaptive else "", end_section=last)
    return table


def markdown(summaries: Sequence[RecipeSummary]) -> str:
    """The same tables as Markdown, with the notes that say what the columns mean."""
    parts = []
    for optimizer in _optimizers(summaries):
        columns = headings(summaries)
        lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows(summaries, optimizer)]
        parts.append(
            f"## {find_optimizer(optimizer).label}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
        )
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in NOTES)]) + "\n"


def latex(summaries: Sequence[RecipeSummary]) -> str:
    r"""The same tables as LaTeX: a booktabs ``tabular`` for each optimizer, under a comment with its name."""
    columns = tuple(headings(summaries))
    found = []
    for optimizer in _optimizers(summaries):
        lines = tuple(map(tuple, rows(summaries, optimizer)))
        found.append(tables.latex(tables.Table(find_optimizer(optimizer).label, columns, lines)))
    return "\n".join([*(f"% {note}" for note in NOTES), *found])


def csv_text(summaries: Sequence[RecipeSummary]) -> str:
    """One line for each cell (optimizer, recipe, learning rate given), at full precision.

    Numbers of a whole recipe are repeated on each of its lines.
    """
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(
        [
            *("optimizer", "recipe", "peak_lr", "seeds", "is_best", "diverged_runs", "untrained_runs"),
            "validation_loss",
            *("test_loss", "test_loss_low", "test_loss_high", "test_loss_median"),
            *("test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_accuracy_median"),
            *("recipe_lr_sensitivity", "recipe_good_decades", "recipe_untrained_share"),
            *("recipe_difference", "recipe_difference_low", "recipe_difference_high", "recipe_difference_p"),
            *("recipe_difference_p_holm", "recipe_win_rate"),
        ]
    )
    for summary in summaries:
        for cell in summary.cells:
            accuracies = cell.test_accuracies
            writer.writerow(
                [
                    *(cell.optimizer, cell.recipe, repr(cell.peak_lr), len(cell.results)),
                    *(int(cell is summary.best), cell.diverged, cell.untrained),
                    sum(cell.validation_losses) / len(cell.results),
                    *(*mean_interval(cell.test_losses), median(cell.test_losses)),
                    *((*mean_interval(accuracies), median(accuracies)) if accuracies is not None else ("",) * 4),
                    *(summary.sensitivity, summary.good_decades, summary.untrained),
                    *(summary.difference if summary.difference is not None else ("",) * 4),
                    *("" if value is None else value for value in (summary.adjusted_p, summary.wins)),
                ]
            )
    return output.getvalue()


def _optimizers(summaries: Sequence[RecipeSummary]) -> list[str]:
    return list(dict.fromkeys(summary.optimizer for summary in summaries))


def _percent(interval: Interval) -> str:
    half = 100.0 * (interval.high - interval.mean)
    return f"{100.0 * interval.mean:.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")


def _number(interval: Interval) -> str:
    half = interval.high - interval.mean
    return f"{interval.mean:.4g}" + ("" if math.isnan(half) else f" ± {half:.2g}")


def _decades(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _worst(cell: Cell, scored: bool) -> str:
    values = cell.test_accuracies if scored and cell.test_accuracies is not None else cell.test_losses
    mean = sum(values) / len(values)
    return f"{100.0 * mean:.1f}" if scored else f"{mean:.4g}"


def _difference(summary: RecipeSummary, scored: bool) -> tuple[str, str, str]:
    if summary.difference is None or summary.wins is None or summary.adjusted_p is None:
        return "", "", ""
    mean, _, high, _ = summary.difference
    scale, digits = (100.0, ".1f") if scored else (1.0, ".2g")
    half = "" if math.isnan(high) else f" ± {scale * (high - mean):{digits}}"
    return f"{scale * mean + 0.0:+{digits}}{half}", f"{summary.wins:.0%}", f"{summary.adjusted_p:.2f}"
