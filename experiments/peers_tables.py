"""The tables of the comparison with peers, as Markdown, from its numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from adaptive_lr.study.recipe import PEERS

if TYPE_CHECKING:
    from experiments.peers import Row

FIXED = ("cosine", "constant", "linear", "wsd", "one-cycle", "plateau")

OURS = ("cosine+guarded", "automatic")
"""The recipes of this project; all others are peers."""

RECIPES = (*FIXED, *PEERS, *OURS)
"""All that are compared."""

FINDS_PEAK = "automatic"
"""The recipe that does not use the learning rate it is given."""

OTHER_MEANING = {
    "prodigy": "multiplies what Prodigy estimates: 1 is what its authors recommend, whatever the workload",
    "momo": "is the upper bound of MoMo's step length",
}
"""Recipes to which a learning rate means another thing."""

MARK = "†"

HEADER = (
    "| recipe | LR sensitivity | best: accuracy or loss | at LR | worst | decades | diverged |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)

SUMMARY = (
    "| recipe | median LR sensitivity | median rank of the best | median decades | diverged | step cost "
    "| least sensitive | best | widest |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)

TEXT = """\
# Peers in the same harness

`{command}`, {date}, {seeds} seeds a run.
{versions}.

Every recipe is given one learning rate per decade: SGD 1e-6 to 1e2, AdamW 1e-7 to 1e1. Numbers are means over seeds, on
the test split; losses are clipped at the loss at initialisation. The best learning rate is chosen by validation loss;
what is reached there is that of each seed at the learning rate that the other seeds choose.

*LR sensitivity*: the mean over the decades of min(validation loss, loss at initialisation), less the recipe's own best
(Wortsman et al. 2023, arXiv:2309.14322); it is blind to how good that best is. *Decades*: the widest stretch of
learning rates within one point of accuracy (without accuracies 2 % of the loss) of the best that any recipe reaches
there; 0 is a single learning rate, a dash none (over workloads: none on half of them or more). *Diverged*: share of
runs that end with a loss that is not finite or above that at initialisation. *Step cost*: time of a training step over
that under cosine, on digits-mlp, medians of runs that took turns in one process{cost_note}. *Least sensitive*, *best*,
*widest*: on how many workloads. A * marks a best learning rate at the edge. The best of a column is bold. `automatic`
makes the same run whatever learning rate it is given: its sensitivity is 0 by construction, and is not compared.

{meanings}

{own}

## In short

{summaries}

{wins}

