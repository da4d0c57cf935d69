"""The ladder of `GradientSpike`: what it does to bad gradients, and what it leaves alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from adaptive_lr.controllers import GradientSpike
from adaptive_lr.scores import NormPast, score_norm
from adaptive_lr.statistics import Phase, Statistics


def norms_of(seed, sigma, count):
    return np.exp(np.random.default_rng(seed).normal(0.0, sigma, count))


def simulate(norms, law=None):
    return (law or GradientSpike()).simulate([{"grad_norm": float(norm)} for norm in norms])


def acted(adjustments):
    """Steps at which the law did anything to the gradient."""
    return [step for step, adjustment in enumerate(adjustments) if adjustment.skip or adjustment.damp < 1.0]


def rows(scores, norm=1.0):
    return [
        Statistics(step, Phase.BEFORE, {"grad_norm": norm, "grad_score": score, "grad_spread": 0.25})
        for step, score in enumerate(scores)
    ]


@pytest.mark.parametrize("sigma", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_healthy_log_normal_norms_see_fewer_than_10_interventions_in_10000_steps(sigma, seed):
    """Heavy right tails are not spikes."""
    adjustments = simulate(norms_of(seed, sigma, 10_000))
    assert sum(len(adjustment.reasons) for adjustment in adjustments) < 10


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 5, 200])
def test_after_one_non_finite_gradient_only_that_step_is_skipped(bad, step):
    """It is left out, at any time of the run, and nothing follows: no later skip, no damping, no lower factor."""
    norms = norms_of(0, 0.2, 400)
    norms[step] = bad
    adjustments = simulate(norms)
    assert [index for index, adjustment in enumerate(adjustments) if adjustment.reasons] == [step]
    assert adjustments[step].skip
    assert all(adjustment.factor == adjustment.momentum == 1.0 for adjustment in adjustments)


@pytest.mark.parametrize("height", [10.0, 30.0, 1000.0])
def test_a_spike_does_not_hide_one_of_half_its_height_10_steps_later(height):
    """Flagged norms do not widen the scale that later ones are judged by."""
    norms = norms_of(1, 0.1, 300)
    norms[200], norms[210] = height, height / 2
    assert acted(simulate(norms)) == [200, 210]


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("times", [3.0, 10.0, 1000.0])
def test_a_lasting_shift_of_the_norm_is_adopted(sigma, seed, times):
    """Damping and skipping end within 100 steps, and the factor is back at 1 within 150."""
    norms = norms_of(seed, sigma, 600)
    norms[300:] *= times
    adjustments = simulate(norms)
    assert all(step < 400 for step in acted(adjustments) if step >= 300)
    assert all(adjustment.factor == adjustment.momentum == 1.0 for adjustment in adjustments[450:])


def test_a_shift_is_met_with_the_whole_ladder():
    """A shift of nearly constant norms by 10 is damped and backs the factor off for a while."""
    norms = norms_of(0, 0.02, 600)
    norms[300:] *= 10.0
    adjustments = simulate(norms)
    assert acted(adjustments)[0] == 300
    assert min(adjustment.factor for adjustment in adjustments) < 1.0


def test_a_damped_gradient_has_the_norm_that_was_to_be_expected():
    norms = [*norms_of(2, 0.3, 200).tolist(), 5.0]
    adjustment = simulate(norms)[-1]
    past = NormPast()
    for norm in norms[:-1]:
        past, _ = score_norm(past, norm)
    _, scored = score_norm(past, 5.0)
    score, typical = scored["grad_score"], scored["grad_typical"]
    assert 4.0 < score < 6.0  # a spike to damp, not to skip
    assert 5.0 * adjustment.damp == pytest.approx(typical)
    assert not adjustment.skip
    assert [reason.action for reason in adjustment.reasons] == ["damp"]


def test_scores_between_the_thresholds_damp_and_above_skip():
    """The thresholds themselves are still allowed."""
    law = GradientSpike()
    state = law.init()
    results = [law.update(state, row)[1] for row in rows([4.0, 4.1, 6.0, 6.1, math.inf])]
    assert [(result.damp < 1.0, result.skip) for result in results] == [
        (False, False),
        (True, False),
        (True, False),
        (False, True),
        (False, True),
    ]


def test_three_spikes_within_20_steps_back_off_and_two_do_not():
    """The count leaks: the third spike of a burst halves the factor and momentum; far apart they never add up."""
    burst = GradientSpike().simulate(rows([5.0 if step in (10, 20, 30) else 0.0 for step in range(31)]))
    assert [adjustment.factor for adjustment in burst[29:]] == [1.0, 0.5]
    assert burst[30].momentum == 0.5
    assert [reason.action for reason in burst[30].reasons] == ["damp", "back off"]
    sparse = GradientSpike().simulate(rows([5.0 if step % 21 == 0 else 0.0 for step in range(1000)]))
    assert all(adjustment.factor == 1.0 for adjustment in sparse)


def test_recovery_takes_half_a_back_off_back_every_12_quiet_steps():
    """One back-off is undone in two steps of the square root of 2, momentum with the first; it ends at exactly 1."""
    adjustments = GradientSpike().simulate(rows([9.0] * 3 + [0.0] * 30))
    steps = {step: a for step, a in enumerate(adjustments) if a.reasons and step >= 3}
    assert list(steps) == [14, 26]
    assert steps[14].factor == pytest.approx(math.sqrt(0.5))
    assert steps[26].factor == 1.0
    assert [adjustments[step].momentum for step in (13, 14)] == [0.5, 1.0]


def test_lasting_spikes_back_off_at_most_once_in_20_steps_down_to_the_bound():
    """The factor is halved at most once per spike_memory steps, and never goes below min_factor."""
    adjustments = GradientSpike().simulate(rows([9.0] * 200))
    cuts = [s for s, a in enumerate(adjustments) if any(reason.action == "back off" for reason in a.reasons)]
    assert len(cuts) == 4  # 1/16
    assert min(b - a for a, b in itertools.pairwise(cuts)) >= 20
    assert adjustments[-1].factor == 1 / 16


def test_recovery_from_a_bound_between_two_levels_begins_at_once():
    """With a bound that is no power of the back-off, every reason to recover is still a change of the factor."""
    adjustments = GradientSpike(min_factor=0.3).simulate(rows([9.0] * 100 + [0.0] * 60))
    assert adjustments[99].factor == 0.3
    recovered = [adjustment.factor for adjustment in adjustments[100:] if adjustment.reasons]
    assert recovered == pytest.approx([0.5**1.5, 0.5, 0.5**0.5, 1.0])


def test_non_finite_gradients_in_a_row_ask_to_stop_and_a_finite_one_resets_the_count():
    """20 in a row stop; 19, one good one and 19 more do not."""
    assert [a.stop for a in simulate([1.0, *[math.nan] * 20])] == [False] * 20 + [True]
    assert not any(a.stop for a in simulate([*[math.nan] * 19, 1.0, *[math.inf] * 19]))
    # 16 halvings of GradScaler's initial scale of 2**16 are no reason to stop
    assert not any(a.stop for a in simulate([math.inf] * 16))


@pytest.mark.parametrize("scale", [0.0, 0.01, 0.5, 3.0, 1e4])
def test_clip_is_torchs_clip_grad_norm(scale):
    """The gradient after damping is what torch.nn.utils.clip_grad_norm_ leaves."""
    parameter = torch.nn.Parameter(torch.zeros(7, dtype=torch.float64))
    parameter.grad = scale * torch.randn(7, dtype=torch.float64)
    gradient = parameter.grad.clone()
    norm = float(gradient.norm())
    adjustment = GradientSpike(clip=0.7).update(GradientSpike().init(), rows([0.0], norm)[0])[1]
    torch.nn.utils.clip_grad_norm_([parameter], 0.7)
    torch.testing.assert_close(gradient * adjustment.damp, parameter.grad, rtol=1e-14, atol=0.0)
    assert [reason.action for reason in adjustment.reasons] == (["clip"] if norm > 0.7 else [])


def test_clipping_is_no_spike():
    """A gradient clipped at every step never backs off and does not delay recovery."""
    law = GradientSpike(clip=0.1)
    adjustments = law.simulate(rows([0.0] * 100))
    assert all(adjustment.factor == 1.0 and adjustment.damp < 0.2 for adjustment in adjustments)
    assert law.simulate(rows([9.0] * 3 + [0.0] * 30))[-1].factor == 1.0


def test_damping_never_reaches_zero():
    """Where float64 would underflow, damping stays the smallest normal number: a gradient is scaled, not erased."""
    row = Statistics(0, Phase.BEFORE, {"grad_norm": 1e300, "grad_score": 6.0, "grad_spread": 1e3})
    assert 0.0 < GradientSpike().update(GradientSpike().init(), row)[1].damp < 1e-300
    assert 0.0 < GradientSpike(clip=1e-30).simulate(rows([0.0], norm=1e300))[0].damp < 1e-300


def test_clip_and_damp_together_leave_the_smaller_gradient():
    """The stronger of the two acts, and both are explained where clipping is."""
    strong = GradientSpike(clip=0.1).simulate(rows([5.0]))[0]
    assert strong.damp == pytest.approx(0.1, rel=1e-5)
    assert [reason.action for reason in strong.reasons] == ["damp", "clip"]
    weak = GradientSpike(clip=0.99).simulate(rows([5.0]))[0]
    assert weak.damp == pytest.approx(math.exp(-1.25))
    assert [reason.action for reason in weak.reasons] == ["damp"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"damp_above": 0.0}, "damp_above"),
        ({"damp_above": 7.0}, "damp_above <= skip_above, got 7.0 and 6.0"),
        ({"damp_above": math.nan}, "damp_above"),
        ({"spike_limit": 0}, "spike_limit must be at least 1, got 0"),
        ({"spike_memory": 0}, "spike_memory"),
        ({"recover_after": 0}, "recover_after"),
        ({"stop_after": 0}, "stop_after"),
        ({"backoff": 1.0}, "backoff must be in"),
        ({"momentum": 1.5}, "momentum must be in"),
        ({"min_factor": 0.0}, "min_factor must be in"),
        ({"clip": 0.0}, "clip must be finite and > 0 or None, got 0.0"),
        ({"clip": math.inf}, "clip"),
    ],
)
def test_bad_settings_are_refused_by_name(arguments, message):
    """The message names the setting, the rule and the value."""
    with pytest.raises(ValueError, match=message):
        GradientSpike(**arguments)
