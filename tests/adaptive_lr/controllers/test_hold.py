"""`Hold`: where the learning rate may go after a cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.controllers.hold import HOLD_STEPS, IDLE, IDLE_STEPS, LEARNED, REGAIN_STEPS, WAIT, Hold
from adaptive_lr.series import LARGEST_VALUE

BY_RATIO, BY_COMPOUND = IDLE
IDLE_RATIO = IDLE[BY_RATIO]


def follow(hold: Hold, ratios: list[float], *, rate: float = 1.0, compound: float = 9.0, rising: bool = False) -> Hold:
    for ratio in ratios:
        hold = hold.follow(rate, ratio, compound, 0.1, rising=rising)
    return hold


def test_without_a_cut_nothing_is_held() -> None:
    hold = follow(Hold(), [9.0] * 50, rising=True)
    assert hold == Hold()
    assert hold.factor(1.0, 1e9, 0.0) == 1.0


def test_a_ratio_above_the_target_lowers_the_ceiling_to_where_it_would_have_met_it() -> None:
    hold = follow(Hold(1.0), [0.0] * WAIT)
    assert hold.follow(0.8, 0.2, 0.2, 0.1, rising=False).ceiling == pytest.approx(0.4)
    assert hold.follow(0.8, 9.0, 9.0, 0.1, rising=False).ceiling == pytest.approx(
        0.2
    )  # one ratio takes a quarter at least


def test_the_first_ratios_after_a_cut_say_nothing() -> None:
    assert follow(Hold(1.0), [0.9] * WAIT, rising=True).ceiling == 1.0


def test_a_cut_that_the_compound_ratio_asked_for_is_given_back_only_while_that_is_small() -> None:
    """Not by what the first updates of Adam overstate, and not because the largest single ratio is small."""
    hold, idle = Hold(1.0, regains=BY_COMPOUND), IDLE[BY_COMPOUND]
    assert follow(hold, [0.01] * 50, compound=idle).ceiling == 1.0
    assert follow(hold, [0.0] * 50, compound=0.0).ceiling == 1.0  # not measured
    assert follow(hold, [0.05] * 200, compound=0.99 * idle).ceiling == pytest.approx(1.1**IDLE_STEPS)


def test_only_a_cut_that_the_ratio_asked_for_regains_and_for_so_many_updates() -> None:
    assert follow(Hold(1.0), [0.05] * 50).ceiling == 1.0
    regained = follow(Hold(1.0, regains=BY_RATIO), [0.05] * 50)
    assert regained.ceiling == pytest.approx(1.1**REGAIN_STEPS)


def test_it_goes_on_regaining_for_a_time_while_updates_are_far_smaller_than_the_target() -> None:
    assert follow(Hold(1.0), [0.01] * 50).ceiling == 1.0
    assert follow(Hold(1.0, regains=BY_RATIO), [0.99 * IDLE_RATIO] * 200).ceiling == pytest.approx(1.1**IDLE_STEPS)
    assert follow(Hold(1.0, regains=BY_RATIO), [IDLE_RATIO] * 200).ceiling == pytest.approx(1.1**REGAIN_STEPS)


def test_small_updates_of_a_run_that_has_learned_regain_nothing_more() -> None:
    for fall, updates in ((0.0, IDLE_STEPS), (LEARNED, IDLE_STEPS), (1.01 * LEARNED, REGAIN_STEPS)):
        hold = Hold(1.0, regains=BY_RATIO)
        for _ in range(200):
            hold = hold.follow(1.0, 0.01, 9.0, 0.1, rising=False, fall=fall)
        assert hold.ceiling == pytest.approx(1.1**updates)


def test_a_ratio_of_zero_or_one_that_was_not_measured_regains_nothing() -> None:
    assert follow(Hold(1.0, regains=BY_RATIO), [0.0] * 50).ceiling == pytest.approx(1.1**REGAIN_STEPS)


def test_when_the_base_has_stopped_rising_the_ceiling_is_lowered_for_twenty_updates() -> None:
    hold = follow(Hold(1.0), [0.0] * HOLD_STEPS)
    assert hold.follow(1.0, 0.2, 0.2, 0.1, rising=False).ceiling == 1.0
    assert hold.follow(1.0, 0.2, 0.2, 0.1, rising=True).ceiling == pytest.approx(0.5)


def test_the_factor_keeps_base_times_factor_at_the_ceiling_within_a_tenth() -> None:
    hold, factor = Hold(0.5), 0.5
    for base in range(10, 101):
        factor = hold.factor(factor, base / 10, 1e-8)
        assert 0.5 / 1.1 <= factor * base / 10 <= 0.5 * 1.1


@given(
    ceiling=st.floats(1e-9, 1e9),
    rows=st.lists(st.tuples(st.floats(1e-12, 1e9), st.floats(0.0, LARGEST_VALUE), st.booleans()), max_size=40),
)
@settings(deadline=None, max_examples=60)
def test_the_factor_stays_in_its_bounds(ceiling: float, rows: list[tuple[float, float, bool]]) -> None:
    hold, factor = Hold(ceiling, regains=BY_RATIO), 1.0
    for base, ratio, rising in rows:
        hold = hold.follow(base * factor, ratio, ratio, 0.1, rising=rising)
        factor = hold.factor(factor, base, 1e-8)
        assert 1e-8 <= factor <= 1.0
