"""The figures of a report: which apply, and with which numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from adaptive_lr.study.figures import budget, improvement, intervals, learning_rates, profile, targets, trace
from adaptive_lr.study.reports.comparison import TARGET, Comparison
from adaptive_lr.study.reports.names import Names
from adaptive_lr.study.reports.result_tables import is_grid
from adaptive_lr.study.reports.targets import TimeToTarget
from adaptive_lr.study.reports.tasks import Task
from adaptive_lr.study.run import RunResult
from adaptive_lr.study.statistics import (
    TuningCurve,
    bootstrap,
    mean_interval,
    normalise,
    profile_of_times,
    score_distribution,
    tuning_curve,
)
from adaptive_lr.study.statistics.profiles import MAX_RATIO
from adaptive_lr.study.statistics.resampling import Array, Statistic
from adaptive_lr.study.summary import Cell, summarise

RATIOS = np.geomspace(1.0, MAX_RATIO, 145)
"""Where profiles are drawn."""

NUM_SCORES = 150
"""At how many places distributions of scores are."""

PROFILE_RESAMPLES = 2_000
"""As many as rliable takes for profiles."""

FEWEST_TASKS = 3
"""Of a mean over tasks, with fewer there is no interval."""

KIND = {"loss": "test loss", "error": "test error, or loss where there is none"}


def draw_pooled(comparisons: Sequence[Comparison], names: Names, folder: Path) -> list[Path]:
    """Profile, intervals and probabilities of improvement; comparisons of one measure, one for each optimizer.

    Optimizers whose recipes are not those of the first are drawn into figures of their own.
    """
    files: list[Path] = []
    for number, group in enumerate(_alike(comparisons)):
        first = group[0]
        methods, baseline = names.recipes(first.recipes), names.recipe(first.baseline)
        ending = first.measure + (f"-{number + 1}" if number else "")
        label = {c.optimizer: names.optimizer(c.optimizer) for c in group}
        share = f"{TARGET:.0%} of what {baseline} learns"
        score = f"score by {KIND[first.measure]}\n(0: start, 1: {baseline})"
        every = np.concatenate([task.ravel() for c in group for task in c.scores])
        margin = 0.05 * float(np.ptp(every)) or 0.05
        places = np.linspace(every.min() - margin, every.max() + margin, NUM_SCORES)
        files += profile.draw(
            {label[c.optimizer]: (_profile(c), _distribution(c, places)) for c in group}, methods,
            folder / f"profile-{ending}", baseline=baseline, target=share, score=score,
        )  # fmt: skip
        figures = {"interquartile mean": "interquartile mean score", "median": "median score",
                   "win rate": f"win rate against {baseline}"}  # fmt: skip
        files += intervals.draw(
            {label[c.optimizer]: {text: c.pooled[name] for name, text in figures.items()} for c in group}, methods,
            folder / f"intervals-{ending}", baseline=baseline, title="scores over all tasks",
            shares=(figures["win rate"],), marks=dict(zip(figures.values(), (1.0, 1.0, 0.5), strict=True)),
        )  # fmt: skip
        files += improvement.draw(
            {label[c.optimizer]: c.pooled["probability of improvement"] for c in group}, methods,
            folder / f"improvement-{ending}", baseline=baseline,
        )  # fmt: skip
    return files


def draw_targets(comparison: Comparison, found: Sequence[TimeToTarget], names: Names, path: Path) -> list[Path]:
    """Share of runs at the target against steps, a panel for each task of one optimizer."""
    panels = {
        names.task(task): {names.recipe(one.recipe): targets.Curve(*one.curve) for one in found if one.task is task}
        for task in comparison.tasks
    }
    baseline = names.recipe(comparison.baseline)
    return targets.draw(
        panels,
        names.recipes(comparison.recipes),
        path,
        baseline=baseline,
        target=f"{TARGET:.0%} of what {baseline} learns",
    )


def draw_budget(comparisons: Sequence[Comparison], names: Names, folder: Path) -> list[Path]:
    """Expected best against the number of settings, where recipes were searched over several."""
    files: list[Path] = []
    for number, group in enumerate(_alike(comparisons)):
        panels = {}
        for comparison in group:
            curves = {names.recipe(r): c for r in comparison.recipes if (c := _tuning_curve(comparison, r)) is not None}
            if curves:
                panels[names.optimizer(comparison.optimizer)] = curves
        if any(len(curve.expected) > 1 for curves in panels.values() for curve in curves.values()):
            first = group[0]
            baseline = names.recipe(first.baseline)
            tasks = max(len(comparison.tasks) for comparison in group)
            label = f"expected best score\n(1: {baseline} at its best)"
            name = "budget" + (f"-{number + 1}" if number else "")
            files += budget.draw(
                panels, names.recipes(first.recipes), folder / name, baseline=baseline, label=label, mean_of=tasks
            )
    return files


def draw_learning_rates(tasks: Sequence[Task], names: Names, folder: Path) -> list[Path]:
    """For each workload and horizon, loss and error against the learning rate given, where there are several."""
    files: list[Path] = []
    for workload, steps in dict.fromkeys((task.workload, task.steps) for task in tasks):
        own = [task for task in tasks if (task.workload, task.steps) == (workload, steps)]
        grids = [cells for task in own for cells in task.searched.values() if is_grid(cells)]
        if not grids:
            continue
        summaries = summarise(result for cells in grids for cell in cells for result in cell.results)
        title = names.task(own[0])
        stem = f"learning-rates-{_slug(title)}"
        files += learning_rates.draw(summaries, folder / stem, workload=title)
        if all(summary.test_accuracy is not None for summary in summaries):
            measure = learning_rates.ERROR
            files += learning_rates.draw(summaries, folder / f"{stem}-error", workload=title, measure=measure)
    return files


def draw_traces(tasks: Sequence[Task], names: Names, folder: Path) -> list[Path]:
    """For each recipe that decided anything, the run with most to show: see `most_telling`."""
    files: list[Path] = []
    by_recipe: dict[str, list[tuple[str, RunResult]]] = {}
    for task in tasks:
        found = [*task.reported.values(), *(cell for grid in task.searched.values() for cell in grid)]
        for cell in found:
            by_recipe.setdefault(cell.recipe, []).extend((names.task(task), result) for result in cell.results)
    for recipe, results in by_recipe.items():
        chosen = most_telling(results)
        if chosen is not None:
            title, result = chosen
            run = result.run
            files += trace.draw(
                result, folder / f"trace-{_slug(names.recipe(recipe))}",
                title=f"{names.recipe(recipe)} with {names.optimizer(run.optimizer)} on {title},\n"
                f"peak learning rate {run.peak_lr:g}, seed {run.seed}",
            )  # fmt: skip
    return files


def most_telling(results: Iterable[tuple[str, RunResult]]) -> tuple[str, RunResult] | None:
    """The completed run with most kinds of decisions, and of those the one with fewest; None if none has any."""

    def rank(item: tuple[str, RunResult]) -> tuple[object, ...]:
        run, decisions = item[1].run, item[1].decisions
        kinds = len({(decision["controller"], decision["action"]) for decision in decisions})
        return -kinds, len(decisions), -run.peak_lr, run.seed, item[0], run.optimizer, run.steps

    decided = [item for item in results if item[1].decisions and item[1].status in ("completed", "stopped")]
    return min(decided, key=rank, default=None)


def _alike(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(comparison.recipes, []).append(comparison)
    return list(groups.values())


def _profile(comparison: Comparison) -> profile.Curves:
    return _curves(comparison.times, profile_of_times(RATIOS), RATIOS)


def _distribution(comparison: Comparison, places: Array) -> profile.Curves:
    return _curves(comparison.scores, score_distribution(places), places)


def _curves(tasks: Sequence[Array], statistic: Statistic, places: Array) -> profile.Curves:
    estimates = bootstrap(tasks, statistic, resamples=PROFILE_RESAMPLES)
    return profile.Curves(places, *(bound.reshape(-1, len(places)) for bound in estimates))


def _tuning_curve(comparison: Comparison, recipe: str) -> TuningCurve | None:
    """Over all tasks: the mean with its t-interval over tasks; of one task, its own with the band of its search.

    The mean of two tasks has no interval: Student's has one degree of freedom there, and is a dozen times as wide as
    what the tasks differ by.
    """
    curves = []
    for task in comparison.tasks:
        cells, of_baseline = task.searched.get(recipe, ()), task.searched.get(comparison.baseline, ())
        if not cells or not of_baseline:
            return None
        start, best = task.initial(comparison.baseline, "loss"), min(map(_mean_loss, of_baseline))
        losses = np.array([_mean_loss(cell) for cell in cells])
        if not best < start:
            return None
        lower = min(0.0, *losses)
        curve = tuning_curve(np.minimum(losses, start), support=(lower, start))
        curves.append(TuningCurve(*(normalise(np.array(bound), start, best) for bound in curve)))
    count = min(len(curve.expected) for curve in curves)
    if len(curves) == 1:
        expected, high, low = curves[0]  # a low loss is a high score
        return TuningCurve(expected, low, high)
    columns = [mean_interval([float(curve.expected[k]) for curve in curves]) for k in range(count)]
    expected, low, high = (np.array(bound) for bound in zip(*columns, strict=True))
    unknown = np.full(count, np.nan)
    return TuningCurve(expected, low, high) if len(curves) >= FEWEST_TASKS else TuningCurve(expected, unknown, unknown)


def _mean_loss(cell: Cell) -> float:
    return float(np.mean(cell.validation_losses))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