{blocks}
"""


def quality(row: Row) -> float:
    """What a recipe reaches at its best learning rate, higher is better: accuracy, or minus the loss."""
    return -row.best_loss if row.best_accuracy is None else row.best_accuracy


def winners(rows: Sequence[Row], measure: Callable[[Row], float]) -> list[str]:
    """The recipes of the highest measure; several if they tie, none if it is NaN for all."""
    values = {row.recipe: measure(row) for row in rows}
    known = [value for value in values.values() if not math.isnan(value)]
    return [recipe for recipe, value in values.items() if known and value == max(known)]


MEASURES: Mapping[str, Callable[[Any], float]] = {
    "least sensitive to the learning rate": lambda row: math.nan if row.recipe == FINDS_PEAK else -row.sensitivity,
    "best at its best learning rate": quality,
    "good over the most decades": lambda row: math.nan if row.decades is None else row.decades,
}
"""In words -> what is compared, higher is better."""


def level(accuracy: float | None, loss: float) -> str:
    """An accuracy where there is one, or a loss."""
    return f"{loss:.3g}" if accuracy is None else f"{accuracy:.1%}"


def marked(recipe: str) -> str:
    """The name, with a mark where a learning rate means another thing."""
    return f"{recipe} {MARK}" if recipe in OTHER_MEANING else recipe


def median_decades(rows: Sequence[Row]) -> float | None:
    """Of the stretches of nearly best learning rates; None where half of the rows or more have none."""
    values = sorted(-math.inf if row.decades is None else row.decades for row in rows)
    found = median(values)
    return found if math.isfinite(found) else None


def bold(text: str, condition: bool) -> str:
    """In Markdown, where the condition holds."""
    return f"**{text}**" if condition else text


def line(row: Row, best: Mapping[str, Sequence[str]]) -> str:
    """One recipe on one workload."""
    sensitive, good, wide = (row.recipe in best[name] for name in MEASURES)
    cells = [
        marked(row.recipe),
        bold(f"{row.sensitivity:.3f}", sensitive),
        bold(level(row.best_accuracy, row.best_loss), good),
        f"{row.best_lr:.0e}{'*' if row.at_edge else ''}",
        level(row.worst_accuracy, row.worst_loss),
        bold("-" if row.decades is None else f"{row.decades:.0f}", wide),
        f"{row.diverged:.0%}",
    ]
    return f"| {' | '.join(cells)} |"


def block(rows: Sequence[Row], refused: Mapping[str, str]) -> str:
    """All recipes on one workload with one optimizer."""
    best = {name: winners(rows, measure) for name, measure in MEASURES.items()}
    lines = [f"## {rows[0].workload}, {rows[0].optimizer}\n", HEADER, *(line(row, best) for row in rows)]
    notes = [f"\n`{recipe}` was not carried out: {reason}" for recipe, reason in refused.items()]
    return "\n".join([*lines, *notes])


def summary(rows: Sequence[Row], optimizer: str, cost: Mapping[str, float]) -> str:
    """All recipes with one optimizer, over workloads."""
    own = [row for row in rows if row.optimizer == optimizer]
    places = by_workload(own)
    best = [{name: winners(group, measure) for name, measure in MEASURES.items()} for group in places.values()]
    lines = [f"### {optimizer}, {len(places)} workload{'s' * (len(places) != 1)}\n", SUMMARY]
    for recipe in dict.fromkeys(row.recipe for row in own):
        found = [row for row in own if row.recipe == recipe]
        ranks = [1 + sum(quality(other) > quality(row) for other in places[row.workload]) for row in found]
        won = [sum(recipe in each[name] for each in best) for name in MEASURES]
        decades = median_decades(found)
        cells = [
            marked(recipe),
            f"{median(row.sensitivity for row in found):.3f}",
            f"{median(ranks):g}",
            "-" if decades is None else f"{decades:g}",
            f"{sum(row.diverged * row.runs for row in found) / sum(row.runs for row in found):.0%}",
            f"{cost[recipe]:.2f}" if recipe in cost else "",
            *map(str, won),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def wins(rows: Sequence[Row]) -> str:
    """A sentence for each workload, optimizer and measure: who wins, and by how much over the best of ours."""
    lines = []
    for group in by_place(rows).values():
        for name, measure in MEASURES.items():
            values = {row.recipe: measure(row) for row in group}
            first = winners(group, measure)
            ours = [values[recipe] for recipe in OURS if recipe in values and not math.isnan(values[recipe])]
            if not first or set(first) & set(OURS):
                continue
            won = f"- {group[0].workload}, {group[0].optimizer}, {name}: {', '.join(map(marked, first))}"
            lines.append(f"{won} ({abs(values[first[0]]):.3g}" + (f"; ours {abs(max(ours)):.3g})" if ours else ")"))
    return "Where a peer wins:\n\n" + "\n".join(lines) if lines else "No peer wins anywhere."


def by_workload(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each workload."""
    return {name: [row for row in rows if row.workload == name] for name in dict.fromkeys(r.workload for r in rows)}


def by_place(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows of each workload and optimizer."""
    places = dict.fromkeys((row.workload, row.optimizer) for row in rows)
    return {place: [row for row in rows if (row.workload, row.optimizer) == place] for place in places}


def markdown(
    rows: Sequence[Row],
    refused: Mapping[tuple[str, str], Mapping[str, str]],
    cost: Mapping[str, Mapping[str, float]],
    about: Mapping[str, Any],
) -> str:
    """The whole document.

    Args:
        rows: every recipe on every workload.
        refused: (workload, optimizer) -> recipe -> why it could not be carried out there.
        cost: optimizer -> recipe -> ratio of step times.
        about: what the numbers were made with.
    """
    recipes = {row.recipe for row in rows}
    meanings = [f"{MARK} A learning rate {text}." for name, text in OTHER_MEANING.items() if name in recipes]
    missing = [name for name in OURS if name not in recipes]
    return TEXT.format(
        command=about["command"],
        date=about["date"],
        seeds=about["seeds"],
        versions=", ".join(f"{name} {number}" for name, number in about["versions"].items()),
        cost_note="" if cost else "; not measured here",
        meanings="\n".join(meanings),
        own=f"Not in this record: {', '.join(missing)}." if missing else "",
        summaries="\n\n".join(
            summary(rows, optimizer, cost.get(optimizer, {})) for optimizer in dict.fromkeys(r.optimizer for r in rows)
        ),
        wins=wins(rows),
        blocks="\n\n".join(block(group, refused.get(place, {})) for place, group in by_place(rows).items()),
    )
