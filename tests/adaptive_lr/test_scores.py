"""Scores of norms and losses against numpy, scipy and the law written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.scores import (
    LOSS_SPREAD_FLOOR,
    LOSS_WINDOW,
    NORM_LAW,
    NORM_SPREAD_FLOOR,
    NORM_WARMUP,
    LossPast,
    NormPast,
    score_loss,
    score_norm,
)
from adaptive_lr_kernels.norm_law import squares_within


def scored(norms, past=None):
    """The past after these norms, and what was said of each."""
    past = NormPast() if past is None else past
    rows = []
    for norm in norms:
        past, row = score_norm(past, float(norm))
        rows.append(row)
    return past, rows


def written_out(norms):
    """The scores, by the formulas of `adaptive_lr_kernels.reflex` with this law's numbers."""
    known, level, slope, variance, streak, scores = 0, 0.0, 0.0, 0.0, 0, []
    within = scipy.integrate.quad(lambda z: min(z * z, 4.0) * scipy.stats.norm.pdf(z), -40, 40, points=[-2, 2])[0]
    for norm in norms:
        deviation = max(variance**0.5, 0.35)
        if not np.isfinite(norm):
            scores.append(np.inf)
            continue
        if norm == 0.0:
            scores.append(0.0)
            continue
        x = np.log(norm)
        scores.append((x - level) / (deviation * (1 + 2 / known)) if known >= 16 else 0.0)
        if known == 0:
            known, level = 1, x
            continue
        known += 1
        error = np.clip(x - level, -2 * deviation, 2 * deviation)
        hit = np.sign(error) if abs(error) >= 2 * deviation else 0
        streak = streak + hit if hit and hit == np.sign(streak) else hit
        step = error / min(known, np.clip(known / 12, 8, 32))
        slope += step / 64
        level += step + slope
        variance += (error**2 / within - variance) / np.clip(known / 3, 1, 256)
        if abs(streak) == 16:
            known, streak = 16, 0
    return scores


def test_scores_are_those_of_the_law_as_it_is_written():
    """Noise, lasting shifts up and down, spikes, zeros and norms that are no numbers."""
    generator = np.random.default_rng(4)
    norms = np.exp(generator.normal(0.0, 0.5, 1500) - np.linspace(0.0, 4.0, 1500))
    norms[generator.random(1500) < 0.02] *= 50.0
    norms[generator.random(1500) < 0.02] = math.nan
    norms[generator.random(1500) < 0.02] = 0.0
    norms[600:] *= 200.0
    norms[1100:] /= 1000.0
    _, rows = scored(norms)
    np.testing.assert_allclose([row["grad_score"] for row in rows], written_out(norms), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0, 3.5])
def test_the_mean_of_bounded_squares_is_the_integral(bound):
    density = scipy.stats.norm.pdf
    expected, _ = scipy.integrate.quad(
        lambda z: min(z * z, bound * bound) * density(z), -40, 40, points=[-bound, bound]
    )
    assert squares_within(bound) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sigma", [0.4, 0.8])
@pytest.mark.parametrize("fall", [0.0, 0.02])
def test_the_spread_is_that_of_the_noise_whether_norms_fall_or_not(sigma, fall):
    """And the expected norm is the median of the next, though norms fall to e^-40 of what they were."""
    generator = np.random.default_rng(1)
    past, spreads, errors = NormPast(), [], []
    for step in range(2000):
        if step >= 500:
            spreads.append(score_norm(past, 1.0)[1]["grad_spread"])
            errors.append(past.expected + fall * step)
        past, _ = score_norm(past, math.exp(sigma * generator.standard_normal() - fall * step))
    assert np.mean(spreads) == pytest.approx(sigma, rel=0.06)
    assert abs(np.mean(errors)) < 0.1 * sigma
    assert np.std(errors) < 0.2 * sigma


@pytest.mark.parametrize("sigma", [0.2, 0.3, 0.4, 0.5])
def test_norms_ten_times_the_median_are_caught_from_noise_up_to_a_half(sigma):
    """Once 300 norms are known: all of 3 x 970 spikes among log-normal norms, one in ten steps, but for 1 in 500."""
    caught = count = 0
    for seed in range(3):
        norms = np.exp(sigma * np.random.default_rng(seed).standard_normal(10_000))
        past = NormPast()
        for step, norm in enumerate(norms):
            if step >= 300 and step % 10 == 0:
                count += 1
                caught += score_norm(past, 10.0)[1]["grad_score"] > 4.0
            past, _ = score_norm(past, float(norm))
    assert count - caught <= count / 500


