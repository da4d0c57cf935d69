"""What the first phase of a study chooses: the setting of least mean validation loss, for each group and budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from adaptive_lr.study.budget import Budget, Point, at_edge
from adaptive_lr.study.run import Run, RunResult
from adaptive_lr.study.study import Group, Study, run_of


@dataclass(frozen=True)
class Choice:
    """What one budget found for one group.

    Attributes:
        group, budget: whose, and with what.
        point: the best setting.
        validation_loss: its mean over the tuning seeds, clipped at the loss at initialisation; NaN if nothing was
            tried because the budget is one setting.
        at_edge: what of it lies at the first or last value that was judged: the grid or the range may be too narrow,
            or what lies beyond failed.
        tried: settings that were judged; those with a failed run were not.
        updates: optimizer updates that all of that took.
    """

    group: Group
    budget: str
    point: Point
    validation_loss: float
    at_edge: tuple[str, ...]
    tried: int
    updates: int

    def record(self) -> dict[str, Any]:
        """As plain values, for a file."""
        return {
            **self.group._asdict(),
            "budget": self.budget,
            "peak_lr": self.point.peak_lr,
            "settings": dict(self.point.settings),
            "validation_loss": None if math.isnan(self.validation_loss) else self.validation_loss,
            "at_edge": list(self.at_edge),
            "settings_tried": self.tried,
            "tuning_updates": self.updates,
        }


def choose(study: Study, results: Mapping[Run, RunResult]) -> list[Choice]:
    """The best setting of every group for every budget; nothing for a group of which every setting has a failed run.

    Args:
        study: what was asked for.
        results: of its tuning runs; failed ones may be among them.
    """
    budgets = [] if study.tuning is None else [Budget.parse(budget) for budget in dict.fromkeys(study.tuning.budgets)]
    found = [_choose(study, group, budget, results) for group in study.groups() for budget in budgets]
    return [choice for choice in found if choice is not None]


def _choose(study: Study, group: Group, budget: Budget, results: Mapping[Run, RunResult]) -> Choice | None:
    points = study.points(group, budget)
    if budget.size == 1:
        return Choice(group, str(budget), points[0], math.nan, (), 0, 0)
    losses: dict[Point, float] = {}
    updates = 0
    for point in points:
        found = [results.get(run_of(group, point, seed)) for seed in study.tuning_seeds]
        carried_out = [result for result in found if result is not None and result.ok]
        updates += sum(len(result.train_losses) for result in carried_out)
        if len(carried_out) == len(found):
            losses[point] = fmean(_validation_loss(result) for result in carried_out)
    if not losses:
        return None
    best = min(losses, key=losses.__getitem__)
    return Choice(group, str(budget), best, losses[best], at_edge(best, list(losses)), len(losses), updates)


def _validation_loss(result: RunResult) -> float:
    assert result.initial is not None
    assert result.validation is not None
    loss = result.validation.loss
    return min(loss, result.initial.loss) if math.isfinite(loss) else result.initial.loss
