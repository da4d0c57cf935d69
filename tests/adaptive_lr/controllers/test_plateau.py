"""`Plateau` on evaluations against torch, and per step on losses whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.controllers import Plateau
from adaptive_lr.statistics import Phase, Statistics

STEPS = np.arange(20_000)
FALLING = 0.5 + 2.0 * np.exp(-STEPS / 8000.0)
COMBINATIONS = list(itertools.product(("min", "max"), ("rel", "abs"), (0, 1, 3), (0, 1, 2, 5)))


def evaluated(law, metrics):
    """The factor after each evaluation."""
    rows = [Statistics(step, Phase.OBSERVATION, {"val": metric}) for step, metric in enumerate(metrics)]
    return [adjustment.factor for adjustment in law.simulate(rows)]


def torchs(metrics, **arguments):
    """The learning rate after each evaluation, from 1, under torch's scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **arguments)
    rates = []
    for metric in metrics:
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def stepped(losses, **arguments):
    """Steps at which a per-step plateau cuts."""
    adjustments = Plateau(**arguments).simulate([{"loss": float(loss)} for loss in losses])
    return [step for step, adjustment in enumerate(adjustments) if adjustment.reasons]


@pytest.mark.parametrize(("mode", "threshold_mode", "cooldown", "patience"), COMBINATIONS)
def test_on_positive_evaluations_it_is_torchs_scheduler(mode, threshold_mode, cooldown, patience):
    """Every combination of arguments gives torch's learning rates to the last bit, NaN evaluations included."""
    generator = np.random.default_rng(0)
    for threshold, factor, floor in ((1e-4, 0.1, 0.0), (0.1, 0.7, 0.05), (0.0, 0.5, 0.3)):
        metrics = np.round(generator.uniform(0.1, 2.0, 80), 1)  # ties are common
        metrics[20:40] = np.round(np.linspace(2.0, 0.1, 20), 2)
        metrics[generator.random(80) < 0.05] = math.nan
        shared = {
            "mode": mode,
            "threshold_mode": threshold_mode,
            "cooldown": cooldown,
            "patience": patience,
            "threshold": threshold,
            "factor": factor,
        }
        expected = torchs(metrics.tolist(), min_lr=floor, **shared)
        assert evaluated(Plateau("val", min_factor=floor, **shared), metrics.tolist()) == expected
        assert len(set(expected)) > 1


@given(
    metrics=st.lists(st.one_of(st.floats(1e-3, 1e3), st.sampled_from([0.5, 1.0, math.nan])), max_size=60),
    combination=st.sampled_from(COMBINATIONS),
    threshold=st.sampled_from([0.0, 1e-4, 0.3]),
)
@settings(deadline=None, max_examples=100)
def test_on_any_positive_evaluations_it_is_torchs_scheduler(metrics, combination, threshold):
    """The same for sequences that hypothesis looks for."""
    mode, threshold_mode, cooldown, patience = combination
    shared = {
        "mode": mode,
        "threshold_mode": threshold_mode,
        "cooldown": cooldown,
        "patience": patience,
        "threshold": threshold,
    }
    assert evaluated(Plateau("val", **shared), metrics) == torchs(metrics, **shared)


@given(
    metrics=st.lists(st.floats(-10.0, 10.0), max_size=60),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    patience=st.integers(0, 3),
)
@settings(deadline=None, max_examples=60)
def test_minimising_a_metric_is_maximising_its_negative(metrics, threshold_mode, patience):
    """The two modes are mirror images at every sign, which torch's relative threshold is not."""
    shared = {"threshold": 0.1, "threshold_mode": threshold_mode, "patience": patience}
    mirrored = evaluated(Plateau("val", mode="max", **shared), [-metric for metric in metrics])
    assert evaluated(Plateau("val", mode="min", **shared), metrics) == mirrored


def test_negative_metrics_that_get_worse_are_cut():
    """-1, -0.95, -0.9 with a margin of a tenth: no improvement (torch takes both for new bests and never cuts)."""
    metrics = [-1.0, -0.95, -0.9]
    assert evaluated(Plateau("val", patience=1, threshold=0.1), metrics) == [1.0, 1.0, 0.1]
    assert torchs(metrics, patience=1, threshold=0.1) == [1.0, 1.0, 1.0]


def test_negative_metrics_that_improve_are_not_cut():
    """Falling by more than a tenth of the magnitude each time is progress; by less, it is none."""
    assert evaluated(Plateau("val", patience=0, threshold=0.1), [-(1.2**n) for n in range(30)])[-1] == 1.0
    assert evaluated(Plateau("val", patience=0, threshold=0.1), [-1.0, -1.09])[-1] == 0.1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_non_finite_evaluation_is_bad_and_never_the_best(bad, mode):
    """It counts towards patience, first in the run or later, and a finite one after it is better."""
    law = Plateau("val", mode=mode, patience=1)
    assert evaluated(law, [bad, bad]) == [1.0, 0.1]
    assert evaluated(law, [bad, 1.0, bad, bad])[-1] == 0.1
    better = [1.0, 0.9] if mode == "min" else [1.0, 1.1]
    assert evaluated(law, [better[0], bad, better[1], bad])[-1] == 1.0


def test_the_factor_never_reaches_zero():
    """Like torch's eps: a cut that would change the factor by no more than 1e-8 is not made."""
    factors = evaluated(Plateau("val", patience=0), [1.0] * 1000)
    assert factors[-1] == pytest.approx(1e-8)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(100, 103))
def test_a_falling_noisy_loss_is_never_cut(noise, seed):
    """0.5 + 2 exp(-t / 8000) over 20,000 steps falls to the end, and the law sees it through the noise."""
    assert stepped(FALLING + np.random.default_rng(seed).normal(0.0, noise, 20_000)) == []


