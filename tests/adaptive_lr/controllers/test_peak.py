"""The peak from what a sweep measured and from what is usual."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers.peak import LARGEST_STEP, horizon_share, measured_peak, with_usual

LEVELS = st.floats(1e-12, 1e12)


def test_longer_runs_want_less_by_the_square_root_of_their_length_and_shorter_ones_do_not_want_more() -> None:
    assert [horizon_share(steps) for steps in (None, 60, 300)] == [1.0, 1.0, 1.0]
    assert horizon_share(30_000) == pytest.approx(0.1, rel=1e-12)


def test_what_was_seen_goes_before_what_is_carried_on() -> None:
    """The level at which the ratio met its bar; else a 15th of divergence; else in proportion, by at most ten."""
    assert measured_peak(3.0, 0.2, 0.12, crossed=1.5, diverged=True) == 1.5
    assert measured_peak(3.0, 0.05, 0.12, crossed=0.0, diverged=True) == pytest.approx(0.2)
    assert measured_peak(3.0, 0.06, 0.12, crossed=0.0, diverged=False) == pytest.approx(6.0)
    assert measured_peak(3.0, 1e-9, 0.12, crossed=0.0, diverged=False) == pytest.approx(3.0 * LARGEST_STEP)
    assert measured_peak(3.0, None, 0.12, crossed=0.0, diverged=False) == 3.0


@given(LEVELS, LEVELS, st.floats(0.0, 1.0))
def test_the_mean_lies_between_and_nearer_to_what_was_measured(measured: float, usual: float, weight: float) -> None:
    """At most by the weight given, and by less than half a decade in all, however far apart they are."""
    level = with_usual(measured, usual, weight)
    moved, apart = math.log10(level / measured), math.log10(usual / measured)
    assert moved * apart >= -1e-9
    assert abs(moved) <= weight * abs(apart) + 1e-9
    assert abs(moved) <= 0.5 * weight * 0.75 + 1e-9  # x / (1 + x²) is at most a half


def test_where_they_agree_it_is_the_geometric_mean_and_where_nothing_is_usual_the_measurement() -> None:
    assert with_usual(1.0, 1.02, 0.5) == pytest.approx(math.sqrt(1.02), rel=1e-4)
    assert with_usual(0.3, 0.0, 0.5) == 0.3


@given(LEVELS, LEVELS, st.floats(1e-3, 1e3), st.floats(0.0, 1.0))
def test_the_unit_of_levels_does_not_matter(measured: float, usual: float, unit: float, weight: float) -> None:
    assert with_usual(measured * unit, usual * unit, weight) == pytest.approx(
        unit * with_usual(measured, usual, weight), rel=1e-9
    )
