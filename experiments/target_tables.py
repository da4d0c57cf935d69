"""How soon runs come to what `cosine` learns at its tuned peak, from the record of the no-harm study, and the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adaptive_lr.study.reports.comparison import TARGET
from adaptive_lr.study.statistics import (
    RestrictedMean,
    holm,
    kaplan_meier,
    logrank_test,
    median_steps,
    restricted_mean,
)
from adaptive_lr.study.statistics.resampling import Array
from experiments.records import table

BASELINE = "cosine"


@dataclass(frozen=True)
class Arrival:
    """One recipe with one optimizer on one workload.

    Attributes:
        workload, optimizer, recipe: names.
        horizon: steps of a run; one that never comes to the target counts with that.
        runs, reached: how many, and how many of them came to the target.
        mean: steps to the target within the horizon.
        median: steps after which half of the runs are there, or inf.
        p_value: of the log-rank test against `cosine`, NaN for that itself.
        adjusted_p: the same after Holm, over all workloads and optimizers of the recipe.
    """

    workload: str
    optimizer: str
    recipe: str
    horizon: int
    runs: int
    reached: int
    mean: RestrictedMean
    median: float
    p_value: float
    adjusted_p: float


def has_targets(record: Mapping[str, Any]) -> bool:
    """Whether steps to a target are on record: they were not kept from the beginning."""
    return all("steps_to_target" in entry for entry in record["pairs"])


def times(entry: Mapping[str, Any], recipe: str) -> Array:
    """Shape (seeds,): steps to the target, inf for a run that never came to it."""
    return np.array([math.inf if steps is None else float(steps) for steps in entry["steps_to_target"][recipe]])


def arrivals(record: Mapping[str, Any], recipe: str) -> list[Arrival]:
    """A recipe on every pair of the record."""
    found = [_arrival(entry, recipe) for entry in record["pairs"]]
    if recipe == BASELINE:
        return found
    adjusted = holm([one.p_value for one in found])
    return [replace(one, adjusted_p=float(p_value)) for one, p_value in zip(found, adjusted, strict=True)]


def _arrival(entry: Mapping[str, Any], recipe: str) -> Arrival:
    horizon = entry["steps"]
    (steps, reached), (others, arrived) = (
        (np.minimum(found, horizon), np.isfinite(found)) for found in (times(entry, recipe), times(entry, BASELINE))
    )
    p_value = math.nan if recipe == BASELINE else logrank_test(steps, reached, others, arrived)
    return Arrival(
        workload=entry["workload"],
        optimizer=entry["optimizer"],
        recipe=recipe,
        horizon=horizon,
        runs=len(steps),
        reached=int(reached.sum()),
        mean=restricted_mean(steps, reached, horizon),
        median=median_steps(kaplan_meier(steps, reached)),
        p_value=p_value,
        adjusted_p=p_value,
    )


def target_section(record: Mapping[str, Any], treated: Sequence[str]) -> list[str]:
    """The table as Markdown, or nothing where the record has no targets."""
    if not has_targets(record):
        return []
    heads = ["workload", "optimizer", "target", "cosine: there", "mean steps"]
    for recipe in treated:
        heads += [f"{recipe}: there", "mean steps", "p", "p (Holm)"]
    of_each = [arrivals(record, recipe) for recipe in (BASELINE, *treated)]
    rows = []
    for entry, fixed, *others in zip(record["pairs"], *of_each, strict=True):
        cells = [
            fixed.workload,
            fixed.optimizer,
            f"{entry['target_loss']:.3g}",
            _there(fixed),
            f"{fixed.mean.mean:.0f}",
        ]
        for one in others:
            cells += [_there(one), f"{one.mean.mean:.0f}", f"{one.p_value:.3g}", f"{one.adjusted_p:.3g}"]
        rows.append(cells)
    return [
        "## Steps to what cosine learns\n",
        f"The target is the validation loss at {TARGET:.0%} of what `cosine` learns at its tuned peak, from start to "
        "end in the mean over\nseeds; a step counts where an evaluation shows it. Mean steps: within the horizon "
        "(restricted mean); a run that never\ncomes to the target counts with the horizon. p is that of the log-rank "
        "test, Holm's over the rows.\n",
        f"{table(heads, rows)}\n",
    ]


def _there(one: Arrival) -> str:
    return f"{one.reached} of {one.runs}"
