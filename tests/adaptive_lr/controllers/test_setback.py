"""`Setback`: a loss that stands significantly above where it was, and nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.controllers.setback import BLOCK, BLOCKS, FALSE_ALARM, SIGNIFICANT, Setback, significant
from adaptive_lr.plain import from_plain, to_plain

WINDOW = BLOCK * BLOCKS


def found_at(losses: np.ndarray) -> list[int]:
    """The positions after which a setback is seen."""
    state, found = Setback(), []
    for position, loss in enumerate(losses.tolist()):
        state = state.add(loss)
        if state.found:
            found.append(position)
    return found


def test_windows_are_those_of_the_last_losses() -> None:
    losses = np.random.default_rng(0).normal(1.0, 0.3, 100)
    state = Setback()
    for loss in losses.tolist():
        state = state.add(loss)
    last = losses[96 - WINDOW : 96]
    assert state.now.size == WINDOW
    assert state.now.mean == pytest.approx(last.mean(), rel=1e-12)
    assert state.now.variance == pytest.approx(last.var(ddof=1), rel=1e-12)
    assert state.start == pytest.approx(losses[:BLOCK].mean(), rel=1e-12)
    means = [losses[end - WINDOW : end].mean() for end in range(WINDOW, 97, BLOCK)]
    assert state.best.mean == pytest.approx(min(means), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_comes_back_up_is_found_within_a_window(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0.0, 0.1, 200)
    losses = np.concatenate([np.linspace(2.3, 0.5, 80), np.full(40, 0.5), np.full(80, 0.9)]) + noise
    found = found_at(losses)
    assert found
    assert 120 <= found[0] < 120 + WINDOW


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_losses_that_fall_to_a_noisy_level_are_no_setback(sigma: float) -> None:
    """Log-normal noise about a level: not once in 20 runs of 1,000 losses."""
    for seed in range(20):
        noise = np.exp(np.random.default_rng(seed).normal(0.0, sigma, 1000))
        losses = (0.1 + 2.2 * np.exp(-np.arange(1000) / 60.0)) * noise
        assert not found_at(losses)


def test_a_rise_that_is_a_small_share_of_the_fall_is_no_setback() -> None:
    losses = np.concatenate([np.linspace(2.3, 0.5, 80), np.full(40, 0.5), np.full(80, 0.55)])
    assert not found_at(losses)


@given(shift=st.floats(-100.0, 100.0), scale=st.floats(0.01, 100.0))
@settings(deadline=None, max_examples=30)
def test_only_differences_count(shift: float, scale: float) -> None:
    losses = np.concatenate([np.linspace(2.3, 0.5, 80), np.full(80, 0.9)])
    losses += np.random.default_rng(0).normal(0.0, 0.1, 160)
    assert found_at(losses) == found_at(shift + scale * losses)


@given(losses=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=120))
@settings(deadline=None, max_examples=50)
def test_the_state_survives_a_checkpoint_and_the_verdict_is_that_of_its_windows(losses: list[float]) -> None:
    state = Setback()
    for loss in losses:
        state = from_plain(Setback(), json.loads(json.dumps(to_plain(state.add(loss)))))
        if state.found:
            rise = state.now.mean - state.best.mean
            assert rise > SIGNIFICANT * ((state.now.variance + state.best.variance) / WINDOW) ** 0.5


@pytest.mark.parametrize("windows", [10, 175, 1250])
def test_the_lowest_of_many_windows_and_the_last_differ_by_chance_as_seldom_as_said(windows: int) -> None:
    """Against simulation: means that are independent, of which each in turn is compared with the lowest so far."""
    means = np.random.default_rng(0).standard_normal((4000, windows))
    rises = (means - np.minimum.accumulate(means, axis=1)) / np.sqrt(2.0)
    bars = np.array([significant(n) for n in range(1, windows + 1)])
    assert (rises > bars).any(axis=1).mean() < 2 * FALSE_ALARM


def test_the_bar_rises_slowly_with_the_windows_looked_at() -> None:
    bars = [significant(10**decade) for decade in range(7)]
    assert bars[0] == SIGNIFICANT
    assert bars == sorted(bars)
    assert bars[-1] < 8.5


def test_a_long_run_at_a_noisy_level_is_no_setback() -> None:
    for seed in range(10):
        losses = np.random.default_rng(seed).normal(1.0, 0.3, 1400)
        losses[:BLOCK] += 0.3
        assert not found_at(losses)
