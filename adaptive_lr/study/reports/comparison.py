"""From tasks to numbers: everything that a report says about the recipes of one optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np

from adaptive_lr.study.reports.tasks import Measure, Task
from adaptive_lr.study.statistics import (
    Estimates,
    PairedDifference,
    Rate,
    binomial_rate,
    bootstrap,
    holm,
    interquartile_mean,
    median,
    normalise,
    paired_difference,
    probability_of_improvement,
    score_of_times,
    steps_to_target,
    win_rate,
    win_rates,
)
from adaptive_lr.study.statistics.resampling import Array

TARGET = 0.95
"""The target is this share of what the baseline learns: of its fall in validation loss from initialisation on."""


@dataclass(frozen=True)
class Pair:
    """A recipe against the baseline on one task, paired by seed.

    Attributes:
        task, recipe: which.
        difference: of costs, recipe − baseline; below 0 is better.
        adjusted_p: its p-value after Holm, over all pairs of the comparison.
        wins: share of seeds in which the recipe is better.
    """

    task: Task
    recipe: str
    difference: PairedDifference
    adjusted_p: float
    wins: float


@dataclass(frozen=True)
class Comparison:
    """The recipes that were carried out on all tasks of an optimizer, on the seeds that they share on each.

    Scores are 0 at initialisation and 1 at the baseline's mean, which is held fixed when seeds are resampled. Tasks on
    which the baseline is no better than its start have no scale and are in `unscaled`.

    Attributes:
        optimizer: a name.
        measure: what is compared; a task without accuracies is compared by its loss.
        baseline: a recipe.
        recipes: in the order of the tables, the baseline among them.
        tasks: those that have a scale.
        unscaled: the others.
        partial: recipes that are not compared, since some task has no run of them.
    """

    optimizer: str
    measure: Measure
    baseline: str
    recipes: tuple[str, ...]
    tasks: tuple[Task, ...]
    unscaled: tuple[Task, ...]
    partial: tuple[str, ...] = ()

    @property
    def index(self) -> int:
        """Of the baseline among the recipes."""
        return self.recipes.index(self.baseline)

    @cached_property
    def costs(self) -> list[Array]:
        """Costs on the test split, one array (recipes, seeds) for each task."""
        return [self._of(task, self._measure(task)) for task in self.tasks]

    @cached_property
    def scores(self) -> list[Array]:
        """Scores on the test split, of the same shapes; higher is better."""
        starts = [task.initial(self.baseline, self._measure(task)) for task in self.tasks]
        return [
            normalise(costs, start, float(costs[self.index].mean()))
            for costs, start in zip(self.costs, starts, strict=True)
        ]

    @cached_property
    def times(self) -> list[Array]:
        """Steps to the target, inf where it was missed, of the same shapes."""
        return [
            np.array(
                [
                    [
                        steps_to_target(((step, loss) for step, loss, _ in result.evaluations), self.target(task))
                        for result in task.runs(recipe, task.shared_seeds(self.recipes))
                    ]
                    for recipe in self.recipes
                ]
            )
            for task in self.tasks
        ]

    def target(self, task: Task) -> float:
        """The validation loss to reach: `TARGET` of the way from the start to where the baseline ends.

        Where it ends is taken from its search, whose seeds are not those reported, or else from what is reported.
        """
        searched = task.searched.get(self.baseline, ())
        ends = [fmean(cell.validation_losses) for cell in searched or (task.reported[self.baseline],)]
        start = task.initial(self.baseline, "loss")
        return start - TARGET * (start - min(ends))

    @cached_property
    def pooled(self) -> dict[str, Estimates]:
        """Interquartile mean and median of the scores, win rate and probability of improvement, time score."""
        return {
            "interquartile mean": bootstrap(self.scores, interquartile_mean),
            "median": bootstrap(self.scores, median),
            "win rate": bootstrap(self.scores, win_rates(self.index)),
            "probability of improvement": bootstrap(self.scores, probability_of_improvement(self.index)),
            "time score": bootstrap(self.times, score_of_times),
        }

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every recipe but the baseline on every task."""
        found = []
        for task, costs in zip(self.tasks, self.costs, strict=True):
            for place, recipe in enumerate(self.recipes):
                if recipe == self.baseline:
                    continue
                found.append(
                    Pair(
                        task=task,
                        recipe=recipe,
                        difference=paired_difference(costs[place], costs[self.index]),
                        adjusted_p=1.0,
                        wins=win_rate(-costs[place], -costs[self.index]),
                    )
                )
        adjusted = holm([pair.difference.p_value for pair in found])
        return [
            Pair(**{**vars(pair), "adjusted_p": float(p_value)}) for pair, p_value in zip(found, adjusted, strict=True)
        ]

    def diverged(self, recipe: str, *, searched: bool = False) -> Rate:
        """Share of runs whose loss ended as no finite number: of those reported, or of all that were searched.

        Of all tasks: one without a scale may be the one where the baseline diverged.
        """
        cells = [
            cell
            for task in (*self.tasks, *self.unscaled)
            for cell in (task.searched.get(recipe, ()) if searched else (task.reported[recipe],))
        ]
        return binomial_rate(sum(c.diverged for c in cells), sum(len(c.results) for c in cells))

    def _measure(self, task: Task) -> Measure:
        return self.measure if task.scored else "loss"

    def _of(self, task: Task, measure: Measure) -> Array:
        seeds = task.shared_seeds(self.recipes)
        return np.stack([task.costs(recipe, seeds, measure) for recipe in self.recipes])


def compare_recipes(tasks: Sequence[Task], baseline: str, measure: Measure) -> list[Comparison]:
    """One comparison for each optimizer that has the baseline and another recipe on all of its tasks."""
    found = []
    for optimizer in dict.fromkeys(task.optimizer for task in tasks):
        own = [task for task in tasks if task.optimizer == optimizer]
        recipes = tuple(r for r in own[0].reported if all(r in task.reported for task in own))
        if baseline not in recipes or len(recipes) < 2:
            continue
        usable = [task for task in own if task.shared_seeds(recipes)]
        scaled = [task for task in usable if _has_scale(task, recipes, baseline, measure)]
        if scaled:
            unscaled = tuple(task for task in own if task not in scaled)
            partial = tuple(dict.fromkeys(r for task in own for r in task.reported if r not in recipes))
            found.append(Comparison(optimizer, measure, baseline, recipes, tuple(scaled), unscaled, partial))
    return found


def _has_scale(task: Task, recipes: Sequence[str], baseline: str, measure: Measure) -> bool:
    used: Measure = measure if task.scored else "loss"
    costs = task.costs(baseline, task.shared_seeds(recipes), used)
    return bool(costs.mean() < task.initial(baseline, used))
