"""The expected best of k settings, against all subsets, all orders and a known distribution."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.study.statistics import expected_best, tuning_curve


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-10.0, 10.0), min_size=1, max_size=8))
def test_the_closed_form_is_the_mean_over_all_subsets(losses: list[float]) -> None:
    expected = [
        np.mean([min(chosen) for chosen in itertools.combinations(losses, k)]) for k in range(1, len(losses) + 1)
    ]
    assert expected_best(losses) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_it_is_the_incumbent_averaged_over_all_orders_of_the_search() -> None:
    """As Sivaprasad et al. estimate it by shuffling."""
    losses = [3.0, 0.5, 2.0, 0.7, 9.0]
    incumbents = [np.minimum.accumulate(order) for order in itertools.permutations(losses)]
    assert expected_best(losses) == pytest.approx(np.mean(incumbents, axis=0))


def test_a_large_search_keeps_its_digits() -> None:
    """400 settings: C(400, 200) has 119 digits, and still the curve ends at the least loss."""
    losses = np.random.default_rng(0).uniform(size=400)
    curve = expected_best(losses)
    assert curve[0] == pytest.approx(losses.mean())
    assert curve[-1] == pytest.approx(losses.min(), rel=1e-12)
    assert (np.diff(curve) <= 1e-15).all()


@pytest.mark.parametrize("settings_", [7, 20])
def test_the_band_holds_for_all_k_at_once(settings_: int) -> None:
    """Uniform losses, of whose k the least is expected at 1/(k + 1): 95 % of 1000 bands hold it everywhere."""
    generator = np.random.default_rng(settings_)
    truth = 1.0 / (np.arange(1, settings_ + 1) + 1.0)
    covered = 0
    for _ in range(1000):
        curve = tuning_curve(generator.uniform(size=settings_), support=(0.0, 1.0))
        covered += bool(((curve.low <= truth) & (truth <= curve.high)).all())
    assert covered / 1000 > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 1000)


def test_the_band_holds_the_curve_and_narrows_with_the_search() -> None:
    generator = np.random.default_rng(1)
    small, large = (tuning_curve(generator.uniform(size=size), support=(0.0, 1.0)) for size in (10, 1000))
    for curve in (small, large):
        assert ((curve.low <= curve.expected) & (curve.expected <= curve.high)).all()
    assert large.high[4] - large.low[4] < (small.high[4] - small.low[4]) / 3


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="losses must be a non-empty"):
        expected_best([])
    with pytest.raises(ValueError, match="within the support"):
        tuning_curve([0.5, 2.0], support=(0.0, 1.0))
    for support in ((5.0, -5.0), (0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="support must be two finite numbers, the least loss first, got"):
            tuning_curve([0.5], support=support)
