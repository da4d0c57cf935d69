"""`Compound`: many updates that are large for the network as a whole, near where the base learning rate rose."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers import Rescue
from adaptive_lr.controllers.compound import AFTER_THE_RISE, BOUND, UPDATES, Compound
from rescue_rows import row, run


def added(ratios: list[float], quiet: int = 1) -> Compound:
    compound = Compound()
    for ratio in ratios:
        compound = compound.add(ratio, quiet)
    return compound


def test_five_large_ones_are_too_many_in_a_row_or_not() -> None:
    assert not added([BOUND] * (UPDATES - 1)).found
    assert added([BOUND] * UPDATES).found
    assert added([BOUND, 0.0] * UPDATES).found


@given(st.lists(st.one_of(st.floats(0.0, 0.99 * BOUND), st.just(math.nan)), max_size=50))
def test_small_ones_and_what_is_no_number_do_not_count(ratios: list[float]) -> None:
    assert added(ratios) == Compound()


def test_the_reason_holds_the_largest_of_them_whichever_came_last() -> None:
    reason = added([BOUND, 3.0, *[BOUND] * UPDATES]).reason
    assert (reason.value, reason.threshold) == (3.0, BOUND)
    assert reason.text == f"{UPDATES + 2} updates changed the network as a whole by {BOUND:g} and more"


def test_long_after_the_rise_none_counts() -> None:
    assert added([9.0] * 50, quiet=AFTER_THE_RISE + 1) == Compound()
    assert added([9.0] * UPDATES, quiet=AFTER_THE_RISE).found


def warmed_up(compound: float, ratio: float = 0.2, rise: int = 15) -> list[tuple[int, str, str]]:
    """Reasons of a run whose loss falls, with a warm-up of `rise` updates."""
    rows = [
        row(t, 2.0 - 0.01 * t, ratio * share, share, compound=compound * share)
        for t in range(60)
        for share in [min(t + 1, rise) / rise]
    ]
    return [(t, r.action, r.statistic) for t, a in enumerate(run(rows)) for r in a.reasons if r.action != "hold"]


def test_the_run_is_taken_back_and_cut_once_the_base_has_stopped_rising() -> None:
    assert warmed_up(2.0 * BOUND) == [(15 + 1, "rescue", "compound_ratio")]
    assert warmed_up(0.99 * BOUND) == []


def test_a_single_ratio_that_is_too_large_comes_first_and_is_compared() -> None:
    found = warmed_up(9.0, ratio=0.6)
    assert found[0][1:] == ("rescue", "update_ratio")
    assert "compound_ratio" not in {statistic for *_, statistic in found}


def test_after_a_cut_for_another_reason_it_asks_for_no_second_one() -> None:
    rows = [row(t, 2.0 - 0.01 * t, 0.2, min(t + 1, 15) / 15, compound=2.0 * BOUND) for t in range(60)]
    assert "compound_ratio" in {r.statistic for a in run(rows) for r in a.reasons}
    rows[1:3] = [row(t, math.nan, 0.05, (t + 1) / 15) for t in (1, 2)]
    assert {r.statistic for a in run(rows) for r in a.reasons if r.action == "rescue"} == {"loss"}


def test_a_rise_so_slow_that_no_update_is_large_asks_for_nothing() -> None:
    law = Rescue()
    rows = [row(t, 2.0 - 0.001 * t, 0.02, min(t + 1, 100) / 100, compound=0.2) for t in range(400)]
    assert not any(a.reasons for a in run(rows, law))
