"""`Suspicion`: large updates are compared with small ones before they are judged."""

from __future__ import annotations

from adaptive_lr.controllers.suspicion import CLEARED, COMPARES, CONFIRMED, GRANTED, NONE, WAITS, Suspicion


def compared(before: float, after: float) -> Suspicion:
    suspicion = Suspicion().raised(0.01, 1.0, 2)
    for index in range(GRANTED):
        suspicion = suspicion.add(before + 0.01 * (index % 2))
    suspicion = suspicion.cut()
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
    suspicion = suspicion.cut()
    assert (suspicion.stage, suspicion.second.length) == (COMPARES, 3 + GRANTED)


def test_a_cut_was_a_mistake_where_the_loss_was_clearly_lower_without_it() -> None:
    assert compared(before=0.5, after=1.5).mistaken
    assert not compared(before=1.5, after=0.5).mistaken
    assert not compared(before=1.0, after=1.0).mistaken


def test_a_cut_before_the_end_of_the_wait_is_final() -> None:
    """What harmed the run meanwhile was seen."""
    assert Suspicion().raised(0.01, 1.0, 1).add(1.0).cut().stage == CONFIRMED
    assert Suspicion().cut().stage == CONFIRMED


def test_what_was_cleared_stays_cleared() -> None:
    assert Suspicion(CLEARED).cut() == Suspicion(CLEARED)
    assert not Suspicion(CLEARED).under_way
