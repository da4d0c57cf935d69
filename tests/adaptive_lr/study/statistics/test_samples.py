"""Means, t-intervals and clipping, against a textbook example, scipy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaptive_lr.study.statistics import clip_losses, mean_interval

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
