"""Pooled figures against scipy's and rliable's definitions, and the bootstrap against what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaptive_lr.study.statistics import (
    bootstrap,
    interquartile_mean,
    mean_interval,
    median,
    normalise,
    probability_of_improvement,
    score_of_times,
    win_rates,
)

sizes = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def tasks_of(seeds: list[int], methods: int = 3, *, seed: int = 0) -> list[np.ndarray]:
    """Scores with ties, since they are rounded."""
    generator = np.random.default_rng(seed)
    return [np.round(generator.normal(size=(methods, count)), 1) for count in seeds]


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(0, 99))
def test_interquartile_mean_is_scipys_trimmed_mean_of_all_runs(seeds: list[int], seed: int) -> None:
    """As rliable defines it: scipy's trim_mean with 25 %, over runs and tasks together."""
    tasks = tasks_of(seeds, seed=seed)
    expected = [stats.trim_mean(np.concatenate([task[i] for task in tasks]), 0.25) for i in range(3)]
    assert interquartile_mean(tasks) == pytest.approx(expected)


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(0, 99))
def test_probability_of_improvement_is_the_mean_mann_whitney_u(seeds: list[int], seed: int) -> None:
    tasks = tasks_of(seeds, seed=seed)
    expected = [
        np.mean([stats.mannwhitneyu(task[i], task[1]).statistic / task.shape[1] ** 2 for task in tasks])
        for i in range(3)
    ]
    found = probability_of_improvement(1)(tasks)
    assert found == pytest.approx(expected)
    assert found[1] == 0.5


def test_win_rates_are_of_pairs_and_tasks_weigh_the_same() -> None:
    """Task one: wins of 1 and ½ of two pairs; task two: none of one."""
    tasks = [np.array([[2.0, 1.0], [1.0, 1.0]]), np.array([[0.0], [1.0]])]
    assert win_rates(1)(tasks).tolist() == [(0.75 + 0.0) / 2, 0.5]


def test_median_is_that_of_the_means_of_the_tasks() -> None:
    tasks = [np.array([[1.0, 3.0]]), np.array([[10.0]]), np.array([[0.0, 0.0, 0.0]])]
    assert median(tasks).tolist() == [2.0]


def test_scores_are_zero_at_the_start_and_one_at_the_reference() -> None:
    """A run that diverged or ended above the start scores 0; one below the reference scores above 1."""
    costs = np.array([2.0, 1.0, 0.5, math.inf, math.nan, 7.0])
    assert normalise(costs, 2.0, 1.0).tolist() == [0.0, 1.0, 1.5, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="reference must be below initial"):
        normalise(costs, 1.0, 1.0)


def test_the_bootstrap_of_a_mean_has_its_unbiased_standard_error() -> None:
    """10 values, 20,000 resamples: half the width is t s / √n within 5 %, t with nine degrees of freedom."""
    values = np.random.default_rng(2).normal(size=(1, 10))
    found = bootstrap([values], lambda tasks: tasks[0].mean(axis=-1), resamples=20_000)
    expected = stats.t.ppf(0.975, 9) * values.std(ddof=1) / math.sqrt(10)
    assert (found.high[0] - found.low[0]) / 2 == pytest.approx(expected, rel=0.05)


def test_seeds_are_resampled_for_all_methods_at_once() -> None:
    """Methods that differ by a constant in every seed: the difference of their means has no width."""
    first = np.random.default_rng(3).normal(size=8)
    found = bootstrap([np.stack([first, first + 1.0])], lambda tasks: np.diff(tasks[0].mean(axis=-1), axis=-1))
    assert (found.values[0], found.low[0], found.high[0]) == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize(
    "statistic", [interquartile_mean, probability_of_improvement(1)], ids=["iqm", "probability of improvement"]
)
def test_intervals_of_pooled_figures_cover(statistic, seeds: int) -> None:
    """Six tasks of normal scores, 200 studies: not below 90 % by more than chance (4 standard errors).

    Resampling n of n seeds would fall further short of 95 % the fewer there are; n − 1 were measured at 92 to 97 %.
    """
    generator = np.random.default_rng(seeds)
    shifts = 0.3 * np.arange(6)
    truth = statistic([shift + generator.normal(size=(2, 4_000)) for shift in shifts])
    if statistic is not interquartile_mean:
        truth = np.array([0.5, 0.5])
    covered = 0
    for number in range(200):
        tasks = [shift + generator.normal(size=(2, seeds)) for shift in shifts]
        found = bootstrap(tasks, statistic, resamples=200, seed=number)
        covered += found.low[0] <= truth[0] <= found.high[0]
    assert covered / 200 > 0.9 - 4 * math.sqrt(0.9 * 0.1 / 200)


