"""Performance profiles by hand, and AlgoPerf's score against the integral that defines it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from adaptive_lr.study.statistics import (
    benchmark_score,
    bootstrap,
    median_times,
    performance_profile,
    performance_ratios,
    profile_of_times,
    score_distribution,
    score_of_times,
)

TIMES = [[10.0, 40.0, math.inf, math.inf], [20.0, 20.0, 30.0, math.inf], [50.0, 20.0, 90.0, math.inf]]
"""Three methods, four tasks; nobody solves the last."""


def test_ratios_profile_and_score_by_hand() -> None:
    """Ratios 1 2 ∞ ∞, 2 1 1 ∞ and 5 1 3 ∞; scores by r_max = 4."""
    ratios = performance_ratios(TIMES)
    assert ratios.tolist() == [[1, 2, math.inf, math.inf], [2, 1, 1, math.inf], [5, 1, 3, math.inf]]
    shares = [[0.25, 0.5, 0.5], [0.5, 0.75, 0.75], [0.25, 0.25, 0.75]]
    assert performance_profile(ratios, [1.0, 2.0, 5.0]).tolist() == shares
    assert benchmark_score(ratios).tolist() == pytest.approx([(3 + 2) / 12, (2 + 3 + 3) / 12, (0 + 3 + 1) / 12])


times = st.lists(st.one_of(st.floats(1.0, 100.0), st.just(math.inf)), min_size=2, max_size=2)


@settings(deadline=None, max_examples=60)
@given(st.lists(times, min_size=1, max_size=6))
def test_the_closed_form_is_the_integral_of_the_profile(by_task: list[list[float]]) -> None:
    """1/(r_max − 1) ∫ ρ(τ) dτ from 1 to r_max, integrated exactly between the steps of ρ."""
    ratios = performance_ratios(np.transpose(by_task))
    edges = np.unique(np.concatenate([[1.0, 4.0], ratios[(ratios < 4.0)]]))
    areas = performance_profile(ratios, edges[:-1]) @ np.diff(edges)
    assert benchmark_score(ratios).tolist() == pytest.approx((areas / 3.0).tolist())
    taus = np.linspace(1.0, 4.0, 3001)
    by_trapezoid = integrate.trapezoid(performance_profile(ratios, taus), taus, axis=-1) / 3.0
    assert benchmark_score(ratios) == pytest.approx(by_trapezoid, abs=0.001 * len(by_task))


def test_medians_of_times_count_misses() -> None:
    """Odd: the middle run; even: halfway, and a miss if either of the two is one."""
    tasks = [
        np.array([[3.0, 1.0, math.inf], [math.inf, math.inf, 1.0]]),
        np.array([[1.0, 3.0], [2.0, math.inf]]),
    ]
    assert median_times(tasks).tolist() == [[3.0, 2.0], [math.inf, math.inf]]


def test_times_are_profiled_by_their_medians_and_can_be_resampled() -> None:
    tasks = [np.array([[10.0, 10.0, 10.0], [30.0, 30.0, math.inf]]), np.array([[20.0, 20.0, 20.0], [20.0, 20.0, 20.0]])]
    assert profile_of_times([1.0, 3.0])(tasks).tolist() == [1.0, 1.0, 0.5, 1.0]
    assert score_of_times(tasks).tolist() == pytest.approx([1.0, (1 / 3 + 1.0) / 2])
    found = bootstrap(tasks, score_of_times, resamples=500)
    assert found.low[1] < found.values[1] == found.high[1]


def test_the_distribution_of_scores_is_that_of_runs_with_tasks_weighing_the_same() -> None:
    """Above 0.5: 1 of 2 runs and 3 of 4; strictly above, as rliable counts."""
    tasks = [np.array([[0.5, 0.6]]), np.array([[0.4, 0.9, 0.9, 0.9]])]
    assert score_distribution([0.5, 1.0])(tasks).tolist() == [(0.5 + 0.75) / 2, 0.0]


def test_bad_times_and_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match="times must be > 0"):
        performance_ratios([[0.0], [1.0]])
    with pytest.raises(ValueError, match="times must be > 0"):
        performance_ratios([[math.nan], [1.0]])
    with pytest.raises(ValueError, match="max_ratio must be > 1, got 1"):
        benchmark_score([[1.0]], max_ratio=1.0)
