"""How soon each recipe reaches what the baseline learns; a run that never does counts as short of it to the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptive_lr.study.reports.comparison import TARGET, Comparison
from adaptive_lr.study.reports.names import Names
from adaptive_lr.study.reports.tables import Table, csv_text, probability, with_uncertainty
from adaptive_lr.study.reports.tasks import Task
from adaptive_lr.study.statistics import (
    RestrictedMean,
    binomial_rate,
    holm,
    kaplan_meier,
    logrank_test,
    median_steps,
    restricted_mean,
)
from adaptive_lr.study.statistics.resampling import Array

FEWEST_BANDED = 5
"""With fewer runs than this a share has no band: its exact interval would cover nearly all there is."""


@dataclass(frozen=True, eq=False)
class TimeToTarget:
    """One recipe on one task.

    Attributes:
        task, recipe: which.
        target: the validation loss to reach, see `Comparison.target`.
        seeds: of the runs.
        steps: shape (seeds,): the first evaluation at the target, or the horizon where there is none. A run that
            diverged or was stopped is short of the target to the horizon too: it would never have reached it.
        reached: shape (seeds,), bool.
        logrank_p: against the baseline, see `statistics.logrank_test`; NaN for the baseline itself.
        adjusted_p: the same after Holm, over all recipes and tasks of the comparison.
    """

    task: Task
    recipe: str
    target: float
    seeds: tuple[int, ...]
    steps: Array
    reached: NDArray[np.bool_]
    logrank_p: float = math.nan
    adjusted_p: float = math.nan

    @cached_property
    def mean(self) -> RestrictedMean:
        """Mean steps to the target within the horizon."""
        return restricted_mean(self.steps, self.reached, self.task.steps)

    @cached_property
    def median(self) -> float:
        """Steps after which half of the runs have reached the target, or inf."""
        return median_steps(kaplan_meier(self.steps, self.reached))

    @cached_property
    def curve(self) -> tuple[Array, Array, Array, Array]:
        """Steps, from 0 to the horizon; the share of runs at the target from each on; and that share's exact interval.

        Every run is watched to the horizon, so that the Kaplan-Meier estimate is a binomial share at each step, and
        the interval of Clopper and Pearson holds there: at each step by itself, not for the whole curve. It is NaN
        for fewer than `FEWEST_BANDED` runs.
        """
        survival = kaplan_meier(self.steps, self.reached)
        inside = survival.steps < self.task.steps
        share = np.concatenate([[0.0], 1.0 - survival.share[inside], [float(self.reached.mean())]])
        steps = np.concatenate([[0.0], survival.steps[inside], [float(self.task.steps)]])
        runs = len(self.seeds)
        rates = [binomial_rate(int(count), runs) for count in np.rint(share * runs)]
        bounds = (
            np.array([(rate.low, rate.high) for rate in rates]) if runs >= FEWEST_BANDED else share[:, None] * math.nan
        )
        return steps, share, bounds[:, 0], bounds[:, -1]


def times_to_target(comparison: Comparison) -> list[TimeToTarget]:
    """Every recipe on every task, the baseline among them, in the order of the comparison."""
    found = []
    for task, times in zip(comparison.tasks, comparison.times, strict=True):
        seeds = tuple(task.shared_seeds(comparison.recipes))
        watched, reached = np.minimum(times, task.steps), np.isfinite(times)
        base = watched[comparison.index], reached[comparison.index]
        for place, recipe in enumerate(comparison.recipes):
            own = watched[place], reached[place]
            p_value = math.nan if recipe == comparison.baseline else logrank_test(*own, *base)
            found.append(TimeToTarget(task, recipe, comparison.target(task), seeds, *own, logrank_p=p_value))
    tested = [place for place, one in enumerate(found) if not math.isnan(one.logrank_p)]
    adjusted = holm([found[place].logrank_p for place in tested])
    for place, p_value in zip(tested, adjusted, strict=True):
        found[place] = replace(found[place], adjusted_p=float(p_value))
    return found


def target_table(comparison: Comparison, found: list[TimeToTarget], names: Names) -> Table:
    """A row for each recipe on each task: how many runs reach the target, how soon, and the log-rank test."""
    rows = []
    for one in found:
        tested = not math.isnan(one.logrank_p)
        rows.append(
            (
                names.task(one.task),
                f"{one.target:.3g}",
                names.recipe(one.recipe),
                f"{int(one.reached.sum())} of {len(one.seeds)}",
                f"{one.median:g}" if math.isfinite(one.median) else "-",
                with_uncertainty(one.mean.mean, one.mean.high - one.mean.mean),
                probability(one.logrank_p) if tested else "",
                probability(one.adjusted_p) if tested else "",
            )
        )
    baseline = names.recipe(comparison.baseline)
    return Table(
        f"{names.optimizer(comparison.optimizer)}: steps to the target",
        ("workload", "target", "recipe", "reached", "median", "mean", "p, log-rank", "p, Holm"),
        tuple(rows),
        (
            f"Target: the validation loss at {TARGET:.0%} of what {baseline} learns, from initialisation to where its "
            "best setting ends in the search. Steps are those of the first evaluation at the target or below.",
            "Median: after so many steps half of the runs are there; - where they never are. Mean: within the horizon "
            "(restricted mean), ± half the 95 % interval; a run that misses the target counts with the horizon, one "
            "that diverged too.",
            f"p: log-rank test against {baseline}, which does not use that seeds are paired, and holds for many runs "
            "(with fewer than ten of each take it for a hint); Holm over the "
            f"{sum(not math.isnan(one.logrank_p) for one in found)} pairs of this table.",
        ),
    )


def targets_csv(found: list[TimeToTarget], names: Names) -> str:
    """One line for each run, as survival analyses read it: steps, and whether the target was reached or not yet."""
    return csv_text(
        ["workload", "optimizer", "horizon", "recipe", "seed", "target_loss", "steps", "reached",
         "recipe_median_steps", "recipe_mean_steps", "recipe_mean_low", "recipe_mean_high",
         "recipe_p_logrank", "recipe_p_logrank_holm"],
        [
            [
                *(names.workload(one.task.workload), one.task.optimizer, one.task.steps, names.recipe(one.recipe)),
                *(seed, one.target, float(steps), int(reached)),
                *(one.median if math.isfinite(one.median) else None, *one.mean, one.logrank_p, one.adjusted_p),
            ]
            for one in found
            for seed, steps, reached in zip(one.seeds, one.steps, one.reached, strict=True)
        ],
    )  # fmt: skip
