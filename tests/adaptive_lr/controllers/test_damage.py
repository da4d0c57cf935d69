"""`Damage`: what a series of updates has done to the loss."""

from __future__ import annotations

import math

import numpy as np
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
    assert after(rows).watch.start.size == 1  # at initialisation it is


@pytest.mark.parametrize(("warmup", "most"), [(2, 40), (5, 20)])
def test_noise_as_large_as_the_loss_is_taken_for_damage_in_few_runs(warmup: int, most: int) -> None:
    """Of 400 runs of 60 updates: a tenth where updates are large from the third on, half of that from the sixth on."""
    values = np.square(np.random.default_rng(0).standard_normal((2, 400, 60, 32)).prod(axis=0)).mean(axis=-1)
    found = 0
    for losses in values.tolist():
        damage, alarmed = Damage(), False
        for t, loss in enumerate(losses):
            damage = damage.add(loss, None, 0.01 if t < warmup else 0.2, 1.0, target=0.1)
            alarmed = alarmed or damage.reason(loss, None, Setback()) is not None
        found += alarmed
    assert found < most


def test_a_loss_that_leaves_its_noise_for_good_is_damage_within_eight_updates() -> None:
    """From 1 to 5, where single losses vary by a half."""
    noise = np.random.default_rng(0).standard_normal((200, 40)) * 0.5
    delays = []
    for series in noise:
        damage = Damage()
        for t, value in enumerate(series.tolist()):
            loss = value + (1.0 if t < 20 else 5.0)
            damage = damage.add(loss, None, 0.01 if t < 5 else 0.2, 1.0, target=0.1)
            if damage.reason(loss, None, Setback()) is not None:
                delays.append(t - 19)
                break
    assert len(delays) == 200
    assert np.quantile(delays, 0.95) <= 8
    assert min(delays) > 0


@pytest.mark.parametrize("count", [1, 2])
def test_where_losses_are_noisy_one_or_two_bad_batches_are_no_damage(count: int) -> None:
    """Whatever their losses. Where they are calm, the first such loss may be the only warning."""
    noisy = [(1.5, 0.2), (2.4, 0.2)] * 5
    rows = [(2.1, 0.01), (2.9, 0.01)] * 3 + noisy + [(1e4, 0.2)] * count + noisy
    for length in range(10, len(rows) + 1):
        assert after(rows[:length]).reason(rows[length - 1][0], None, Setback()) is None
    calm = [(2.1, 0.01)] * 5 + [(2.0, 0.2)] * 10 + [(1e4, 0.2)]
    assert after(calm).reason(1e4, None, Setback()) is not None


@pytest.mark.parametrize(
    ("rows", "statistic", "words"),
    [
        ([(2.0, 0.01)] * 6 + [(math.nan, 0.01)] * 2, "loss", "the loss is nan"),
        ([(2.0, 0.01)] * 6 + [(2.0 + t, 0.01) for t in range(9)], "loss", "rose to"),
        ([(16.9, 0.2), (2.0, 0.2), *[(22.0, 0.2)] * 6], "loss", "6 losses in a row"),
        ([(2.3, 0.2)] * 20, "loss", "taught nothing in 20 updates"),
    ],
)
def test_each_kind_of_damage_has_its_reason(rows: list[tuple[float | None, float]], statistic: str, words: str) -> None:
    reason = after(rows).reason(rows[-1][0], None, Setback())
    assert reason is not None
    assert reason.statistic == statistic
    assert words in reason.text
    assert after(rows).reason(None, None, Setback()) is None


def test_a_loss_that_fell_to_a_tenth_is_no_dead_network_however_noisy_its_start() -> None:
    """Motion per learning rate falls with the loss where gradients do; noise of the first losses hides the fall."""
    noisy = [0.3, 5.5, 0.2, 0.4, 0.6]
    losses = [*noisy, *(2.0 * 0.93**t * (1.0 + 0.5 * (-1) ** t) for t in range(70))]
    ratios = [0.02] * len(noisy) + [0.02 * 0.93**t for t in range(70)]
    for end, dead in ((1.0, False), (40.0, True)):
        damage = Damage()
        for loss, ratio in zip(losses, ratios, strict=True):
            damage = damage.add(max(loss, 0.04 * end), 1.0, ratio, 0.1, target=0.1)
        found = damage.reason(0.04 * end, 1.0, Setback())
        assert (found is not None and "hardly move" in found.text) is dead
