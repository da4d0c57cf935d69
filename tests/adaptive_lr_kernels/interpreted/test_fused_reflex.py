"""The reflex on the device against the law of the host: `score_norm` and `GradientSpike`."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive_lr.controllers import GradientSpike
from adaptive_lr.scores import NORM_LAW, NormPast, score_norm
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr_kernels.fused_reflex import judge_fused, score_fused
from adaptive_lr_kernels.reflex import Judgement, Past, ReflexSettings

ROUNDING = 64 * 2.0**-53
"""Of a score: an exponential and a logarithm of one unit each, times a factor of at most 8 (log-norms up to 30 over
spreads from 0.25 up, in differences), and a few operations more."""


def settings_of(law: GradientSpike) -> ReflexSettings:
    return ReflexSettings(law.damp_above, law.skip_above, law.clip, NORM_LAW)


def past_of(norms: list[float]) -> tuple[Past, NormPast]:
    """The same norms as a past on the device and as the host's."""
    host = NormPast()
    for norm in norms:
        host, _ = score_norm(host, norm)
    held = Past.empty("cpu")
    held.fill(host)
    return held, host


def statistics_of(norm: float, scored: dict[str, float], step: int) -> Statistics:
    return Statistics(step=step, phase=Phase.BEFORE, values={"grad_norm": norm, **scored})


norms = st.one_of(
    st.floats(1e-12, 1e12), st.floats(0.2, 5.0), st.sampled_from([0.0, math.inf, math.nan, 1.0, 1.0, 50.0, 1e5])
)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 2**31),
    st.sampled_from([0, 1, 14, 15, 16, 17, 100, 126, 128, 129, 300]),
    st.sampled_from([0.0, 0.05, 0.5, 2.0]),
    st.lists(norms, min_size=1, max_size=3),
    st.sampled_from([None, 0.1, 1.0]),
    st.sampled_from([None, 1.0, 65536.0]),
)
def test_judges_as_the_host_does(
    seed: int, held: int, sigma: float, arriving: list[float], clip: float | None, scale: float | None
) -> None:
    """Score, typical norm and spread within rounding; the same damping and skipping; the same window afterwards."""
    law = GradientSpike(clip=clip)
    past = np.exp(np.random.default_rng(seed).normal(size=held) * sigma).tolist()
    state, host = past_of(past)
    grad_scale = None if scale is None else torch.tensor(scale)
    for step, norm in enumerate(arriving):
        host, scored = score_norm(host, norm)
        _, adjustment = law.update(law.init(), statistics_of(norm, scored, step))
        judged = judge_fused(
            state, torch.tensor(norm * (scale or 1.0), dtype=torch.float64), settings_of(law), grad_scale=grad_scale
        )
        score, typical, spread, damp, skip = judged.row.tolist()
        expected = scored["grad_score"], scored["grad_typical"], scored["grad_spread"]
        np.testing.assert_allclose((score, typical, spread), expected, rtol=ROUNDING * 8, atol=ROUNDING * 8)
        assert bool(skip) == bool(judged.skip) == adjustment.skip
        assert damp == float(judged.damp)
        assert damp == pytest.approx(1.0 if adjustment.skip else adjustment.damp, rel=1e-12)
    np.testing.assert_allclose(state.read(), list(host), rtol=1e-12, atol=1e-13)


def test_follows_the_host_from_the_first_norm_through_a_new_level() -> None:
    """The first norm, the warm-up, and a thousandfold shift that is adopted after sixteen norms."""
    generator = np.random.default_rng(0)
    norms = np.exp(0.3 * generator.standard_normal(70))
    norms[40:] *= 1e3
    held, host = Past.empty("cpu"), NormPast()
    settings_ = settings_of(GradientSpike())
    counts = []
    for norm in norms.tolist():
        row = judge_fused(held, torch.tensor(norm, dtype=torch.float64), settings_).row.tolist()
        host, scored = score_norm(host, norm)
        np.testing.assert_allclose(row[:3], list(scored.values()), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(held.read(), list(host), rtol=1e-12, atol=1e-13)
        counts.append(host.known)
    assert counts[55] == NORM_LAW.warmup < counts[54]


@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.floats(-1e6, 1e6), max_size=40),
    st.sampled_from([-3.0, 0.0, 2.5, 1e9, math.inf, -math.inf, math.nan]),
    st.sampled_from([1e-3, 0.1]),
)
def test_a_loss_is_scored_as_written(past: list[float], value: float, relative_floor: float) -> None:
    """Against numpy's quantiles of what the ring of 20 still holds; one that is not finite does not enter."""
    size, warmup = 20, 5
    state = SimpleNamespace(values=torch.full((size,), math.inf, dtype=torch.float64), entered=torch.tensor(len(past)))
    for number, known in enumerate(past):
        state.values[number % size] = known
    held = past[-size:]
    score, typical, spread = score_fused(
        state, torch.tensor(value, dtype=torch.float64), warmup=warmup, relative_floor=relative_floor
    ).tolist()
    finite = math.isfinite(value)
    if len(held) >= warmup:
        lower, median, upper = np.quantile(held, [0.25, 0.5, 0.75])
        floor = max(abs(median) * relative_floor, sys.float_info.min)
        expected = max((upper - lower) / 1.3489795003921634, floor) * (1 + 8 / len(held))
        # Differences of values up to 1e6 that are themselves rounded to 1e-10.
        assert typical == pytest.approx(median, rel=1e-14, abs=1e-9)
        assert spread == pytest.approx(expected, rel=1e-12, abs=1e-9)
        if finite:
            assert score * spread == pytest.approx(value - median, rel=1e-12, abs=1e-9)
    else:
        np.testing.assert_equal((typical, spread), (value if finite else math.nan, math.nan))
        assert not finite or score == 0
    assert finite or score == math.inf
    assert int(state.entered) == len(past) + finite
    if finite:
        assert float(state.values[len(past) % size]) == value


def test_memory_may_be_given() -> None:
    state, _ = past_of([])
    out = Judgement.empty("cpu")
    law = settings_of(GradientSpike())
    assert judge_fused(state, torch.tensor(math.nan, dtype=torch.float64), law, out=out) is out
    assert float(out.skip) == 1
    assert float(out.damp) == 1
    assert state.read() == [0.0] * 5


def test_other_dtypes_are_refused() -> None:
    state, _ = past_of([])
    with pytest.raises(TypeError, match=r"norm must be torch\.float64; got torch\.float32"):
        judge_fused(state, torch.tensor(1.0), settings_of(GradientSpike()))
    with pytest.raises(ValueError, match="norm must be on the device of the state, cpu; got meta"):
        judge_fused(state, torch.ones((), dtype=torch.float64, device="meta"), settings_of(GradientSpike()))
