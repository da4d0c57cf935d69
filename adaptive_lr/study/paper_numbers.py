r"""The numbers that a paper quotes of a study, by name.

A name says where a number is from, in words that stay when seeds, steps or budgets change:

- of the study: ``study``, ``baseline``, ``seeds``, ``tuning.seeds``, ``runs``, ``runs.failed``, ``versions.torch``, ...
- of a task: ``WORKLOAD.xHORIZON.steps``, with the horizon as the study file has it
- of a recipe on a task: ``WORKLOAD.xHORIZON.OPTIMIZER.RECIPE`` and then ``.lr``, ``.SETTING``, ``.accuracy``,
  ``.accuracy.median``, ``.accuracy.difference``, ``.accuracy.p``, ``.accuracy.p-holm``, ``.accuracy.wins``, and all of
  these with ``loss``; of the time to the target ``.target.loss``, ``.target.reached`` (how many runs),
  ``.target.steps`` (their mean within the horizon), ``.target.median``, ``.target.p`` (log-rank), ``.target.p-holm``
- over all tasks: ``OPTIMIZER.RECIPE.accuracy.iqm``, ``.win-rate``, ``.improvement`` and ``OPTIMIZER.RECIPE.diverged``;
  ``OPTIMIZER.accuracy.better``, ``.worse`` and ``.pairs`` count significant differences

Names of workloads, optimizers and recipes are written in small letters, all signs as hyphens. Numbers of another budget
than the first have its name in front, as in ``search-20.two-rings.x1.sgd.cosine.lr``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from statistics import median

from adaptive_lr.study.budget import Budget
from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.job import Standing
from adaptive_lr.study.reports import Report
from adaptive_lr.study.reports.comparison import Comparison, Pair
from adaptive_lr.study.reports.names import Names
from adaptive_lr.study.reports.result_tables import SIGNIFICANT
from adaptive_lr.study.reports.tables import escape, probability, with_uncertainty
from adaptive_lr.study.reports.targets import TimeToTarget
from adaptive_lr.study.reports.tasks import Measure, Task
from adaptive_lr.study.statistics import mean_interval
from adaptive_lr.study.study import Study
from adaptive_lr.study.study_reports import BudgetReport, baseline_of

Numbers = Iterator[tuple[str, str]]

MEASURES: Mapping[Measure, str] = {"error": "accuracy", "loss": "loss"}
"""What a measure is called in names; errors are quoted as accuracies, in percent."""

VERSIONS = ("adaptive_lr", "torch", "python")
"""Of what the recorded environment is quoted."""


def study_numbers(study: Study, now: Standing, reports: Iterable[BudgetReport]) -> dict[str, str]:
    """Every number that a paper may quote of a study: name -> LaTeX text.

    Args:
        study: what was asked for.
        now: what there is of it.
        reports: one for each budget, the first without its name in front.

    Raises:
        StudyError: two things have the same name once signs are hyphens, or nothing is left of a name.
    """
    found = dict(_of_study(study, now))
    for place, (budget, report) in enumerate(reports):
        prefix = f"{budget}." if place else ""
        for name, text in (*_of_tasks(study, report), *_pooled(report)):
            if found.setdefault(prefix + name, text) != text:
                raise StudyError(f"two results have the name {prefix + name!r}: give their workloads or recipes others")
    return found


def number(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, as mathematics: 0.00123, 1.2 x 10^-5, -3.4."""
    text = f"{value:.{digits}g}"
    mantissa, sign, exponent = text.partition("e")
    power = rf"10^{{{int(exponent)}}}" if sign else ""
    return f"${power}$" if mantissa == "1" and sign else rf"${mantissa}\times{power}$" if sign else f"${text}$"


def slug(name: str) -> str:
    """A name as a part of the name of a number: small letters and digits, signs between them as one hyphen.

    Raises:
        StudyError: nothing is left of it.
    """
    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not found:
        raise StudyError(f"a paper cannot quote results of {name!r}: give it a name with letters from a to z or digits")
    return found


def _of_study(study: Study, now: Standing) -> Numbers:
    runs = {*now.tuning, *now.reported}
    yield "study", escape(study.name)
    yield "baseline", escape(Names((), {}).recipe(baseline_of(study)))
    for what in ("workloads", "recipes", "optimizers", "horizons"):
        yield what, str(len(dict.fromkeys(getattr(study, what))))
    yield "seeds", str(study.seeds)
    yield "runs", _count(len(runs))
    yield "runs.tuning", _count(len(now.tuning))
    yield "runs.reported", _count(len(now.reported))
    yield "runs.failed", _count(len(now.failed))
    yield "runs.diverged", _count(sum(result.status == "diverged" for result in now.results.values()))
    if study.tuning is not None:
        yield "tuning.seeds", str(study.tuning.seeds)
        yield "tuning.settings", str(Budget.parse(study.tuning.budgets[0]).size)
        yield "tuning.budget", escape(study.tuning.budgets[0])
        yield "tuning.at-edge", _count(sum(bool(choice.at_edge) for choice in now.choices))
    for package in VERSIONS:
        versions = {str(result.environment.get(package, "unknown")) for result in now.results.values()}
        yield f"versions.{slug(package)}", escape(", ".join(sorted(versions)))


