"""Rehearsals: their learning rates, what is taken of their losses, and where the best lies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers.rehearsal import OFFSETS, Rehearsals, rehearsals
from adaptive_lr.series import LARGEST_VALUE


def carried_out(planned: Rehearsals, losses: list[float]) -> Rehearsals:
    for loss in losses:
        planned = planned.add(loss)
    return planned


def test_a_run_that_can_afford_it_rehearses_for_a_40th_each() -> None:
    """Less where the sweep took more; not at all in short runs, or where too little is left for 20 updates each."""
    lengths = {
        (total, budget): None if (found := rehearsals(total, 1.0, budget)) is None else found.length
        for total, budget in [(1200, 500), (1200, 70), (1200, 59), (999, 500), (None, 500), (40_000, 10_000)]
    }
    assert list(lengths.values()) == [30, 23, None, None, None, 1000]


def test_their_peaks_lie_above_the_runs_by_a_power_of_how_much_shorter_they_are() -> None:
    """Of a 40th three times, and half a decade to either side."""
    planned = rehearsals(1600, 0.3, 300)
    assert planned is not None
    assert planned.length == 40
    assert planned.levels == pytest.approx([0.3 * 40**0.3 * 10**offset for offset in OFFSETS])


def test_the_learning_rate_rises_over_a_fifth_and_falls_towards_zero() -> None:
    """Of each of them, and it is positive throughout."""
    planned = Rehearsals(length=20, middle=1.0)
    levels = []
    for _ in range(60):
        levels.append(planned.level)
        planned = planned.add(1.0)
    assert planned.done
    shape = np.array([min(1.0, (k + 1) / 4) * (1 - k / 20) for k in range(20)])
    np.testing.assert_allclose(np.reshape(levels, (3, 20)), np.outer(10.0 ** np.array(OFFSETS), shape), rtol=1e-12)
    assert min(levels) > 0.0


@given(st.lists(st.floats(-10, 10), min_size=90, max_size=90))
def test_what_counts_is_the_mean_of_the_last_third(losses: list[float]) -> None:
    found = carried_out(Rehearsals(length=30), losses)
    np.testing.assert_allclose(found.losses, np.reshape(losses, (3, 30))[:, -10:].mean(axis=1), rtol=1e-9, atol=1e-9)


def test_a_loss_that_is_not_finite_ends_a_rehearsal_at_once() -> None:
    """And it is the worst of all."""
    found = carried_out(Rehearsals(length=20), [1.0] * 20 + [1.0, math.nan] + [2.0] * 20)
    assert found.losses == (1.0, LARGEST_VALUE, 2.0)
    assert found.decades() == -0.5


@given(st.floats(-0.25, 0.25), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_between_the_outer_ones_the_best_is_the_vertex_of_the_parabola(at: float, scale: float, shift: float) -> None:
    """Compared with the parabola the losses were made of."""
    losses = tuple(scale * (offset - at) ** 2 + shift for offset in OFFSETS)
    assert Rehearsals(losses=losses).decades() == pytest.approx(at, abs=1e-9 * (1.0 + abs(shift) / scale))


@given(st.tuples(*[st.floats(-1e6, 1e6) | st.just(LARGEST_VALUE)] * 3))
def test_the_peak_moves_by_half_a_decade_at_most_and_towards_the_lower_side(losses: tuple[float, ...]) -> None:
    moved = Rehearsals(losses=losses).decades()
    assert abs(moved) <= 0.5
    assert moved == 0.0 or moved * (losses[2] - losses[0]) <= 0.0


def test_where_nothing_differs_nothing_moves() -> None:
    assert Rehearsals(losses=(1.0, 1.0, 1.0)).decades() == 0.0
    assert Rehearsals(losses=(LARGEST_VALUE,) * 3).decades() == 0.0
