"""`Suspicion`: large updates are compared with small ones before they are judged."""

from __future__ import annotations

import pytest

from adaptive_lr.controllers.suspicion import CLEARED, COMPARES, CONFIRMED, GRANTED, NONE, WAITS, Suspicion


def compared(before: float, after: float) -> Suspicion:
    suspicion = Suspicion().raised(0.01, 1.0, 2)
    for index in range(GRANTED):
        suspicion = suspicion.add(before + 0.01 * (index % 2))
    suspicion = suspicion.cut(compare=True)
    for index in range(GRANTED + 2):
        suspicion = suspicion.add(after + 0.01 * (index % 2))
    return suspicion


def test_it_waits_and_then_compares_as_many_updates_from_the_same_snapshot() -> None:
    suspicion = Suspicion()
    assert suspicion.stage == NONE
    suspicion = suspicion.raised(0.01, 1.0, 3)
    assert (suspicion.stage, suspicion.first.updates, suspicion.first.length) == (WAITS, 3, 3 + GRANTED)
    for _ in range(GRANTED):
        assert not suspicion.first.over
        suspicion = suspicion.add(1.0)
    assert suspicion.first.over
    suspicion = suspicion.cut(compare=True)
    assert (suspicion.stage, suspicion.second.length) == (COMPARES, 3 + GRANTED)


def test_a_cut_was_a_mistake_where_the_loss_was_clearly_lower_without_it() -> None:
    assert compared(before=0.5, after=1.5).mistaken
    assert not compared(before=1.5, after=0.5).mistaken
    assert not compared(before=1.0, after=1.0).mistaken


@pytest.mark.parametrize("age", [1, 5, 10, 11, 30, 150])
def test_the_same_updates_of_both_stretches_count(age: int) -> None:
    """However long ago the snapshot was: a run that does the same after the cut did not do better before it."""
    losses = [2.0 * 0.97**update + 0.002 * (update % 2) for update in range(1, age + GRANTED + 1)]
    suspicion = Suspicion().raised(0.01, 1.0, age)
    for loss in losses[age:]:
        suspicion = suspicion.add(loss)
    suspicion = suspicion.cut(compare=True)
    for loss in losses:
        suspicion = suspicion.add(loss)
    assert suspicion.due
    assert suspicion.first == suspicion.second
    assert not suspicion.mistaken


def test_a_cut_for_another_reason_is_final() -> None:
    """What harmed the run meanwhile was seen; in the last update of the wait, too."""
    suspicion = Suspicion().raised(0.01, 1.0, 1)
    for _ in range(GRANTED):
        suspicion = suspicion.add(1.0)
        assert suspicion.cut(compare=False).stage == CONFIRMED
    assert Suspicion().cut(compare=False).stage == CONFIRMED


def test_what_was_cleared_stays_cleared() -> None:
    assert Suspicion(CLEARED).cut(compare=False) == Suspicion(CLEARED)
    assert not Suspicion(CLEARED).under_way
