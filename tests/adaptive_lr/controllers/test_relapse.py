"""`Relapse`: a late rise of the loss is met by a cut only where as many updates without it did clearly worse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adaptive_lr.controllers import Adjustment
from adaptive_lr.controllers.relapse import AS_BEFORE, COMPARED, CUT, MOST_MISTAKEN, NONE, Relapse
from adaptive_lr.controllers.setback import Setback
from adaptive_lr.plain import from_plain, to_plain

RISEN = Setback()
for value in [*np.linspace(2.0, 1.0, 48), *np.full(48, 1.8)]:
    RISEN = RISEN.add(float(value))


def compared(before: float, after: float, relapse: Relapse | None = None) -> tuple[Relapse, list[Adjustment]]:
    """A whole comparison of losses about two levels."""
    relapse, said = relapse or Relapse(), []
    noise = np.random.default_rng(0).normal(0.0, 0.01, 2 * COMPARED)
    relapse, adjustment = relapse.next(1.8, 1.0, 1 / 3, RISEN)
    said.append(adjustment)
    for step in range(2 * COMPARED):
        level = before if step < COMPARED else after
        relapse, adjustment = relapse.next(level + noise[step], adjustment.factor, 1 / 3, Setback())
        said.append(adjustment)
    return relapse, said


def test_the_setback_of_these_tests_is_one() -> None:
    assert RISEN.found


def test_nothing_is_asked_for_without_a_setback() -> None:
    relapse, adjustment = Relapse().next(1.0, 0.5, 0.2, Setback())
    assert relapse == Relapse()
    assert adjustment == Adjustment(factor=0.5)


def test_a_setback_keeps_a_snapshot_and_changes_no_learning_rate() -> None:
    relapse, adjustment = Relapse().next(1.8, 1.0, 1 / 3, RISEN)
    assert relapse.stage == AS_BEFORE
    assert adjustment.snapshot
    assert not adjustment.rewind
    assert adjustment.factor == 1.0
    assert "mean loss rose to 1.8, from 1.245 at its best" in adjustment.reasons[0].text


def test_the_cut_begins_where_the_updates_before_it_began_and_sets_them_aside() -> None:
    _, said = compared(1.8, 1.8)
    assert [step for step, adjustment in enumerate(said) if adjustment.rewind] == [COMPARED]
    assert [step for step, adjustment in enumerate(said) if adjustment.set_aside] == [COMPARED]
    assert [step for step, adjustment in enumerate(said) if adjustment.resume] == [2 * COMPARED]


def test_the_factor_stays_cut_where_the_loss_is_then_clearly_lower() -> None:
    relapse, adjustment = Relapse().next(1.8, 1.0, 1 / 3, RISEN)
    for step in range(2 * COMPARED):
        assert relapse.stage == (AS_BEFORE if step < COMPARED else CUT)
        loss = 1.8 + 0.01 * (step % 2) - 0.5 * (step >= COMPARED)
        relapse, adjustment = relapse.next(loss, adjustment.factor, 1 / 3, Setback())
    assert relapse == Relapse()
    assert adjustment.factor == pytest.approx(1 / 3)
    assert not adjustment.resume
    assert adjustment.reasons[0].action == "back off"


@pytest.mark.parametrize("after", [1.8, 2.2])
def test_the_run_goes_on_without_the_cut_where_it_did_no_better(after: float) -> None:
    relapse, said = compared(1.8, after)
    assert relapse == Relapse(mistaken=1)
    assert said[-1].resume
    assert said[-1].factor == 1.0
    assert said[-1].reasons[0].action == "clear"


def test_a_rise_is_no_longer_judged_after_two_comparisons_in_vain() -> None:
    relapse = Relapse()
    for _ in range(MOST_MISTAKEN):
        relapse, said = compared(1.8, 1.8, relapse)
    assert "no longer judged" in said[-1].reasons[0].text
    assert relapse.next(1.8, 1.0, 1 / 3, RISEN) == (relapse, Adjustment(factor=1.0))


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_losses_that_break_off_are_taken_back_and_cut_without_a_comparison(loss: float) -> None:
    relapse, _ = Relapse().next(1.8, 1.0, 1 / 3, RISEN)
    relapse, once = relapse.next(loss, 1.0, 1 / 3, Setback())
    assert not once.rewind  # a single one is a bad batch
    relapse, twice = relapse.next(loss, 1.0, 1 / 3, Setback())
    assert relapse.stage == NONE
    assert twice.rewind
    assert not twice.set_aside
    assert twice.factor == pytest.approx(1 / 3)


def test_rows_without_a_loss_end_in_no_cut() -> None:
    relapse, adjustment = Relapse().next(1.8, 1.0, 1 / 3, RISEN)
    for _ in range(2 * COMPARED):
        relapse, adjustment = relapse.next(None, adjustment.factor, 1 / 3, Setback())
    assert adjustment.resume
    assert adjustment.factor == 1.0


def test_it_survives_being_written_down() -> None:
    relapse, _ = Relapse().next(1.8, 1.0, 1 / 3, RISEN)
    relapse, _ = relapse.next(1.7, 1.0, 1 / 3, Setback())
    assert from_plain(Relapse(), to_plain(relapse)) == relapse