@pytest.mark.parametrize(("noise", "within"), [(0.02, 2_000), (0.3, 6_000)])
@pytest.mark.parametrize("level", [0.5, 2.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_flat_noisy_loss_is_cut(noise, within, level, seed):
    """Flat from the start: within 2,000 steps at noise 0.02, within 6,000 at 0.3."""
    cuts = stepped(level + np.random.default_rng(seed).normal(0.0, noise, within))
    assert cuts


@pytest.mark.parametrize(("noise", "within"), [(0.02, 2_000), (0.3, 6_000)])
@pytest.mark.parametrize("flat_from", [3_000, 10_050, 19_000])
@pytest.mark.parametrize("seed", range(2))
def test_a_loss_that_stops_falling_is_cut(noise, within, flat_from, seed):
    """Frozen at its value after a fall: cut as soon, and not before."""
    steps = np.arange(flat_from + within)
    losses = 0.5 + 2.0 * np.exp(-np.minimum(steps, flat_from) / 8000.0)
    cuts = stepped(losses + np.random.default_rng(seed).normal(0.0, noise, steps.size))
    assert cuts
    assert cuts[0] >= flat_from


def test_a_rising_loss_is_no_progress():
    """A loss that rises is cut as a flat one is."""
    losses = 1.0 + STEPS[:3000] * 1e-4 + np.random.default_rng(0).normal(0.0, 0.02, 3000)
    assert stepped(losses)


@pytest.mark.parametrize("seed", range(3))
def test_mode_max_is_the_mirror_image_per_step(seed):
    """An accuracy that rises is not cut, and one that stays is."""
    generator = np.random.default_rng(seed)
    assert stepped(-FALLING + generator.normal(0.0, 0.1, 20_000), mode="max") == []
    assert stepped(0.9 + generator.normal(0.0, 0.02, 2_000), mode="max")


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_flat_loss_around_zero_is_cut(noise):
    """Where the level is near zero the deviation of single steps takes its place."""
    assert stepped(np.random.default_rng(0).normal(0.0, noise, 10_000))


def test_windows_grow_with_the_run():
    """A power law makes progress at every scale of time: it is never cut, nor are 1,000 flat steps after 60,000."""
    losses = (100.0 + np.arange(60_000)) ** -0.5
    cuts = stepped(np.concatenate([losses, np.full(10_000, losses[-1])]), block_size=10, flat_share=0.01)
    assert 61_000 < cuts[0] < 70_000


@pytest.mark.parametrize(("patience", "blocks"), [(0, 4), (2, 4), (9, 10), (127, 128), (1000, 128)])
def test_the_shortest_window_is_patience_plus_one_blocks_within_what_is_kept(patience, blocks):
    """A constant loss is cut after that many blocks; a patience meant for evaluations does not switch the law off."""
    assert stepped(np.ones(2000), patience=patience, block_size=10)[0] == 10 * blocks - 1


def test_after_a_cut_only_new_steps_count():
    """Two cuts are at least a window (patience + 1 blocks) and the cooldown apart."""
    losses = 1.0 + np.random.default_rng(0).normal(0.0, 0.02, 10_000)
    plain, cooled = stepped(losses), stepped(losses, cooldown=5)
    assert np.diff(plain).min() == 1100
    assert np.diff(cooled).min() == 1600


def test_non_finite_steps_are_left_out():
    """NaN and infinite losses neither cause nor prevent a cut."""
    losses = 1.0 + np.random.default_rng(0).normal(0.0, 0.02, 1_500)
    spoiled = np.insert(losses, [100, 700, 701], [math.nan, math.inf, -math.inf])
    assert [step - 3 for step in stepped(spoiled)] == stepped(losses) != []


def test_once_evaluated_per_step_values_are_ignored():
    """Evaluations of the monitor take over: a flat per-step loss then never cuts, as long as evaluations improve."""
    law = Plateau(patience=1, block_size=10)
    rows = []
    for step in range(2000):
        rows.append(Statistics(step, Phase.AFTER, {"loss": 1.0}))
        if step % 20 == 0:
            rows.append(Statistics(step + 1, Phase.OBSERVATION, {"loss": 1.0 / (step + 1)}))
    assert all(adjustment.factor == 1.0 for adjustment in law.simulate(rows))


def test_rows_without_the_monitor_change_nothing():
    """Neither patience nor blocks move, and the factor stands."""
    law = Plateau("val", patience=0)
    state, _ = law.update(law.init(), Statistics(0, Phase.OBSERVATION, {"val": 1.0}))
    state, cut = law.update(state, Statistics(1, Phase.OBSERVATION, {"val": 1.0}))
    for phase in (Phase.AFTER, Phase.OBSERVATION, Phase.START):
        following, adjustment = law.update(state, Statistics(2, phase, {"loss": math.nan}))
        assert following == state
        assert adjustment.factor == cut.factor == 0.1
        assert not adjustment.reasons


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": ""}, "monitor must name a metric"),
        ({"mode": "down"}, "mode must be 'min' or 'max', got 'down'"),
        ({"threshold_mode": "share"}, "threshold_mode must be 'rel' or 'abs'"),
        ({"factor": 1.0}, "factor must be in"),
        ({"threshold": -1e-3}, "threshold must be finite and >= 0"),
        ({"min_factor": 1.5}, "min_factor must be in"),
        ({"patience": -1}, "patience must be at least 0, got -1"),
        ({"cooldown": -1}, "cooldown must be at least 0"),
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"flat_share": 0.0}, "flat_share must be in"),
    ],
)
def test_bad_settings_are_refused_by_name(arguments, message):
    """The message names the setting, the rule and the value."""
    with pytest.raises(ValueError, match=message):
        Plateau(**arguments)