def _of_tasks(study: Study, report: Report) -> Numbers:
    names = report.names
    workloads = _slugs({task.workload: names.workload(task.workload) for task in report.tasks})
    recipes = _slugs({recipe: names.recipe(recipe) for task in report.tasks for recipe in task.reported})
    pairs = {
        (measure, pair.task, pair.recipe): pair
        for measure, comparisons in report.comparisons.items()
        for comparison in comparisons
        for pair in comparison.pairs
    }
    targets = {(one.task, one.recipe): one for of_optimizer in report.targets.values() for one in of_optimizer}
    for task in report.tasks:
        for horizon, steps in study.steps_of(task.workload).items():
            if steps != task.steps:
                continue
            place = f"{workloads[task.workload]}.x{slug_of_number(horizon)}"
            yield f"{place}.steps", _count(steps)
            for recipe in task.reported:
                here = f"{place}.{_optimizer(task.optimizer)}.{recipes[recipe]}"
                for name, text in (*_of_setting(task, recipe), *_of_metrics(report, task, recipe)):
                    yield f"{here}.{name}", text
                if (task, recipe) in targets:
                    for name, text in _of_target(targets[task, recipe]):
                        yield f"{here}.target.{name}", text
                for measure, word in MEASURES.items():
                    pair = pairs.get((measure, task, recipe))
                    if pair is not None and (measure == "loss" or task.scored):
                        for name, text in _of_pair(pair, measure):
                            yield f"{here}.{word}.{name}", text


def _of_setting(task: Task, recipe: str) -> Numbers:
    run = task.reported[recipe].results[0].run
    yield "lr", number(run.peak_lr)
    for name, value in run.settings:
        yield slug(name), number(value)


def _of_metrics(report: Report, task: Task, recipe: str) -> Numbers:
    """On the seeds that the tables are of: those that all recipes have that are compared."""
    compared = next((c.recipes for c in report.comparisons["loss"] if c.optimizer == task.optimizer), ())
    seeds = task.shared_seeds(compared if recipe in compared else (recipe,))
    if not seeds:
        return
    yield "seeds", str(len(seeds))
    for measure, word in MEASURES.items():
        if measure == "error" and not task.scored:
            continue
        costs = task.costs(recipe, seeds, measure)
        values = 100.0 * (1.0 - costs) if measure == "error" else costs
        mean, _, high = mean_interval(values)
        yield word, _uncertain(mean, high - mean)
        yield f"{word}.median", f"${median(values):.1f}$" if measure == "error" else number(median(values), 4)


def _of_pair(pair: Pair, measure: Measure) -> Numbers:
    mean, _, high, p_value = pair.difference
    sign = -100.0 if measure == "error" else 1.0  # errors, less is better, become points of accuracy
    yield "difference", _uncertain(sign * mean, abs(sign) * (high - mean), signed=True)
    yield "p", _probability(p_value)
    yield "p-holm", _probability(pair.adjusted_p)
    yield "wins", rf"{100.0 * pair.wins:.0f}\,\%"


def _of_target(one: TimeToTarget) -> Numbers:
    yield "loss", number(one.target)
    yield "reached", str(int(one.reached.sum()))
    yield "median", number(one.median, 4) if math.isfinite(one.median) else "never"
    yield "steps", _uncertain(one.mean.mean, one.mean.high - one.mean.mean)
    if not math.isnan(one.logrank_p):  # the baseline is not tested against itself
        yield "p", _probability(one.logrank_p)
        yield "p-holm", _probability(one.adjusted_p)


def _pooled(report: Report) -> Numbers:
    recipes = _slugs({recipe: report.names.recipe(recipe) for task in report.tasks for recipe in task.reported})
    figures = {"iqm": "interquartile mean", "win-rate": "win rate", "improvement": "probability of improvement"}
    for measure, comparisons in report.comparisons.items():
        word = MEASURES[measure]
        for comparison in comparisons:
            optimizer = _optimizer(comparison.optimizer)
            yield f"{optimizer}.tasks", str(len(comparison.tasks))
            yield f"{optimizer}.{word}.pairs", str(len(comparison.pairs))
            yield f"{optimizer}.{word}.better", str(_significant(comparison, better=True))
            yield f"{optimizer}.{word}.worse", str(_significant(comparison, better=False))
            for index, recipe in enumerate(comparison.recipes):
                here = f"{optimizer}.{recipes[recipe]}"
                rate = comparison.diverged(recipe)
                yield f"{here}.diverged", rf"{100.0 * rate.share:.0f}\,\%"
                for name, figure in figures.items():
                    if recipe != comparison.baseline or name == "iqm":
                        yield f"{here}.{word}.{name}", _between(*(float(e[index]) for e in comparison.pooled[figure]))


def _significant(comparison: Comparison, *, better: bool) -> int:
    found = [pair for pair in comparison.pairs if pair.adjusted_p <= SIGNIFICANT]
    return sum((pair.difference.mean < 0.0) == better for pair in found)


def _slugs(names: Mapping[str, str]) -> dict[str, str]:
    found = {reference: slug(name) for reference, name in names.items()}
    for reference, short in found.items():
        same = [names[other] for other in found if found[other] == short]
        if len(same) > 1:
            raise StudyError(f"a paper cannot tell {' and '.join(map(repr, same))} apart: give one another name")
        assert names[reference] == same[0]
    return found


def _optimizer(reference: str) -> str:
    return slug(reference.rpartition(":")[2])


def slug_of_number(value: float) -> str:
    """A number as a part of a name: 1, 0.5, 1e-05."""
    return f"{value:g}".replace("+", "")


def _count(value: int) -> str:
    return f"{value:,}"


def _uncertain(value: float, half: float, *, signed: bool = False) -> str:
    text = with_uncertainty(value, half)
    plus = "+" if signed and not text.startswith("-") and float(text.split(" ")[0]) > 0.0 else ""
    return f"${plus}{text}$".replace(" ± ", r"\pm")


def _between(value: float, low: float, high: float) -> str:
    interval = "" if math.isnan(low) else rf"\ [{low:.2f}, {high:.2f}]"
    return f"${value:.2f}${interval}"


def _probability(p_value: float) -> str:
    text = probability(p_value)
    return f"$p{text}$" if text.startswith("<") else f"$p={text}$"