@pytest.mark.parametrize("factor", [1e-4, 1e-2, 30.0, 1e3, 1e6])
def test_a_lasting_shift_is_adopted_within_30_steps(factor):
    """Whatever its size; so spikes without end are not skipped without end."""
    norms = np.exp(0.3 * np.random.default_rng(0).standard_normal(900))
    norms[800:] *= factor
    _, rows = scored(norms)
    assert all(abs(row["grad_score"]) < 4.0 for row in rows[830:])


def test_spikes_in_a_sixth_of_the_steps_hide_none_of_them():
    norms = np.exp(0.3 * np.random.default_rng(0).standard_normal(3000))
    norms[500::6] *= 1e3
    _, rows = scored(norms)
    assert min(row["grad_score"] for row in rows[500::6]) > 6.0
    assert max(row["grad_score"] for step, row in enumerate(rows[500:]) if step % 6) < 4.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(1e-3, 1e3), st.sampled_from([0.0, math.inf, math.nan, 5e-324, 1e308, 1e-300])), max_size=80
    )
)
def test_whatever_comes_there_is_a_score(norms):
    """Typical norms and spreads are positive numbers, and what is 0 or not finite leaves no mark."""
    past = NormPast()
    for norm in norms:
        after, row = score_norm(past, norm)
        assert row["grad_spread"] >= NORM_SPREAD_FLOOR
        assert not math.isnan(row["grad_score"])
        assert (row["grad_score"] == math.inf) == (not math.isfinite(norm))
        assert math.isfinite(row["grad_typical"]) or (past.known < NORM_WARMUP and not math.isfinite(norm))
        assert (after == past) == (norm == 0.0 or not math.isfinite(norm))
        past = after


def test_a_past_is_made_of_plain_numbers():
    past, _ = scored([1.0, 3.0, 2.0])
    assert NormPast.of([float(value) for value in past]) == past
    with pytest.raises(ValueError, match=r"norms must be 5 numbers \(known, .*\), got \[0.5\]"):
        NormPast.of([0.5])
    assert [type(value) for value in NormPast.of([3.0, 0.5, 0.0, 0.1, -1.0])] == [int, float, float, float, int]


def test_the_constants_are_within_their_ranges():
    NORM_LAW.check()
    for name, value in (
        ("bound", 0.0),
        ("warmup", 0),
        ("level_memory", 1.0),
        ("trend", -1.0),
        ("scale_share", math.inf),
    ):
        with pytest.raises(ValueError, match=f"{name} must be"):
            NORM_LAW._replace(**{name: value}).check()


def test_the_score_of_a_loss_is_that_of_numpys_percentiles():
    """Of the losses themselves, shifted or not; a loss that stands still has a thousandth of its level as its scale."""
    generator = np.random.default_rng(2)
    for offset in (0.0, -30.0):
        losses = offset + generator.normal(2.0, 0.5, 300)
        past = LossPast()
        for index, loss in enumerate(losses):
            window = losses[max(index - LOSS_WINDOW, 0) : index]
            past, scored = score_loss(past, float(loss))
            if index < NORM_WARMUP:
                assert (scored["loss_score"], scored["loss_typical"]) == (0.0, loss)
                continue
            low, centre, high = np.percentile(window, [25, 50, 75])
            spread = (high - low) / (2.0 * scipy.stats.norm.ppf(0.75))
            spread = max(spread, LOSS_SPREAD_FLOOR * abs(centre)) * (1.0 + 8.0 / len(window))
            assert scored["loss_typical"] == pytest.approx(centre, rel=1e-12)
            assert scored["loss_spread"] == pytest.approx(spread, rel=1e-9)
            assert scored["loss_score"] == pytest.approx((loss - centre) / spread, rel=1e-9, abs=1e-12)


def test_a_loss_that_is_not_finite_scores_infinity_and_leaves_no_mark():
    past = LossPast()
    for _ in range(NORM_WARMUP):
        past, _ = score_loss(past, 2.0)
    for broken in (math.nan, math.inf, -math.inf):
        after, scored = score_loss(past, broken)
        assert after == past
        assert scored["loss_score"] == math.inf
    _, scored = score_loss(past, 2.1)
    assert scored["loss_score"] == pytest.approx(0.1 / (LOSS_SPREAD_FLOOR * 2.0 * 1.5))
