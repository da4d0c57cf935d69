"""The tables of a report: every task, all tasks in one, and how much depends on the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median

from adaptive_lr.study.reports.comparison import TARGET, Comparison
from adaptive_lr.study.reports.names import Names
from adaptive_lr.study.reports.tables import Table, between, csv_text, probability, with_uncertainty
from adaptive_lr.study.reports.tasks import Task
from adaptive_lr.study.statistics import Interval, lr_sensitivity_interval, mean_interval
from adaptive_lr.study.statistics.resampling import FEWEST_DEGREES, FEWEST_SEEDS
from adaptive_lr.study.summary import Cell

SIGNIFICANT = 0.05
"""Family-wise error rate at which a difference is marked."""


def task_table(comparison: Comparison, names: Names, *, middle: bool = False) -> Table:
    """A row for each task and a column for each recipe: means with their t-intervals, or medians.

    Means are marked where the paired difference to the baseline is significant.
    """
    accuracies = comparison.measure == "error"
    marks = {
        (pair.task, pair.recipe): "⁺" if pair.difference.mean < 0.0 else "⁻"
        for pair in comparison.pairs
        if pair.adjusted_p <= SIGNIFICANT
    }
    rows = []
    for task, costs in zip(comparison.tasks, comparison.costs, strict=True):
        as_accuracy = accuracies and task.scored
        cells = []
        for recipe, values in zip(comparison.recipes, costs, strict=True):
            shown = 100.0 * (1.0 - values) if as_accuracy else values
            if middle:
                cells.append(f"{median(shown):.1f}" if as_accuracy else f"{median(shown):.4g}")
            else:
                mean, _, high = mean_interval(shown)
                cells.append(with_uncertainty(mean, high - mean) + marks.get((task, recipe), ""))
        seeds = len(task.shared_seeds(comparison.recipes))
        rows.append((names.task(task), str(seeds), *cells))
    what = "test accuracy in %, or test loss where there is none" if accuracies else "test loss"
    kind = "median" if middle else "mean ± half the 95 % t-interval over seeds"
    family = len(comparison.pairs)
    notes = [
        "Losses of diverged runs count as the loss at initialisation; their accuracies count as they are. Failed runs "
        "are left out.",
    ]
    if not middle:
        notes.append(
            f"⁺ (⁻): better (worse) than {names.recipe(comparison.baseline)}, paired by seed, exact sign-flip test, "
            f"p ≤ {SIGNIFICANT:g} after Holm over the {family} pairs of this table."
        )
    notes += _partial(comparison, names)
    return Table(
        f"{names.optimizer(comparison.optimizer)}: {what}, {kind}",
        ("workload", "seeds", *names.recipes(comparison.recipes)),
        tuple(rows),
        tuple(notes),
    )


def pooled_table(comparison: Comparison, names: Names) -> Table:
    """A row for each recipe: all tasks in one number, with bootstrap intervals."""
    rows = []
    for place, recipe in enumerate(comparison.recipes):
        figures = [
            between(*(float(bound[place]) for bound in estimates)) if recipe != comparison.baseline or own else ""
            for (name, estimates) in comparison.pooled.items()
            for own in [name not in ("win rate", "probability of improvement")]
        ]
        diverged = comparison.diverged(recipe)
        rate = f"{diverged.share:.0%} [{diverged.low:.0%}, {diverged.high:.0%}]"
        rows.append((names.recipe(recipe), *figures, rate))
    baseline = names.recipe(comparison.baseline)
    left_out = f" Left out, since {baseline} learns nothing there: " + ", ".join(map(names.task, comparison.unscaled))
    return Table(
        f"{names.optimizer(comparison.optimizer)}: {_tasks(len(comparison.tasks))} in one number, by "
        + ("error where there is an accuracy" if comparison.measure == "error" else "loss"),
        ("recipe", "IQM", "median", "win rate", "P(improvement)", "time score", "diverged"),
        tuple(rows),
        (
            f"A run scores 0 where it ends as it began and 1 at the mean of {baseline}; a diverged run scores 0. IQM: "
            "mean of the middle half of all runs. Median: of the tasks' means.",
            f"Win rate: share of pairs of equal task and seed in which the recipe beats {baseline}; a tie is half a "
            "win. P(improvement): the same over all pairs of runs of a task.",
            f"Time score: area under the performance profile from 1 to 4 times the fastest median time to {TARGET:.0%} "
            f"of what {baseline} learns by the validation loss; a miss is infinitely slow.",
            "Intervals: 95 %; stratified bootstrap over seeds, these tasks kept; exact binomial for diverged runs, as "
            "if those of all tasks were alike. No "
            f"bootstrap interval where a task has fewer than {FEWEST_SEEDS} seeds, or a single task fewer than "
            f"{FEWEST_DEGREES + 1}.",
            *(
                [left_out.strip() + "; its runs count where it is asked how many diverged."]
                if comparison.unscaled
                else []
            ),
            *_partial(comparison, names),
        ),
    )


def sensitivity_table(tasks: Sequence[Task], names: Names, optimizer: str) -> Table | None:
    """A row for each task, a column for each recipe that was given several learning rates; None if there is none."""
    own = [task for task in tasks if task.optimizer == optimizer]
    recipes = list(dict.fromkeys(r for task in own for r, cells in task.searched.items() if is_grid(cells)))
    if not recipes:
        return None
    rows = []
    for task in own:
        cells = []
        for recipe in recipes:
            grid = task.searched.get(recipe, ())
            cells.append(_interval(sensitivity(grid)) if is_grid(grid) else "-")
        rows.append((names.task(task), *cells))
    return Table(
        f"{names.optimizer(optimizer)}: learning-rate sensitivity",
        ("workload", *names.recipes(recipes)),
        tuple(rows),
        (
            "Mean over the learning rates given of min(validation loss, loss at initialisation), less the recipe's own "
            "best (Wortsman et al. 2023, arXiv:2309.14322); lower is better. It is blind to how good that best is.",
            "Intervals: 95 %, Student's t over seeds, with the recipe's best learning rate held; none where there is a "
            "single seed, and very wide at two.",
            "A recipe that finds its own peak is given learning rates to start from: what is measured there is another "
            "thing.",
        ),
    )


def is_grid(cells: Sequence[Cell]) -> bool:
    """Whether cells differ in the learning rate given and in nothing else, each rate there once."""
    rates = [cell.peak_lr for cell in cells]
    settings = {getattr(cell.results[0].run, "settings", ()) for cell in cells}
    return len(set(rates)) == len(rates) > 1 == len(settings)


def sensitivity(cells: Sequence[Cell]) -> Interval:
    """Learning-rate sensitivity of the validation loss over a grid, on the seeds that all of its cells have."""
    shared = set.intersection(*({result.run.seed for result in cell.results} for cell in cells))
    if not shared:
        return Interval(math.nan, math.nan, math.nan)
    losses, initial = [], []
    for cell in cells:
        chosen = [place for place, result in enumerate(cell.results) if result.run.seed in shared]
        losses.append([cell.validation_losses[place] for place in chosen])
        initial.append([cell.initial_losses[place] for place in chosen])
    return lr_sensitivity_interval(losses, initial)


def cells_csv(tasks: Sequence[Task], names: Names) -> str:
    """One line for each cell: searched ones and reported ones, at full precision."""
    rows = []
    for task in tasks:
        for phase, grids in (("searched", task.searched), ("reported", {r: (c,) for r, c in task.reported.items()})):
            for recipe, cells in grids.items():
                for cell in cells:
                    accuracies = cell.test_accuracies
                    settings = dict(getattr(cell.results[0].run, "settings", ()))
                    rows.append(
                        [
                            *(phase, names.workload(task.workload), task.optimizer, names.recipe(recipe), task.steps),
                            *(cell.peak_lr, " ".join(f"{k}={v!r}" for k, v in settings.items()), len(cell.results)),
                            *(cell.diverged, cell.untrained, fmean(cell.initial_losses)),
                            *(fmean(cell.validation_losses), median(cell.validation_losses)),
                            *(*mean_interval(cell.test_losses), median(cell.test_losses)),
                            *(
                                (*mean_interval(accuracies), median(accuracies))
                                if accuracies is not None
                                else (None,) * 4
                            ),
                        ]
                    )
    return csv_text(
        [
            *("phase", "workload", "optimizer", "recipe", "steps", "learning_rate", "settings", "seeds"),
            *("diverged_runs", "untrained_runs", "initial_loss", "validation_loss", "validation_loss_median"),
            *("test_loss", "test_loss_low", "test_loss_high", "test_loss_median"),
            *("test_accuracy", "test_accuracy_low", "test_accuracy_high", "test_accuracy_median"),
        ],
        rows,
    )


def pairs_csv(comparisons: Sequence[Comparison], names: Names) -> str:
    """One line for each recipe against the baseline on each task, at full precision."""
    rows = [
        [
            *(comparison.measure if pair.task.scored else "loss", names.workload(pair.task.workload)),
            *(pair.task.optimizer, pair.task.steps, names.recipe(pair.recipe), names.recipe(comparison.baseline)),
            *(len(pair.task.shared_seeds(comparison.recipes)), *pair.difference, pair.adjusted_p, pair.wins),
        ]
        for comparison in comparisons
        for pair in comparison.pairs
    ]
    return csv_text(
        [
            *("measure", "workload", "optimizer", "steps", "recipe", "baseline", "seeds"),
            *("difference", "difference_low", "difference_high", "p", "p_holm", "win_rate"),
        ],
        rows,
    )


def pair_table(comparison: Comparison, names: Names) -> Table:
    """A row for each recipe on each task: difference to the baseline, and wins."""
    rows = []
    for pair in comparison.pairs:
        points = comparison.measure == "error" and pair.task.scored
        mean, _, high, p_value = pair.difference
        sign = -100.0 if points else 1.0  # errors, less is better, become points of accuracy
        difference = with_uncertainty(sign * mean, abs(sign) * (high - mean))
        rows.append(
            (
                names.task(pair.task),
                names.recipe(pair.recipe),
                difference + (" points" if points else ""),
                probability(p_value),
                probability(pair.adjusted_p),
                f"{pair.wins:.0%}",
            )
        )
    baseline = names.recipe(comparison.baseline)
    return Table(
        f"{names.optimizer(comparison.optimizer)}: against {baseline}, by "
        + ("accuracy where there is one" if comparison.measure == "error" else "loss"),
        ("workload", "recipe", "difference", "p", "p, Holm", "wins"),
        tuple(rows),
        (
            "Difference: paired by seed, mean ± half the 95 % t-interval; of accuracies in points (above 0 is better), "
            "of losses in the loss's unit (below 0 is better). p: exact sign-flip test, with n seeds never below 2/2ⁿ.",
            f"Holm over the {len(rows)} pairs of this table. Wins: share of seeds in which the recipe is better; a tie "
            "is half a win.",
        ),
    )


def _partial(comparison: Comparison, names: Names) -> list[str]:
    missing = ", ".join(names.recipes(comparison.partial))
    return [f"Not compared, since some task has no run of it: {missing}."] if missing else []


def _tasks(number: int) -> str:
    return f"{number} task" if number == 1 else f"{number} tasks"


def _interval(interval: Interval) -> str:
    mean, low, high = interval
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if math.isnan(low) else f"{mean:.3f} [{low + 0.0:.3f}, {high + 0.0:.3f}]"
