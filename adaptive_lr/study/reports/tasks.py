"""Results in the order a report needs them: tasks, what was searched on each, and what is reported of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np

from adaptive_lr.study.recipe import OPTIMIZERS, RECIPES
from adaptive_lr.study.run import Run, RunResult
from adaptive_lr.study.statistics.resampling import Array
from adaptive_lr.study.summary import Cell

Measure = Literal["loss", "error"]
"""What is compared: the loss on the test split, or one minus the accuracy there."""


@dataclass(frozen=True, eq=False)
class Task:
    """One workload with one optimizer over one horizon.

    Attributes:
        workload: a reference, as runs have it.
        optimizer: a name.
        steps: the horizon.
        searched: recipe -> the cells from which its setting was chosen, ascending in the learning rate given.
        reported: recipe -> the cell that is reported, at the setting chosen.
    """

    workload: str
    optimizer: str
    steps: int
    searched: Mapping[str, tuple[Cell, ...]]
    reported: Mapping[str, Cell]

    def shared_seeds(self, recipes: Iterable[str]) -> list[int]:
        """Seeds that were carried out with all of these recipes."""
        of_each = [{result.run.seed for result in self.reported[recipe].results} for recipe in recipes]
        return sorted(set.intersection(*of_each))

    def runs(self, recipe: str, seeds: Iterable[int]) -> list[RunResult]:
        """The reported runs of a recipe with these seeds, in their order."""
        by_seed = {result.run.seed: result for result in self.reported[recipe].results}
        return [by_seed[seed] for seed in seeds]

    def costs(self, recipe: str, seeds: Iterable[int], measure: Measure) -> Array:
        """One value for each seed on the test split, lower is better; losses clipped at the loss at initialisation."""
        cell = self.reported[recipe]
        values = [1.0 - accuracy for accuracy in cell.test_accuracies or ()] if measure == "error" else cell.test_losses
        by_seed = {result.run.seed: value for result, value in zip(cell.results, values, strict=True)}
        return np.array([by_seed[seed] for seed in seeds])

    def initial(self, recipe: str, measure: Measure) -> float:
        """The mean of that measure at initialisation, on the validation split."""
        cell = self.reported[recipe]
        return fmean(cell.initial_losses if measure == "loss" else [1.0 - a for a in cell.initial_accuracies or ()])

    @property
    def scored(self) -> bool:
        """Whether all reported runs have accuracies."""
        return all(cell.test_accuracies is not None for cell in self.reported.values())


def collect_tasks(
    searched: Iterable[RunResult],
    reported: Iterable[RunResult] | None = None,
    *,
    recipes: Sequence[str] | None = None,
) -> list[Task]:
    """Group results into tasks. Failed runs are left out, and recipes of which there is nothing to report.

    Args:
        searched: runs over learning rates (and other settings); what is chosen is the setting of least mean validation
            loss among those with most seeds.
        reported: runs at the chosen settings, of fresh seeds; None: those of `searched` at the setting chosen.
        recipes: those that count, in their order; None: all, in the order of their table.

    Returns:
        Tasks in the order of workload, optimizer and horizon.
    """
    grids = _grids(searched, recipes)
    finals = grids if reported is None else _grids(reported, recipes)
    order = _order(OPTIMIZERS, (place[1] for place in finals))
    tasks = []
    for place in sorted(finals, key=lambda place: (place[0], order[place[1]], place[2])):
        chosen = {recipe: _best(cells) for recipe, cells in finals[place].items()}
        tasks.append(Task(*place, searched=grids.get(place, {}), reported=chosen))
    return tasks


Place = tuple[str, str, int]


def _grids(results: Iterable[RunResult], chosen: Sequence[str] | None) -> dict[Place, dict[str, tuple[Cell, ...]]]:
    groups: dict[Place, dict[str, dict[Run, list[RunResult]]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        if result.ok and (chosen is None or result.run.recipe in chosen):
            run = result.run
            settings = groups[run.workload, run.optimizer, run.steps][run.recipe]
            settings.setdefault(replace(run, seed=0), []).append(result)  # whatever else a run may have
    order = _order(RECIPES if chosen is None else chosen, (recipe for recipes in groups.values() for recipe in recipes))
    return {
        place: {
            recipe: tuple(
                Cell(run.optimizer, run.recipe, run.peak_lr, tuple(sorted(found, key=lambda result: result.run.seed)))
                for run, found in sorted(recipes[recipe].items(), key=lambda item: (item[0].peak_lr, repr(item[0])))
            )
            for recipe in sorted(recipes, key=order.__getitem__)
        }
        for place, recipes in groups.items()
    }


def _best(cells: tuple[Cell, ...]) -> Cell:
    most = max(len(cell.results) for cell in cells)
    return min((c for c in cells if len(c.results) == most), key=lambda cell: fmean(cell.validation_losses))


def _order(named: Iterable[str], found: Iterable[str]) -> dict[str, int]:
    """Names that have a table in its order, a user's own after them."""
    return {name: place for place, name in enumerate(dict.fromkeys([*named, *sorted(set(found))]))}