def test_a_bootstrap_is_repeatable_and_its_seed_matters() -> None:
    tasks = tasks_of([5, 4], seed=1)
    first, same, other = (bootstrap(tasks, interquartile_mean, resamples=200, seed=seed) for seed in (0, 0, 1))
    assert first.low.tolist() == same.low.tolist()
    assert first.low.tolist() != other.low.tolist()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(3, 5), min_size=2, max_size=3), st.integers(0, 999))
def test_an_interval_holds_the_value_that_it_is_of(seeds: list[int], seed: int) -> None:
    """Of the score by times, too, whose resampled ratios to the fastest are larger than the ratio itself."""
    generator = np.random.default_rng(seed)
    times = [generator.integers(1, 5, size=(3, count)).astype(float) for count in seeds]
    found = bootstrap(times, score_of_times, resamples=60)
    assert (found.low <= found.values).all()
    assert (found.values <= found.high).all()


@pytest.mark.parametrize(
    ("seeds", "known"), [((1, 5), False), ((2, 9), False), ((4,), False), ((5,), True), ((3, 3), True)]
)
def test_too_few_seeds_have_no_interval(seeds: tuple[int, ...], known: bool) -> None:
    """Three of each task and four degrees of freedom over all of them are the fewest."""
    found = bootstrap(tasks_of(list(seeds)), interquartile_mean, resamples=50)
    assert np.isfinite(found.low).all() == np.isfinite(found.high).all() == known
    assert np.isnan(found.low).all() != known
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(("num_tasks", "seeds", "expected"), [(1, 5, 0.92), (1, 10, 0.95), (3, 3, 0.92)])
def test_intervals_of_a_mean_cover_as_the_docstring_says(num_tasks: int, seeds: int, expected: float) -> None:
    """400 studies: not below by more than chance (3 standard errors)."""
    generator = np.random.default_rng(seeds)
    covered = 0
    for number in range(400):
        tasks = [generator.normal(size=(1, seeds)) for _ in range(num_tasks)]
        found = bootstrap(tasks, lambda t: np.mean([x.mean(axis=-1) for x in t], axis=0), resamples=400, seed=number)
        covered += found.low[0] <= 0.0 <= found.high[0]
    assert covered / 400 > expected - 3 * math.sqrt(expected * (1 - expected) / 400)


@pytest.mark.parametrize(
    "statistic",
    [interquartile_mean, median, win_rates(0), probability_of_improvement(0)],
    ids=["iqm", "median", "win rates", "probability of improvement"],
)
def test_pooled_figures_refuse_no_tasks(statistic) -> None:
    with pytest.raises(ValueError, match="tasks must not be empty"):
        statistic([])


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([], "tasks must not be empty"),
        ([np.zeros(3)], "of shape"),
        ([np.zeros((2, 3)), np.zeros((3, 3))], "equal numbers of methods"),
        ([np.full((2, 2), math.nan)], "must not hold NaN"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(tasks: list[np.ndarray], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        bootstrap(tasks, interquartile_mean)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="resamples must be >= 1, got 0"):
        bootstrap(tasks_of([3]), interquartile_mean, resamples=0)
    with pytest.raises(ValueError, match="confidence must be in"):
        bootstrap(tasks_of([3]), interquartile_mean, confidence=1.0)


def test_t_intervals_of_ten_values_cover_as_often_as_they_say() -> None:
    samples = np.random.default_rng(4).normal(size=(3000, 10))
    covered = np.mean([interval.low <= 0.0 <= interval.high for interval in map(mean_interval, samples)])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)
