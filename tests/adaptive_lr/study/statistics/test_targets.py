"""Time to target: by hand, against scipy, and against the t-interval where nothing is censored early."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from adaptive_lr.study.statistics import kaplan_meier, logrank_test, mean_interval, restricted_mean, steps_to_target

runs = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=2, max_size=10)


def test_the_first_evaluation_at_the_target_counts() -> None:
    """Later ones and NaN do not; a target that is never reached is infinitely far."""
    evaluations = [(0, 2.0), (10, math.nan), (20, 0.5), (30, 0.7), (40, 0.4)]
    assert steps_to_target(evaluations, 0.5) == 20
    assert steps_to_target(evaluations, 0.3) == math.inf
    assert steps_to_target([], 1.0) == math.inf


def test_kaplan_meier_by_hand() -> None:
    """Six runs, reached at 1, 3, 3 and 5, censored at 2 and 6: 5/6, then × 2/4, then × 1/2."""
    curve = kaplan_meier([1, 2, 3, 3, 5, 6], [True, False, True, True, True, False])
    shares = dict(zip(curve.steps, curve.share, strict=True))
    assert [shares[step] for step in (1, 3, 5)] == pytest.approx([5 / 6, 5 / 12, 5 / 24])


@settings(deadline=None, max_examples=60)
@given(runs, st.integers(1, 15))
def test_restricted_mean_is_the_area_under_the_kaplan_meier_curve(sample: list[tuple[int, bool]], horizon: int) -> None:
    times, reached = zip(*sample, strict=True)
    curve = kaplan_meier(times, reached)
    middles = np.arange(horizon) + 0.5
    index = np.searchsorted(curve.steps, middles, side="right")
    shares = np.concatenate([[1.0], curve.share])[index]
    assert restricted_mean(times, reached, horizon).mean == pytest.approx(shares.sum())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(1.0, 20.0), min_size=2, max_size=10))
def test_without_early_censoring_it_is_the_t_interval_of_the_bounded_steps(times: list[float]) -> None:
    """Runs that were watched to the horizon of 10 count as 10."""
    bounded = np.minimum(times, 10.0)
    found = restricted_mean(bounded, np.array(times) < 10.0, 10.0)
    assert tuple(found) == pytest.approx(tuple(mean_interval(bounded)), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("runs", [5, 10])
def test_interval_of_the_restricted_mean_covers(runs: int) -> None:
    """Exponential steps to the target, censored at random and at 2: not below 90 % by more than chance."""
    generator = np.random.default_rng(runs)
    truth = integrate.quad(lambda t: math.exp(-t), 0.0, 2.0)[0]
    covered = 0
    for _ in range(600):
        times, censored = generator.exponential(size=runs), generator.uniform(1.0, 6.0, size=runs)
        found = restricted_mean(np.minimum(times, censored), times <= censored, 2.0)
        covered += found.low <= truth <= found.high
    assert covered / 600 > 0.9 - 4 * math.sqrt(0.9 * 0.1 / 600)


def test_the_log_rank_test_is_scipys_and_says_one_where_nothing_was_seen() -> None:
    first, second = [5.0, 8.0, 12.0, 20.0], [20.0, 20.0, 18.0, 19.0]
    seen, other = [True, True, True, False], [False, False, True, True]
    fast = stats.CensoredData(uncensored=first[:3], right=[20.0])
    slow = stats.CensoredData(uncensored=[18.0, 19.0], right=[20.0] * 2)
    expected = stats.logrank(fast, slow).pvalue
    assert logrank_test(first, seen, second, other) == pytest.approx(expected)
    assert logrank_test([20.0] * 4, [False] * 4, [20.0] * 4, [False] * 4) == 1.0
    assert logrank_test([4.0] * 3, [True] * 3, [4.0] * 3, [True] * 3) == 1.0


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="times must be finite"):
        kaplan_meier([1.0, math.inf], [True, False])
    with pytest.raises(ValueError, match=r"times must be >= 0, got \[-1.0, 2.0\]"):
        kaplan_meier([-1.0, 2.0], [True, False])
    with pytest.raises(ValueError, match="equal shapes"):
        kaplan_meier([1.0, 2.0], [True])
    with pytest.raises(ValueError, match="horizon must be finite and > 0"):
        restricted_mean([1.0], [True], 0.0)
    with pytest.raises(ValueError, match="other_times must be a non-empty"):
        logrank_test([1.0], [True], [], [])
