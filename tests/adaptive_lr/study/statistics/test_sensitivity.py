"""Learning-rate sensitivity by hand and by its definition; the stretch of good learning rates."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaptive_lr.study.statistics import decades_within, lr_sensitivity, lr_sensitivity_interval


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


def test_interval_of_sensitivity_is_the_t_interval_of_what_each_seed_loses_against_the_best_rate() -> None:
    """By hand and by scipy: the middle rate is best; one seed leaves no interval, equal seeds leave no width."""
    losses = np.array([[0.9, 1.1, 1.0], [0.1, 0.3, 0.25], [1.7, 1.9, 1.5]])
    initial = [[2.0, 2.0, 2.0]] * 3
    value, low, high = lr_sensitivity_interval(list(losses), initial)
    lost = losses.mean(axis=0) - losses[1]
    assert value == lr_sensitivity(list(losses), initial) == pytest.approx(lost.mean())
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 2, lost.mean(), stats.sem(lost)))
    assert lr_sensitivity_interval([[0.5] * 4, [1.0] * 4], [[2.0] * 4] * 2) == pytest.approx((0.25,) * 3)
    assert math.isnan(lr_sensitivity_interval([[0.5], [1.0]], [[2.0], [2.0]]).low)


@settings(deadline=None, max_examples=100)
@given(
    st.integers(2, 6).flatmap(
        lambda seeds: st.lists(st.lists(st.floats(0.0, 4.0), min_size=seeds, max_size=seeds), min_size=1, max_size=5)
    )
)
def test_the_interval_of_sensitivity_holds_the_sensitivity_and_nothing_below_zero(losses: list[list[float]]) -> None:
    value, low, high = lr_sensitivity_interval(losses, [[3.0] * len(losses[0])] * len(losses))
    assert 0.0 <= low <= value + 1e-12
    assert value <= high + 1e-12


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(
    ("levels", "expected"),
    [([1.8, 1.2, 0.6, 0.2, 0.5, 1.0, 1.6], 0.95), ([0.2, 0.3, 0.9, 0.5, 0.25], 0.95), ([0.5] * 5, 0.88)],
    ids=["clear optimum", "near ties", "all equal"],
)
def test_interval_of_sensitivity_covers(levels: list[float], expected: float, seeds: int) -> None:
    """800 studies: not below what the docstring says by more than chance (3 standard errors)."""
    truth_by_rate = np.array(levels)
    generator = np.random.default_rng(seeds)
    truth = truth_by_rate.mean() - truth_by_rate.min()
    covered = 0
    for _ in range(800):
        losses = truth_by_rate[:, None] + 0.1 * generator.normal(size=(len(levels), seeds))
        _, low, high = lr_sensitivity_interval(list(losses), [[100.0] * seeds] * len(levels))
        covered += low <= truth <= high
    assert covered / 800 > expected - 3 * math.sqrt(expected * (1 - expected) / 800)


@pytest.mark.parametrize(
    ("rates", "scores", "sentence"),
    [
        ([0.1, 1.0], [0.9, 0.9, 0.9], "scores must be as many as learning_rates, 2, got shape (3,)"),
        ([0.0, 0.1], [0.9, 0.9], "learning_rates must be > 0 and ascending, got [0.0, 0.1]"),
        ([1.0, 0.1], [0.9, 0.9], "learning_rates must be > 0 and ascending, got [1.0, 0.1]"),
        ([], [], "learning_rates must be a non-empty sequence"),
        ([0.1, math.inf], [0.9, 0.9], "learning_rates must be finite"),
    ],
)
def test_decades_refuse_rates_that_are_no_grid(rates: list[float], scores: list[float], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        decades_within(rates, scores, target=1.0, margin=0.2)


def test_interval_of_sensitivity_refuses_seeds_that_differ() -> None:
    with pytest.raises(ValueError, match="same seeds"):
        lr_sensitivity_interval([[1.0, 2.0], [1.0]], [[3.0, 3.0], [3.0]])


def test_equal_losses_have_no_sensitivity_to_the_last_bit() -> None:
    """The mean of nine numbers that have no exact sum would differ from each of them."""
    assert lr_sensitivity([[0.1, 0.2, 0.4]] * 9, [[1.0] * 3] * 9) == 0.0
