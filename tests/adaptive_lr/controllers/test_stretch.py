"""`Stretch`: two ways on from one state, compared by their losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers.stretch import Stretch


def stretch(losses: list[float]) -> Stretch:
    made = Stretch(len(losses))
    for loss in losses:
        made = made.add(loss)
    return made


@pytest.mark.parametrize(("length", "counted"), [(1, 1), (2, 1), (7, 4), (10, 5), (11, 6)])
def test_the_losses_of_the_second_half_count(length: int, counted: int) -> None:
    made = stretch([100.0] * (length - counted) + [2.0] * counted)
    assert made.over
    assert (made.size, made.mean) == (counted, 2.0)


def test_it_is_over_after_its_updates_whatever_the_losses_were() -> None:
    made = Stretch(4)
    for index, loss in enumerate([1.0, None, math.nan, math.inf]):
        assert not made.over
        assert made.updates == index
        made = made.add(loss)
    assert made.over
    assert made.size == 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=30))
def test_the_error_of_the_mean_comes_from_successive_differences(losses: list[float]) -> None:
    """Von Neumann's estimate of the variance, half the mean square successive difference."""
    half, made = np.array(losses[len(losses) // 2 :]), stretch(losses)
    assert made.mean == pytest.approx(half.mean(), rel=1e-9, abs=1e-6)
    assert made.error == pytest.approx(math.sqrt(np.mean(np.diff(half) ** 2) / 2 / half.size), rel=1e-9, abs=1e-6)


def test_a_trend_is_no_noise() -> None:
    """The sample variance of a straight fall from 30 to 20 would hide a difference of 6."""
    fall = [30.0 - 0.1 * (index % 2) - index for index in range(11)]
    assert stretch(fall).clearly_below(stretch([loss + 6.0 for loss in fall]))
    assert not stretch(fall).clearly_below(stretch([loss + 1.0 for loss in fall]))


def test_nothing_is_clear_without_two_losses_each() -> None:
    known = stretch([1.0, 1.0, 1.0, 1.1])
    assert not Stretch(4).clearly_below(known)
    assert not known.clearly_below(stretch([9.0, 9.0]))
    assert known.clearly_below(stretch([9.0, 9.0, 9.0, 9.1]))


def test_noise_alone_is_hardly_ever_clear() -> None:
    """Of 5,000 pairs of stretches of eight updates (seeded), in fewer than 5 of 1,000."""
    draws = np.random.default_rng(0).normal(size=(5000, 2, 8))
    clear = [stretch(first).clearly_below(stretch(second)) for first, second in draws.tolist()]
    assert 0.0 < np.mean(clear) < 0.005


@given(st.floats(0.1, 1e3), st.floats(-1e3, 1e3))
def test_the_verdict_is_that_of_losses_shifted_and_scaled(scale: float, shift: float) -> None:
    draws = np.random.default_rng(1).normal(size=(2, 10)) + np.array([[0.0], [3.0]])
    moved = draws * scale + shift
    assert stretch(draws[0].tolist()).clearly_below(stretch(draws[1].tolist()))
    assert stretch(moved[0].tolist()).clearly_below(stretch(moved[1].tolist()))
