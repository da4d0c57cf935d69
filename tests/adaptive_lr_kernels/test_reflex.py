"""The reflex on the device is the law that the host states."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.controllers import GradientSpike
from adaptive_lr.scores import (
    LOSS_SPREAD_FLOOR,
    LOSS_WINDOW,
    NORM_LAW,
    NORM_WARMUP,
    LossPast,
    NormPast,
    score_loss,
    score_norm,
)
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr_kernels.reflex import COLUMNS, Past, ReflexSettings, Window, judge, scale_gradients, score_value

ANY = st.floats(0.0, 1e300)
ORDINARY = st.floats(1e-3, 1e3)
SPIKES = st.sampled_from([0.0, math.inf, math.nan, 1e-300, 5e-324, 1e30, 1e300, 1e4, 1e5])


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def settings_of(law: GradientSpike) -> ReflexSettings:
    found = law.reflex
    assert found is not None
    return found


def agree(found: list[float], expected: list[float], what: Any) -> None:
    """To the last bit of a logarithm and an exponential, of which libraries differ."""
    for a, b in zip(found, expected, strict=True):
        assert (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12), what


def follow(norms: list[float], law: GradientSpike) -> tuple[int, int]:
    """Judge a sequence in both ways; how many norms were damped and skipped."""
    held, past, state = Past.empty("cpu"), NormPast(), law.init()
    damped = skipped = 0
    for step, norm in enumerate(norms):
        judgement = judge(held, scalar(norm), settings_of(law))
        past, scored = score_norm(past, norm)
        state, adjustment = law.update(state, Statistics(step, Phase.BEFORE, {"grad_norm": norm, **scored}))
        expected = [*scored.values(), adjustment.damp, float(adjustment.skip)]
        agree(judgement.row.tolist(), expected, (step, norm))
        assert judgement.damp.item() == judgement.row[3].item()
        assert judgement.skip.dtype is torch.float32
        assert judgement.skip.item() == float(adjustment.skip)
        damped, skipped = damped + (adjustment.damp != 1.0), skipped + adjustment.skip
    agree(held.read(), list(past), "past")
    return damped, skipped


def test_the_columns_are_named() -> None:
    row = judge(Past.empty("cpu"), scalar(2.0), ReflexSettings(4.0, 6.0, None, NORM_LAW)).row
    assert dict(zip(COLUMNS, row.tolist(), strict=True)) == {
        "score": 0.0, "typical": 2.0, "spread": 0.35, "damp": 1.0, "skip": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("clip", [None, 2.0])
def test_it_is_the_law_on_thousands_of_noisy_spiky_and_broken_norms(clip: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logs = 0.5 * torch.randn(1500, generator=generator, dtype=torch.float64)
    logs[700:] += 3.0  # a lasting shift
    chance = torch.rand(1500, generator=generator)
    norms = [
        math.exp(x + (4.0 if c < 0.05 else 0.0)) if c < 0.97 else [0.0, math.inf, math.nan][int(1e4 * float(c)) % 3]
        for x, c in zip(logs.tolist(), chance.tolist(), strict=True)
    ]
    damped, skipped = follow(norms, GradientSpike(clip=clip))
    assert damped > 10
    assert skipped > 30


def test_what_is_not_finite_is_skipped_whatever_the_threshold() -> None:
    """Its score is no larger than an infinite threshold."""
    law = GradientSpike(damp_above=math.inf, skip_above=math.inf)
    assert follow([1.0, math.inf, 2.0, math.nan, 1e9] + [1.0] * 20 + [1e30, math.inf], law) == (0, 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(ORDINARY, ORDINARY, SPIKES, ANY), max_size=60), st.sampled_from([None, 1e-6, 1.0]))
def test_it_is_the_law_on_any_norms(norms: list[float], clip: float | None) -> None:
    follow(norms, GradientSpike(damp_above=1.0, clip=clip))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 2.5, math.inf, math.nan, -math.inf, 1e9])), max_size=160
    )
)
def test_the_score_of_a_loss_is_the_one_of_the_host(losses: list[float]) -> None:
    window, past = Window.empty(LOSS_WINDOW, "cpu"), LossPast()
    for loss in losses:
        found = score_value(window, scalar(loss), warmup=NORM_WARMUP, relative_floor=LOSS_SPREAD_FLOOR)
        past, expected = score_loss(past, loss)
        agree(found.tolist(), list(expected.values()), loss)
    agree(window.read(), list(past.window), "window")


def test_a_norm_of_scaled_gradients_is_judged_unscaled() -> None:
    settings_ = settings_of(GradientSpike(clip=1.0))
    plain, scaled = Past.empty("cpu"), Past.empty("cpu")
    for step in range(40):
        norm = 1.0 + 0.1 * (step % 7) + (100.0 if step == 35 else 0.0)
        first = judge(plain, scalar(norm), settings_)
        second = judge(scaled, scalar(norm * 1024.0), settings_, grad_scale=torch.tensor(1024.0))
        assert torch.equal(first.row, second.row)
    assert plain.read() == scaled.read()


@given(st.lists(st.floats(-50, 50), max_size=10), st.integers(1, 5))
def test_a_window_keeps_the_last_values_in_order_and_takes_them_back(values: list[float], size: int) -> None:
    window = Window.empty(size, "cpu")
    for value in values:
        score_value(window, scalar(value), warmup=1, relative_floor=1e-3)
    assert window.read() == values[-size:]
    other = Window.empty(size, "cpu")
    other.fill(window.read())
    assert other.read() == values[-size:]
    for state in (window, other):
        score_value(state, scalar(7.0), warmup=1, relative_floor=1e-3)
    assert window.read() == other.read() == [*values, 7.0][-size:]


def test_a_window_does_not_take_more_values_than_it_has_slots() -> None:
    with pytest.raises(ValueError, match="at most 2, one per slot of the window, got 3"):
        Window.empty(2, "cpu").fill([1.0, 2.0, 3.0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64])
def test_gradients_are_scaled_in_place_or_zeroed_and_else_left_to_the_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in [(3, 5), (7,), ()]]
    gradients[0][1, 2] = math.nan
    before = [gradient.clone() for gradient in gradients]
    addresses = [gradient.data_ptr() for gradient in gradients]
    zero, one = torch.zeros(()), torch.ones(())

    scale_gradients(gradients, scalar(1.0), zero)
    for gradient, kept in zip(gradients, before, strict=True):
        torch.testing.assert_close(gradient, kept, rtol=0.0, atol=0.0, equal_nan=True)
    scale_gradients(gradients, scalar(1.0 / 3.0), zero)
    for gradient, kept in zip(gradients, before, strict=True):
        wide = torch.complex128 if dtype.is_complex else torch.float64
        expected = (kept.to(wide) / 3.0).to(dtype)
        torch.testing.assert_close(gradient, expected, equal_nan=True, rtol=2.0 * torch.finfo(dtype).eps, atol=0.0)
    scale_gradients(gradients, scalar(1.0), one)
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)
    assert [gradient.data_ptr() for gradient in gradients] == addresses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"damp_above": 0.0}, "0 < damp_above <= skip_above"),
        ({"skip_above": 3.0}, "0 < damp_above <= skip_above"),
        ({"clip": -1.0}, "clip must be finite and > 0, or None, got -1.0"),
        ({"norms": NORM_LAW._replace(warmup=0)}, "warmup must be at least 1 and finite, got 0"),
        ({"norms": NORM_LAW._replace(spread_floor=0.0)}, "spread_floor must be finite and > 0, got 0.0"),
    ],
)
def test_bad_settings_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"damp_above": 4.0, "skip_above": 6.0, "clip": None, "norms": NORM_LAW}
    with pytest.raises(ValueError, match=message):
        ReflexSettings(**{**good, **change})
