"""`Probe`: ten times the peak, taken back and compared."""

from __future__ import annotations

import math

import pytest

from adaptive_lr.controllers.probe import Probe


def probe(losses: list[float | None], before: float = 1.0) -> Probe:
    made = Probe().begun(before, 8)
    for loss in losses:
        made = made.add(loss)
    return made


def test_the_loss_it_begins_with_is_that_of_the_weights_before_it() -> None:
    """Its first row still tells the loss of those weights: the update comes after."""
    assert probe([1.4], before=1.0).before == pytest.approx(1.2)
    assert probe([None, 9.0], before=1.0).before == 1.0


def test_it_goes_on_while_its_loss_falls() -> None:
    assert not probe([1.0, 0.9, 0.8, 0.7, 0.6]).hopeless(2.3)


@pytest.mark.parametrize("loss", [math.nan, math.inf, 2.9])
def test_one_loss_far_above_the_start_of_the_run_ends_it(loss: float) -> None:
    assert probe([1.0, loss]).hopeless(2.3)


def test_three_losses_that_do_not_fall_end_it() -> None:
    assert not probe([1.0, 1.1, 1.2]).hopeless(2.3)
    assert probe([1.0, 1.1, 1.2, 1.0]).hopeless(2.3)
    assert not probe([1.0, 1.1, 1.2, 0.6]).hopeless(2.3)


def test_negative_losses_are_judged_by_their_differences() -> None:
    assert not probe([-5.0, -5.5, -6.0, -6.5], before=-5.0).hopeless(-1.0)
    assert probe([-5.0, -0.7], before=-5.0).hopeless(-1.0)


def test_the_next_probe_starts_anew_but_is_counted() -> None:
    following = probe([1.0, 0.5]).begun(0.4, 6)
    assert following == Probe(2, 0.4, (), Probe().begun(0.0, 6).above, Probe().begun(0.0, 6).at)
