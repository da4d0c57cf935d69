"""Time to target: what is counted, and against scipy where there is a test or an interval."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaptive_lr.study import RunResult
from adaptive_lr.study.reports import make_report
from adaptive_lr.study.reports.comparison import compare_recipes
from adaptive_lr.study.reports.targets import TimeToTarget, targets_csv, times_to_target
from adaptive_lr.study.reports.tasks import collect_tasks
from adaptive_lr.study.statistics import kaplan_meier, median_steps
from recorded import START, recorded

HORIZON, EVERY = 40, 10
COSINE = (20, 30, 30, 40, 20, 30)
FASTER = (10, 10, 20, None, 10, 20)


def arriving(recipe: str, seed: int, at: int | None) -> RunResult:
    """A run that ends at a loss of 0.5 and is below every target from that step on, or at no step."""
    result = recorded(recipe, 0.1, seed, 0.5)
    losses = [(step, 0.5 if at is not None and step >= at else START, None) for step in range(0, HORIZON + 1, EVERY)]
    return replace(result, evaluations=tuple(losses))


def found(*others: tuple[int | None, ...]) -> dict[str, TimeToTarget]:
    """Of cosine and as many other recipes, a seed for each entry."""
    recipes = dict(zip(("cosine", "automatic", "linear"), (COSINE, *others), strict=False))
    results = [arriving(recipe, seed, at) for recipe, steps in recipes.items() for seed, at in enumerate(steps)]
    (comparison,) = compare_recipes(collect_tasks(results), "cosine", "loss")
    return {one.recipe: one for one in times_to_target(comparison)}


def test_a_run_that_misses_the_target_is_watched_to_the_horizon_and_not_left_out() -> None:
    one = found(FASTER)["automatic"]
    assert one.steps.tolist() == [10, 10, 20, 40, 10, 20]
    assert one.reached.tolist() == [True, True, True, False, True, True]
    assert (one.median, one.mean.mean) == (10.0, pytest.approx(110 / 6))
    assert one.target == pytest.approx(START - 0.95 * (START - 0.5))


def test_a_run_that_diverged_is_short_of_the_target_to_the_horizon() -> None:
    """It ended after ten steps: to censor it there would say that it might have reached the target later."""
    results = [arriving("cosine", seed, 20) for seed in range(3)]
    lost = replace(recorded("automatic", 0.1, 0, math.inf), evaluations=((0, START, None), (10, 9.0, None)))
    results += [lost, *(arriving("automatic", seed, 20) for seed in (1, 2))]
    (comparison,) = compare_recipes(collect_tasks(results), "cosine", "loss")
    one = times_to_target(comparison)[1]
    assert (one.steps.tolist(), one.reached.tolist()) == ([40.0, 20.0, 20.0], [False, True, True])


def test_p_values_are_those_of_the_log_rank_test_and_of_holm_over_all_pairs() -> None:
    of_all = found(FASTER, COSINE)
    data = [stats.CensoredData(uncensored=[10, 10, 20, 10, 20], right=[40]), stats.CensoredData(uncensored=COSINE)]
    expected = float(stats.logrank(*data).pvalue)
    assert of_all["automatic"].logrank_p == pytest.approx(expected)
    assert of_all["automatic"].adjusted_p == pytest.approx(2 * expected)
    assert (of_all["linear"].logrank_p, of_all["linear"].adjusted_p) == (1.0, 1.0)
    assert math.isnan(of_all["cosine"].logrank_p)
    assert math.isnan(of_all["cosine"].adjusted_p)


def test_the_curve_begins_at_nothing_and_ends_at_the_share_that_arrived_with_its_exact_interval() -> None:
    steps, share, low, high = found(FASTER)["automatic"].curve
    assert steps.tolist() == [0, 10, 20, 40]
    assert share == pytest.approx([0, 3 / 6, 5 / 6, 5 / 6])
    interval = stats.binomtest(5, 6).proportion_ci(0.95, method="exact")
    assert (low[-1], high[-1]) == pytest.approx((interval.low, interval.high))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([10, 20, 30, 40, None]), min_size=6, max_size=6))
def test_the_curve_is_the_share_of_runs_that_have_arrived(steps: list[int | None]) -> None:
    """Against counting, at every step where it changes; the median is where that share comes to a half."""
    one = found(tuple(steps))["automatic"]
    places, share, low, high = one.curve
    counted = [np.mean([at is not None and at <= place for at in steps]) for place in places]
    assert share == pytest.approx(counted)
    assert places[-1] == HORIZON
    assert (np.diff(places) > 0.0).all()
    assert (low <= share + 1e-12).all()
    assert (share <= high + 1e-12).all()
    arrived = sorted(at for at in steps if at is not None)
    assert one.median == (arrived[2] if len(arrived) >= 3 else math.inf)


def test_half_is_half_to_rounding() -> None:
    """5/6 × 4/5 × 3/4 is a little more than 1/2 in floating point, and of six runs three are a half."""
    for runs in range(2, 40, 2):
        times = np.arange(1.0, runs + 1.0)
        assert median_steps(kaplan_meier(times, np.ones(runs, dtype=bool))) == runs / 2


def test_with_few_seeds_a_share_has_no_interval() -> None:
    results = [arriving(recipe, seed, 20) for recipe in ("cosine", "automatic") for seed in range(4)]
    (comparison,) = compare_recipes(collect_tasks(results), "cosine", "loss")
    assert np.isnan(times_to_target(comparison)[0].curve[2]).all()


def test_the_table_says_what_is_reached_and_what_never_is() -> None:
    runs = {"cosine": COSINE, "automatic": FASTER, "linear": (None,) * 6}
    report = make_report([arriving(r, seed, at) for r, steps in runs.items() for seed, at in enumerate(steps)])
    rows = {row[2]: row for row in report.tables["targets-sgd"].rows}
    assert rows["cosine"][1:] == ("0.575", "cosine", "6 of 6", "30", "28.3 ± 7.9", "", "")
    assert rows["automatic"][3:5] == ("5 of 6", "10")
    assert rows["linear"][3:6] == ("0 of 6", "-", "40 ± 0")
    assert "Holm over the 2 pairs" in report.tables["targets-sgd"].notes[2]


def test_the_csv_has_a_line_for_each_run_as_survival_analyses_read_it() -> None:
    results = [arriving(r, seed, at) for r, steps in (("cosine", COSINE), ("automatic", FASTER))
               for seed, at in enumerate(steps)]  # fmt: skip
    report = make_report(results)
    lines = list(csv.DictReader(io.StringIO(targets_csv(report.targets["sgd"], report.names))))
    own = [line for line in lines if line["recipe"] == "automatic"]
    assert [(line["seed"], line["steps"], line["reached"]) for line in own] == [
        ("0", "10.0", "1"), ("1", "10.0", "1"), ("2", "20.0", "1"), ("3", "40.0", "0"), ("4", "10.0", "1"),
        ("5", "20.0", "1"),
    ]  # fmt: skip
    assert {line["recipe_p_logrank"] for line in lines if line["recipe"] == "cosine"} == {""}
    assert float(own[0]["recipe_p_logrank"]) == report.targets["sgd"][1].logrank_p
