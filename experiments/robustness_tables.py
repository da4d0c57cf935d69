"""The tables of the robustness study, as Markdown, from its numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.robustness import Outcome, Pair

FACTORS = (1, 3, 10, 30)
"""How many times too large, for half-decades, as they are called."""

MARGINS = (1.0, 3.0)
"""Gaps, in points, that are counted in the summary."""

ANY_LR = (
    "| workload | optimizer | tuned LR | tuned: accuracy or loss | automatic: mean gap | worst gap | at "
    "| mean loss ratio | LR sensitivity: cosine | guarded | automatic |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)

TOO_LARGE = (
    f"| workload | optimizer | {' | '.join(f'cosine x {factor}' for factor in FACTORS[1:])} "
    f"| {' | '.join(f'guarded x {factor}' for factor in FACTORS)} |\n"
    f"| --- | --- |{' ---: |' * (2 * len(FACTORS) - 1)}"
)

INTERVALS = (
    f"| workload | optimizer | automatic | {' | '.join(f'guarded x {factor}' for factor in FACTORS)} |\n"
    f"| --- | --- |{' ---: |' * (1 + len(FACTORS))}"
)

TEXT = """\
# {title}

`{command}`, {date}, {seeds} seeds a run.
{versions}; code of control {control}.

Every number is of the runs in `{name}.json`: means over seeds, on the test split; losses are clipped at the loss at
initialisation.

*Tuned* is `cosine` (5 % warm-up) at the best of seven half-decades, by validation loss on as many other seeds; a *
marks a best one at the edge. A *gap* is what is missing to tuned: points of accuracy, or where there is no accuracy the
ratio of losses (with an x); lower is better, and negative (or below 1) is better than tuned. *LR sensitivity*: the mean
over the decades of min(validation loss, loss at initialisation), less the recipe's own best (Wortsman et al. 2023,
arXiv:2309.14322). It is blind to how good that best is; the loss ratio is not.

## Given one learning rate per decade, from far too small to far too large

SGD 1e-6 to 1e2, AdamW 1e-7 to 1e1.

{any_lr}

{summary}

## Given a peak that is too large

Gap to tuned at the tuned learning rate and at 3, 10 and 30 times as much (half-decades).

{too_large}

The same in losses: the test loss over that of tuned.

{losses}

## How sure the gaps are

95 % intervals of the gaps: Student's, of differences paired by seed. `automatic`: of the mean over the decades.

{intervals}
"""


def points(outcome: Outcome, tuned: Outcome) -> float | None:
    """Missing accuracy in percentage points, or None where there is none."""
    if outcome.test_accuracy is None or tuned.test_accuracy is None:
        return None
    return 100.0 * (tuned.test_accuracy - outcome.test_accuracy)


def ratio(outcome: Outcome, tuned: Outcome) -> float:
    """Test loss over that of tuned."""
    return outcome.test_loss / tuned.test_loss


def gaps(outcomes: Sequence[Outcome], tuned: Outcome) -> tuple[list[float], str]:
    """The gaps of several outcomes, and how they are written."""
    in_points = [value for value in (points(outcome, tuned) for outcome in outcomes) if value is not None]
    if len(in_points) == len(outcomes):
        return in_points, "{:+.1f}"
    return [ratio(outcome, tuned) for outcome in outcomes], "{:.3g}x"


def row(pair: Pair) -> str:
    """One line of the first table."""
    outcomes, tuned = pair.decades["automatic"], pair.tuned
    values, text = gaps(outcomes, tuned)
    level = f"{tuned.test_accuracy:.1%}" if tuned.test_accuracy is not None else f"{tuned.test_loss:.3g}"
    cells = [
        pair.workload,
        pair.optimizer,
        f"{tuned.lr:.2g}{'*' if pair.tuned_at_edge else ''}",
        level,
        text.format(fmean(values)),
        text.format(max(values)),
        f"{outcomes[values.index(max(values))].lr:.0e}",
        f"{fmean(ratio(outcome, tuned) for outcome in outcomes):.3g}",
        *(f"{value:.3g}" for value in pair.sensitivity.values()),
    ]
    return f"| {' | '.join(cells)} |"


def too_large_row(pair: Pair) -> str:
    """One line of the second table."""
    fixed, text = gaps(pair.above["cosine"], pair.tuned)
    guarded, _ = gaps(pair.above["cosine+guarded"], pair.tuned)
    cells = [pair.workload, pair.optimizer, *(text.format(value) for value in (*fixed[1:], *guarded))]
    return f"| {' | '.join(cells)} |"


def loss_row(pair: Pair) -> str:
    """One line of the table of losses."""
    outcomes = [*pair.above["cosine"][1:], *pair.above["cosine+guarded"]]
    cells = [pair.workload, pair.optimizer, *(f"{ratio(outcome, pair.tuned):.3g}" for outcome in outcomes)]
    return f"| {' | '.join(cells)} |"


def interval_row(pair: Pair) -> str:
    """One line of the table of intervals."""
    _, text = gaps([pair.tuned], pair.tuned)
    found = [*pair.intervals.get("automatic", [None]), *pair.intervals.get("cosine+guarded", [None] * len(FACTORS))]
    cells = ["-" if one is None else " to ".join(text.format(end + 0.0) for end in one) for one in found]
    return f"| {' | '.join([pair.workload, pair.optimizer, *cells])} |"


def summary(pairs: Sequence[Pair], optimizer: str) -> str:
    """What the first table comes to, for one optimizer."""
    own = [pair for pair in pairs if pair.optimizer == optimizer]
    scored = [gaps(p.decades["automatic"], p.tuned)[0] for p in own if p.tuned.test_accuracy is not None]
    ratios = [fmean(ratio(outcome, p.tuned) for outcome in p.decades["automatic"]) for p in own]
    parts = [f"median of the mean loss ratio {median(ratios):.2f}, highest {max(ratios):.3g}"]
    if scored:
        within = ", ".join(
            f"{sum(max(values) <= margin for values in scored)} of {len(scored)} within {margin:g}"
            for margin in MARGINS
        )
        parts.insert(0, f"worst gap: {within} points; median of the mean gap {median(map(fmean, scored)):+.1f} points")
    missing = sum(pair.missing for pair in own)
    return f"- {optimizer}: {'; '.join(parts)}." + (f" {missing} runs failed and are left out." if missing else "")


def markdown(title: str, name: str, pairs: Sequence[Pair], about: Mapping[str, Any]) -> str:
    """The whole document: its title, the name of its record, and what is in it."""
    optimizers = list(dict.fromkeys(pair.optimizer for pair in pairs))
    return TEXT.format(
        title=title,
        name=name,
        command=about["command"],
        date=about["date"],
        seeds=about["seeds"],
        control=about["control_sha256"][:12],
        versions=", ".join(f"{name} {number}" for name, number in about["versions"].items()),
        any_lr="\n".join([ANY_LR, *map(row, pairs)]),
        summary="\n".join(summary(pairs, optimizer) for optimizer in optimizers),
        too_large="\n".join([TOO_LARGE, *map(too_large_row, pairs)]),
        losses="\n".join([TOO_LARGE, *map(loss_row, pairs)]),
        intervals="\n".join([INTERVALS, *map(interval_row, pairs)]),
    )
