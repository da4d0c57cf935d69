"""`LossVariance` does nothing to healthy losses and brakes diverging ones."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.signal

from adaptive_lr.controllers import Adjustment, LossVariance, guarded
from adaptive_lr.statistics import Phase, Statistics

STEPS = np.arange(10_000)


def simulate(losses, law=None):
    return (law or LossVariance()).simulate([{"loss": float(loss)} for loss in losses])


def actions(adjustments, action):
    return [step for step, a in enumerate(adjustments) if any(reason.action == action for reason in a.reasons)]


HEALTHY = {
    "falling, noise 0.02": lambda g: 0.5 + 2.0 * np.exp(-STEPS / 8000) + g.normal(0.0, 0.02, 10_000),
    "falling, noise 0.3": lambda g: 0.5 + 2.0 * np.exp(-STEPS / 8000) + g.normal(0.0, 0.3, 10_000),
    "falling, no noise": lambda g: 0.5 + 2.0 * np.exp(-STEPS / 800),
    "flat": lambda g: 1.0 + g.normal(0.0, 0.1, 10_000),
    "flat around zero": lambda g: g.normal(0.0, 0.1, 10_000),
    "constant": lambda g: np.ones(10_000),
    "log-normal, sigma 0.5": lambda g: np.exp(g.normal(0.0, 0.5, 10_000)),
    "log-normal, sigma 0.8": lambda g: np.exp(g.normal(0.0, 0.8, 10_000)),
    "autocorrelated": lambda g: 1.0 + scipy.signal.lfilter([0.1], [1.0, -0.5], g.normal(0.0, 1.0, 10_000)),
    "drop of the learning rate": lambda g: np.where(STEPS < 5000, 1.0, 0.6) * (1.0 + g.normal(0.0, 0.1, 10_000)),
    "calm start": lambda g: (
        2.3 - 1.5 * (1 - np.exp(-STEPS / 300)) + g.normal(0.0, 1.0, 10_000) * (0.02 + 0.2 * (1 - np.exp(-STEPS / 100)))
    ),
    "noise that grows 100-fold": lambda g: 1.0 + g.normal(0.0, 0.01, 10_000) * 100 ** np.minimum(STEPS / 2000, 1.0),
    "a drift of a millionth per step": lambda g: 1.0 + 1e-6 * STEPS + g.normal(0.0, 1e-6, 10_000),
    "one bad batch in 200": lambda g: 1.0 + g.normal(0.0, 0.02, 10_000) + 10.0 * (g.random(10_000) < 0.005),
}


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("seed", range(2))
def test_healthy_losses_are_braked_less_than_once_in_1000_steps(name, seed):
    """Do no harm: noise, heavy tails, outliers, a fall and a jump down are no reason to brake."""
    adjustments = simulate(HEALTHY[name](np.random.default_rng(seed)))
    assert len(actions(adjustments, "brake")) < 10


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_a_jump_that_stays_is_braked_within_half_a_window(noise, seed):
    """The loss jumps to ten times its level and stays, its noise with it: braked within 32 steps."""
    jump = 500 + seed * 3  # not at the edge of a block
    losses = np.where(np.arange(700) < jump, 1.0, 10.0) * (1.0 + np.random.default_rng(seed).normal(0.0, noise, 700))
    assert jump <= actions(simulate(losses), "brake")[0] < jump + 32


@pytest.mark.parametrize(
    ("noise", "time", "within"), [(0.02, 50, 32), (0.3, 50, 64), (0.02, 200, 32), (0.1, 200, 64), (0.3, 200, 256)]
)
@pytest.mark.parametrize("seed", range(3))
def test_exponential_growth_is_braked_before_it_is_four_fold(noise, time, within, seed):
    """Growth by e in `time` steps: braked within one window, or within four where noise is large and growth slow."""
    onset = 500 + seed * 3
    losses = np.exp(np.maximum(np.arange(1000) - onset, 0) / time)
    losses *= 1.0 + np.random.default_rng(seed).normal(0.0, noise, 1000)
    adjustments = simulate(losses)
    assert onset <= actions(adjustments, "brake")[0] < onset + within
    assert adjustments[-1].factor < 0.5


def test_noise_that_grows_without_progress_is_braked():
    """Deviation times ten on a flat loss: braked within two windows; with a falling loss beneath, it is not."""
    generator = np.random.default_rng(0)
    noise = generator.normal(0.0, 1.0, 1000) * np.where(np.arange(1000) < 500, 0.02, 0.2)
    first = actions(simulate(2.0 + noise), "brake")[0]
    assert 500 <= first < 500 + 128
    falling = 20.0 - 15.0 * np.arange(1000) / 1000
    assert actions(simulate(falling + noise), "brake") == []


def test_noise_that_came_with_progress_is_accepted():
    """Noise that grew ten-fold while the loss fell is the new reference: the flat stretch after it is not braked."""
    generator = np.random.default_rng(0)
    falling = np.interp(np.arange(1000), [300, 450], [20.0, 2.0])
    noise = generator.normal(0.0, 1.0, 1000) * np.where(np.arange(1000) < 320, 0.02, 0.2)
    assert actions(simulate(falling + noise), "brake") == []


def test_it_does_not_recover_on_a_rising_loss():
    """A rise too weak for a brake (t between 2 and 5) still holds the factor down; a flat loss releases it."""
    law, step = LossVariance(), np.arange(64)
    residuals = np.where(step % 2, 0.1, -0.1)
    state = law.init()._replace(depth=2, reference=0.1)

    def last(losses):
        current = state
        for index, loss in enumerate(losses.tolist()):
            current, adjustment = law.update(current, Statistics(index, Phase.AFTER, {"loss": loss}))
        return adjustment

    assert [reason.action for reason in last(1.0 + residuals).reasons] == ["recover"]
    assert last(1.0 + residuals + 0.15 * step / 64) == Adjustment(factor=0.5)


def test_it_recovers_in_half_steps_while_the_loss_falls():
    """After a brake the factor comes back by the square root of 2 at most once a window, to exactly 1."""
    losses = np.concatenate([np.ones(200), np.full(40, 5.0), np.linspace(5.0, 0.5, 800)])
    losses += np.random.default_rng(0).normal(0.0, 0.05, losses.size)
    adjustments = simulate(losses)
    steps = actions(adjustments, "recover")
    assert len(steps) == 2 * len(actions(adjustments, "brake")) > 0
    assert all(b - a >= 64 for a, b in itertools.pairwise(steps))
    for step in steps:
        assert adjustments[step].factor == pytest.approx(adjustments[step - 1].factor * math.sqrt(2.0))
    assert adjustments[-1].factor == 1.0


def test_it_does_not_recover_while_noise_is_high():
    """A gate: with the deviation above its reference and no fall, the factor stays down."""
    generator = np.random.default_rng(0)
    noise = generator.normal(0.0, 1.0, 800) * np.where(np.arange(800) < 400, 0.02, 0.3)
    adjustments = simulate(2.0 + noise)
    first = actions(adjustments, "brake")[0]
    assert not [step for step in actions(adjustments, "recover") if step < first + 128]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_non_finite_loss_changes_nothing_but_its_count(bad):
    """It is left out and counted: the decisions are those of the series without it."""
    losses = HEALTHY["flat"](np.random.default_rng(0))[:600]
    losses[300:] += 5.0
    spoiled = np.insert(losses, 150, bad)
    expected = [adjustment.factor for adjustment in simulate(losses)]
    found = [adjustment.factor for adjustment in simulate(spoiled)]
    assert found[:150] + found[151:] == expected
    assert min(expected) < 1.0
    law = LossVariance()
    state, adjustment = law.update(law.init(), Statistics(0, Phase.AFTER, {"loss": bad}))
    assert state == law.init()._replace(nonfinite=1)
    assert not adjustment.reasons


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 60}, "window must be a multiple of 8 and at least 32, got 60"),
        ({"window": 24}, "window"),
        ({"backoff": 0.0}, "backoff must be in"),
        ({"growth": 1.0}, "growth must be finite and > 1"),
        ({"min_factor": 0.0}, "min_factor must be in"),
    ],
)
def test_bad_settings_are_refused_by_name(arguments, message):
    """The message names the setting, the rule and the value."""
    with pytest.raises(ValueError, match=message):
        LossVariance(**arguments)


def test_guarded_never_raises_the_learning_rate_and_leaves_a_healthy_run_alone():
    """On a healthy run the total factor is 1 at every step; on a diverging one it falls, to no less than its bound."""
    generator = np.random.default_rng(0)
    composition = guarded()
    assert composition.names == ("rescue", "gradient_spike", "loss_variance")
    assert (composition.min_factor, composition.max_factor) == (1e-8, 1.0)
    state = composition.init()
    for step, loss in enumerate((2.0 + generator.normal(0.0, 0.1, 1000)).tolist()):
        before = {"grad_norm": 1.0, "grad_score": 0.0, "grad_spread": 0.25}
        state, outcome = composition.update(state, Statistics(step, Phase.BEFORE, before))
        assert (outcome.factor, outcome.damp, outcome.skip) == (1.0, 1.0, False)
        state, outcome = composition.update(state, Statistics(step, Phase.AFTER, {"loss": loss}))
        assert outcome.factor == 1.0
    for step in range(3000):
        before = {"grad_norm": math.inf, "grad_score": math.inf, "grad_spread": 0.25}
        state, _ = composition.update(state, Statistics(step, Phase.BEFORE, before))
        state, outcome = composition.update(state, Statistics(step, Phase.AFTER, {"loss": math.exp(step / 100)}))
    assert 1e-8 <= outcome.factor < 1e-3
