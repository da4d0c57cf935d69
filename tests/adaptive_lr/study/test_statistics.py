"""The statistics of a comparison against scipy, hand-made values and definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaptive_lr.study.statistics import (
    clip_losses,
    decades_within,
    lr_sensitivity,
    mean_interval,
    paired_difference,
    sign_flip_test,
)

values = st.lists(st.floats(-100, 100), min_size=2, max_size=10)


def test_interval_of_a_mean_equals_a_textbook_example() -> None:
    """Mean 3, deviation sqrt(2.5), t(0.975, 4) = 2.776: 3 ± 1.963."""
    interval = mean_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3
    assert interval.low == pytest.approx(3 - 2.7764451 * math.sqrt(2.5) / math.sqrt(5), abs=1e-6)
    assert interval.high == pytest.approx(4.963243, abs=1e-5)


@settings(deadline=None, max_examples=50)
@given(values)
def test_interval_of_a_mean_equals_scipy(sample: list[float]) -> None:
    """Scipy's one-sample t-test gives the same interval."""
    if np.ptp(sample) < 1e-3:
        return
    expected = stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
    assert mean_interval(sample)[1:] == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    """95 % of the intervals of 5 normal values hold the true mean, within 4 standard errors of 4000 repetitions."""
    samples = np.random.default_rng(0).normal(2.0, 3.0, size=(4000, 5))
    covered = np.mean([interval.low <= 2.0 <= interval.high for interval in map(mean_interval, samples)])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_one_value_has_a_mean_and_no_interval() -> None:
    interval = mean_interval([7.0])
    assert interval.mean == 7.0
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf], [[1.0, 2.0]]])
def test_a_sample_must_be_finite_and_not_empty(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="values must be"):
        mean_interval(bad)


def test_clipping_takes_what_diverged_for_the_loss_at_initialisation() -> None:
    clipped = clip_losses([0.5, 3.0, math.nan, math.inf, -1.0], [2.0, 2.0, 2.1, 2.2, 2.0])
    assert clipped.tolist() == [0.5, 2.0, 2.1, 2.2, -1.0]


def test_sensitivity_by_hand() -> None:
    """Means 1.0, 0.2 and (2 + 2)/2 = 2 (one clipped, one NaN): (1 + 0.2 + 2)/3 - 0.2."""
    losses = [[0.9, 1.1], [0.1, 0.3], [50.0, math.nan]]
    assert lr_sensitivity(losses, [[2.0, 2.0]] * 3) == pytest.approx(3.2 / 3 - 0.2, abs=1e-12)


def test_sensitivity_is_zero_where_the_learning_rate_does_not_matter() -> None:
    assert lr_sensitivity([[0.3, 0.4]] * 7, [[2.0, 2.0]] * 7) == pytest.approx(0.0, abs=1e-15)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=7))
def test_sensitivity_lies_between_zero_and_what_there_is_to_learn(losses: list[float]) -> None:
    """Never negative, never above loss at initialisation minus the best loss."""
    initial = 3.0
    sensitivity = lr_sensitivity([[loss] for loss in losses], [[initial]] * len(losses))
    assert -1e-12 <= sensitivity <= initial - min(min(losses), initial) + 1e-12


def test_sensitivity_refuses_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match="one entry a learning rate"):
        lr_sensitivity([], [])
    with pytest.raises(ValueError, match="equal shapes"):
        lr_sensitivity([[1.0, 2.0]], [[1.0]])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.5, 0.97, 0.98, 0.975, 0.5], 2.0),  # three neighbours, a decade apart
        ([0.975, 0.5, 0.98, 0.5, 0.5], 0.0),  # good on both sides of a bad one: single points
        ([0.98] * 5, 4.0),
        ([0.5] * 5, math.nan),
    ],
)
def test_decades_are_those_of_the_widest_stretch_of_neighbours(scores: list[float], expected: float) -> None:
    found = decades_within([1e-3, 1e-2, 1e-1, 1.0, 10.0], scores, target=0.98, margin=0.01)
    assert found == pytest.approx(expected, nan_ok=True)


def test_sign_flip_by_hand() -> None:
    """All five differences positive: only the pattern itself and its negative are as extreme, 2/32."""
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 32
    assert sign_flip_test([0.0, 0.0, 0.0]) == 1.0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8))
def test_sign_flip_equals_scipys_exact_permutation_test(differences: list[int]) -> None:
    expected = stats.permutation_test(
        (np.array(differences, dtype=float),),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    # scipy doubles the smaller tail and clips at 1; by symmetry that is the two-sided share unless ties at 0.
    assert sign_flip_test(differences) == pytest.approx(min(expected, 1.0))


def test_sign_flip_of_many_pairs_is_drawn_and_close_to_exact() -> None:
    """20 pairs: the drawn p-value agrees with the t-test's to within what 100,000 draws and normality allow."""
    differences = np.random.default_rng(1).normal(0.3, 1.0, 20)
    expected = stats.ttest_1samp(differences, 0.0).pvalue
    assert sign_flip_test(differences) == pytest.approx(expected, abs=0.02)


def test_paired_difference_equals_scipys_paired_t_interval() -> None:
    first, second = [3.0, 4.0, 6.0, 5.5], [2.0, 4.5, 5.0, 5.0]
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    difference = paired_difference(first, second)
    assert difference.mean == pytest.approx(0.5)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert difference.p_value == sign_flip_test([1.0, -0.5, 1.0, 0.5])


def test_paired_difference_refuses_what_is_not_paired() -> None:
    with pytest.raises(ValueError, match="must be pairs"):
        paired_difference([1.0, 2.0], [1.0])
