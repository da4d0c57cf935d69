"""`Futility`: cuts in a row between which the loss did not fall."""

from __future__ import annotations

from adaptive_lr.controllers.damage import Damage
from adaptive_lr.controllers.futility import MOST_CUTS, Futility
from adaptive_lr.controllers.setback import Setback

FLAT = [1.0, 1.01, 0.99] * 12
FALLING = [1.0 - 0.02 * t + 0.002 * (t % 2) for t in range(36)]


def seen(losses: list[float], ratio: float) -> Damage:
    damage = Damage()
    for loss in losses:
        damage = damage.add(loss, None, ratio, 1.0, target=0.1)
    return damage


def setback_of(losses: list[float]) -> Setback:
    setback = Setback()
    for loss in losses:
        setback = setback.add(loss)
    return setback


def test_it_is_found_at_the_cut_after_the_most_and_knows_the_factor_before_the_first() -> None:
    futility = Futility()
    for factor in (1.0, 0.3, 0.1)[: MOST_CUTS + 1]:
        assert not futility.found
        futility = futility.asked(factor, seen(FLAT, ratio=0.2), setback_of(FLAT))
    assert futility.found
    assert futility.factor == 1.0


def test_a_rise_by_updates_too_small_for_harm_is_enough_after_one_cut_but_not_before() -> None:
    small = seen(FLAT, ratio=0.01)
    assert small.harmless
    first = Futility().asked(1.0, small, setback_of(FLAT))
    assert not first.found
    assert first.asked(0.3, small, setback_of(FLAT)).found


def test_a_loss_that_fell_since_the_last_cut_begins_anew() -> None:
    """By either summary: the smoothed loss while it is watched, windows of 24 losses afterwards."""
    twice = Futility(cuts=MOST_CUTS, factor=1.0)
    for damage, setback in ((seen(FALLING, 0.1), Setback()), (Damage(), setback_of(FALLING))):
        assert twice.asked(0.1, damage, setback) == Futility(1, 0.1)
    assert twice.asked(0.1, seen(FLAT, 0.2), setback_of(FLAT)).found


def test_where_no_ratio_is_known_nothing_is_called_harmless() -> None:
    assert not seen(FLAT, ratio=0.0).harmless
    assert not Damage().harmless
    assert not seen(FLAT, ratio=0.02).harmless
