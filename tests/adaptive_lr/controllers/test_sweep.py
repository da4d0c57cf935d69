"""The rule that says when a loss has diverged, and the ladder of levels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.controllers.sweep import FIRST_LOSSES, LossWatch, rung


def watched(losses: list[float]) -> list[LossWatch]:
    """The watch after each loss."""
    watch, seen = LossWatch(), []
    for loss in losses:
        watch = watch.add(loss)
        seen.append(watch)
    return seen


def noise(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 1.0, size)


def test_rungs_are_geometric() -> None:
    levels = [rung(1e-3, 12, index) for index in range(25)]
    assert levels[12] == pytest.approx(1e-2, rel=1e-12)
    assert levels[24] == pytest.approx(1e-1, rel=1e-12)
    ratios = np.divide(levels[1:], levels[:-1])
    assert ratios == pytest.approx(10 ** (1 / 12), rel=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_diverges_at_once(bad: float) -> None:
    assert not watched([1.0] * 8)[-1].diverged
    assert watched([*[1.0] * 8, bad])[-1].diverged
    assert watched([bad])[-1].diverged


@pytest.mark.parametrize(
    "curve",
    [
        lambda seed: 1.0 + 0.3 * noise(seed, 150),
        lambda seed: -5.0 + 0.3 * noise(seed, 150),
        lambda seed: 0.01 * noise(seed, 150),
        lambda seed: np.full(150, 2.3),
        lambda seed: 2.3 * np.exp(-np.arange(150) / 50) + 0.3 * noise(seed, 150),
        lambda seed: 2.3 * np.exp(-np.arange(150) / 50) * np.exp(0.3 * noise(seed, 150)),
    ],
    ids=["flat", "flat negative", "flat around zero", "constant", "falling", "falling, multiplicative noise"],
)
def test_a_loss_that_does_not_rise_hardly_ever_turns(curve: Callable[[int], np.ndarray]) -> None:
    turned = sum(watched(curve(seed).tolist())[-1].turned for seed in range(200))
    assert turned <= 4  # 2 %; measured: 0 to 0.5 %


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (-100.0, 1.0), (0.0, 1e-6), (7.0, 1e4)])
def test_the_verdict_is_the_same_for_a_shifted_or_scaled_loss(shift: float, scale: float) -> None:
    losses = np.concatenate([np.full(10, 2.0), np.linspace(2.0, 1.0, 40), np.linspace(1.0, 4.0, 40)])
    losses = losses + 0.05 * noise(1, 90)
    first = next(i for i, w in enumerate(watched(losses.tolist())) if w.turned)
    moved = next(i for i, w in enumerate(watched((shift + scale * losses).tolist())) if w.turned)
    assert moved == first
    assert 50 < first < 70


@pytest.mark.parametrize("level", [2.3, 0.5, -4.0])
def test_a_jump_that_stays_is_seen_within_a_few_losses(level: float) -> None:
    losses = (level + 0.02 * noise(0, 40)).tolist() + (level + 3.0 + 0.02 * noise(1, 10)).tolist()
    watch = watched(losses)
    assert not watch[39].turned
    assert watch[44].diverged


def test_a_run_that_breaks_up_does_not_hide_in_its_own_noise() -> None:
    calm = 2.0 - np.linspace(0.0, 1.5, 40) + 0.03 * noise(2, 40)
    wild = np.abs(1.5 + 1.5 * noise(3, 40))
    assert watched([*calm.tolist(), *wild.tolist()])[-1].turned


def test_the_start_is_what_was_seen_while_the_learning_rate_was_harmless() -> None:
    watch = LossWatch().add(2.0).add(2.2).add(5.0, harmless=False).add(9.0, harmless=False)
    assert watch.started
    assert watch.start.size == 2
    assert watch.start.mean == pytest.approx(2.1)
    first = LossWatch().add(2.0, harmless=False)
    assert first.start.mean == 2.0  # the first loss is measured before any update


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40))
def test_no_loss_breaks_the_watch(losses: list[float]) -> None:
    for watch in watched(losses):
        assert watch.start.size <= FIRST_LOSSES
        assert not math.isnan(watch.best)
        assert watch.turned or not watch.diverged
