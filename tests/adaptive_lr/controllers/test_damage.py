"""`Damage`: what a series of updates has done to the loss."""

from __future__ import annotations

import math

import pytest

from adaptive_lr.controllers.damage import SNAPSHOT_RATIO, Damage, per
from adaptive_lr.controllers.setback import Setback
from adaptive_lr.series import LARGEST_VALUE


def after(rows: list[tuple[float | None, float]], rate: float = 1.0) -> Damage:
    damage = Damage()
    for loss, ratio in rows:
        damage = damage.add(loss, None, ratio, rate, target=0.1)
    return damage


def test_a_run_that_learns_by_moderate_updates_has_none_and_may_be_gone_back_to() -> None:
    damage = after([(2.3 * 0.95**t, 0.05) for t in range(40)])
    assert damage.reason(0.3, None, Setback()) is None
    assert damage.worth_keeping(LARGEST_VALUE)
    assert not damage.worth_keeping(0.1)  # a better one is kept


def test_after_a_large_update_the_state_is_not_gone_back_to_until_the_next_snapshot() -> None:
    damage = after([(2.3 * 0.95**t, 0.05 if t else SNAPSHOT_RATIO * 1.01) for t in range(40)])
    assert not damage.worth_keeping(LARGEST_VALUE)
    assert damage.since(0.05, 1.0).worth_keeping(LARGEST_VALUE)


@pytest.mark.parametrize("ratio", [math.nan, math.inf, 1e200])
def test_a_ratio_that_is_not_finite_is_the_worst_there_is_and_tells_no_rate(ratio: float) -> None:
    damage = after([(2.3, 0.2), (2.3, ratio), (2.3, 0.1)])
    assert damage.worst == LARGEST_VALUE
    assert damage.steepest == 0.2


def test_the_steepest_update_is_the_one_with_the_largest_ratio_for_its_rate() -> None:
    damage = Damage()
    for ratio, rate in ((0.1, 0.01), (0.3, 0.1), (0.2, 0.0)):
        damage = damage.add(2.3, None, ratio, rate, target=0.1)
    assert damage.worst == 0.3
    assert damage.steepest == pytest.approx(10.0)
    assert per(1e99, 1e-300) == LARGEST_VALUE


def test_midway_through_a_run_one_low_loss_is_not_the_start() -> None:
    """A batch with a low loss, then losses as usual, by large updates."""
    rows = [(0.4, 0.2), *[(1.3, 0.2), (0.9, 0.2), (1.1, 0.2)] * 4]
    midway = Damage(midway=True)
    for loss, ratio in rows:
        midway = midway.add(loss, None, ratio, 1.0, target=0.1)
        assert midway.reason(loss, None, Setback()) is None
    assert midway.watch.start.size == 5
    assert after(rows[:4]).reason(1.1, None, Setback()) is not None  # at initialisation it is


@pytest.mark.parametrize(
    ("rows", "statistic", "words"),
    [
        ([(2.0, 0.01)] * 6 + [(math.nan, 0.01)] * 2, "loss", "the loss is nan"),
        ([(2.0, 0.01)] * 6 + [(2.0 + t, 0.01) for t in range(9)], "loss", "rose to"),
        ([(16.9, 0.2), (2.0, 0.2), (22.0, 0.2), (22.0, 0.2), (22.0, 0.2)], "loss", "3 losses in a row"),
        ([(2.3, 0.2)] * 20, "loss", "taught nothing in 20 updates"),
    ],
)
def test_each_kind_of_damage_has_its_reason(rows: list[tuple[float | None, float]], statistic: str, words: str) -> None:
    reason = after(rows).reason(rows[-1][0], None, Setback())
    assert reason is not None
    assert reason.statistic == statistic
    assert words in reason.text
    assert after(rows).reason(None, None, Setback()) is None
