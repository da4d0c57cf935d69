"""How things are called in reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from adaptive_lr.study.recipe import find_optimizer, find_recipe
from adaptive_lr.study.reports.tasks import Task


class Names:
    """Titles of workloads, labels of optimizers, names of recipes.

    Args:
        tasks: all that are named; a horizon is part of a task's name where its workload has several.
        titles: workload reference -> title; without one, what the reference ends in.
    """

    def __init__(self, tasks: Iterable[Task], titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._horizons: dict[str, set[int]] = {}
        for task in tasks:
            self._horizons.setdefault(task.workload, set()).add(task.steps)

    def workload(self, reference: str) -> str:
        """The title of a workload."""
        return self._titles.get(reference, reference.rpartition(":")[2])

    def task(self, task: Task) -> str:
        """The title of a workload, with the horizon where there are several."""
        several = len(self._horizons[task.workload]) > 1
        return self.workload(task.workload) + (f", {task.steps} steps" if several else "")

    def optimizer(self, name: str) -> str:
        """The label of an optimizer."""
        return find_optimizer(name).label

    def recipe(self, name: str) -> str:
        """The name of a recipe, which a reference is not."""
        return find_recipe(name).name

    def recipes(self, names: Iterable[str]) -> list[str]:
        """The names of several."""
        return [self.recipe(name) for name in names]
