"""The program that scores a norm or a loss against its past and says what is to be done: the device's half.

The laws are stated in `adaptive_lr_kernels.reflex`. Of losses nothing is sorted: a value's rank is the number of values
below it, equal ones counted in the order of their slots, and a quantile is read off at its two ranks.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton
from __future__ import annotations

import sys

import triton
import triton.language as tl

from adaptive_lr_kernels import norm_law

NORMAL_IQR = tl.constexpr(1.3489795003921634)
CLIP_EPSILON = tl.constexpr(1e-6)
LEAST = tl.constexpr(sys.float_info.min)
"""Damping and spread stay above zero, whatever the values."""

BLOCK = 16
WARPS = 4

JUDGE_WARPS = 1
"""A norm is judged by numbers alone; every thread computes the same."""

LARGEST_LOG = tl.constexpr(norm_law.LARGEST_LOG)


@triton.jit
def _at_share(x, ranks, mask, last, SHARE: tl.constexpr):
    """Quantile by linear interpolation between the two values whose ranks are nearest."""
    position = last.to(tl.float64) * SHARE  # exact in float32
    low = position.to(tl.int64)
    high = tl.minimum(low + 1, last)
    below = tl.sum(tl.where(mask & (ranks == low), x, 0.0), 0)
    above = tl.sum(tl.where(mask & (ranks == high), x, 0.0), 0)
    return below + (position - low.to(tl.float64)) * (above - below)


@triton.jit
def _location(values, entered, WINDOW: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """How many values ever entered and how many are held, their median, and their deviation by the quartiles."""
    number = tl.load(entered)
    held = tl.minimum(number, WINDOW)
    slots = tl.arange(0, WIDTH)
    mask = slots < held
    x = tl.load(values + slots, mask=mask, other=0.0)
    ranks = tl.zeros((WIDTH,), tl.int32)
    at = 0
    while at < WINDOW:
        others = at + tl.arange(0, BLOCK)
        present = others < held
        y = tl.load(values + others, mask=present, other=0.0)
        before = (y[:, None] < x[None, :]) | ((y[:, None] == x[None, :]) & (others[:, None] < slots[None, :]))
        ranks += tl.sum((before & present[:, None]).to(tl.int32), 0)
        at += BLOCK
    last = tl.maximum(held - 1, 0)
    median = _at_share(x, ranks, mask, last, 0.5)
    quartiles = _at_share(x, ranks, mask, last, 0.75) - _at_share(x, ranks, mask, last, 0.25)
    return number, held, median, quartiles / tl.full((), NORMAL_IQR, tl.float64)


@triton.jit
def _take_in(values, entered, number, value, wanted, WINDOW: tl.constexpr):
    """Let a value enter where it is wanted, over the oldest one."""
    tl.debug_barrier()  # every thread has read the slot that is now overwritten
    tl.store(values + number % WINDOW, value, mask=wanted)
    tl.store(entered, number + wanted.to(tl.int64))


@triton.jit
def judge_norm(
    past,  # float64 [5]: see `adaptive_lr_kernels.reflex.Past`
    norm,  # float64
    grad_scale,  # float32, or None
    row,  # float64 [5]
    skip_flag,  # float32
    DAMP_ABOVE: tl.constexpr,
    SKIP_ABOVE: tl.constexpr,
    CLIP: tl.constexpr,  # or None
    WARMUP: tl.constexpr,
    SPREAD_FLOOR: tl.constexpr,
    BOUND: tl.constexpr,
    WITHIN: tl.constexpr,
    LEAST_MEMORY: tl.constexpr,
    LEVEL_MEMORY: tl.constexpr,
    LEVEL_SHARE: tl.constexpr,
    SCALE_MEMORY: tl.constexpr,
    SCALE_SHARE: tl.constexpr,
    TREND: tl.constexpr,
    ADOPT_AFTER: tl.constexpr,
):
    """Judge one norm, and take it in."""
    # Written as they are, constants of `where`, `maximum` and the like would be rounded to float32.
    spread_floor = tl.full((), SPREAD_FLOOR, tl.float64)
    least_damp = tl.full((), LEAST, tl.float64)
    one = tl.full((), 1.0, tl.float64)
    count = tl.load(past)
    expected = tl.load(past + 1)
    slope = tl.load(past + 2)
    variance = tl.load(past + 3)
    streak = tl.load(past + 4)
    level = tl.load(norm)
    if grad_scale is not None:
        level = level / tl.load(grad_scale).to(tl.float64)
    finite = tl.abs(level) < float("inf")
    positive = finite & (level > 0.0)
    value = tl.log(tl.where(positive, level, 1.0))
    judged = count >= WARMUP
    deviation = tl.maximum(tl.sqrt(variance), spread_floor)
    spread = tl.where(judged, deviation * (1.0 + 2.0 / tl.maximum(count, one)), spread_floor)
    known = tl.exp(tl.minimum(expected, tl.full((), LARGEST_LOG, tl.float64)))
    typical = tl.where(judged, known, tl.where(finite, level, float("nan")))
    score = tl.where(judged & positive, (value - expected) / spread, 0.0)
    score = tl.where(finite, score, float("inf"))
    skip = (score > tl.full((), SKIP_ABOVE, tl.float64)) | (finite == 0)
    damped = finite & (score > tl.full((), DAMP_ABOVE, tl.float64))
    damp = tl.where(damped, tl.maximum(tl.exp(-tl.where(damped, score, 0.0) * spread), least_damp), 1.0)
    if CLIP is not None:
        clip = tl.full((), CLIP, tl.float64)
        bound = clip / (tl.where(finite, level, 1.0) + tl.full((), CLIP_EPSILON, tl.float64))
        damp = tl.minimum(damp, tl.maximum(bound, least_damp))
    damp = tl.where(skip, 1.0, damp)
    tl.store(row, score)
    tl.store(row + 1, typical)
    tl.store(row + 2, spread)
    tl.store(row + 3, damp)
    tl.store(row + 4, skip.to(tl.float64))
    tl.store(skip_flag, skip.to(tl.float32))

    first = count == 0.0
    count += 1.0
    most = tl.full((), BOUND, tl.float64) * deviation
    error = tl.minimum(tl.maximum(value - expected, -most), most)
    side = (error >= most).to(tl.float64) - (error <= -most).to(tl.float64)
    streak = tl.where(streak * side > 0.0, streak + side, side)
    memory = tl.maximum(count / tl.full((), LEVEL_SHARE, tl.float64), tl.full((), LEAST_MEMORY, tl.float64))
    memory = tl.minimum(tl.minimum(memory, tl.full((), LEVEL_MEMORY, tl.float64)), count)
    step = error / memory
    slope_after = slope + tl.full((), TREND, tl.float64) * step
    memory = tl.maximum(count / tl.full((), SCALE_SHARE, tl.float64), one)
    memory = tl.minimum(memory, tl.full((), SCALE_MEMORY, tl.float64))
    variance_after = variance + (error * error / tl.full((), WITHIN, tl.float64) - variance) / memory
    adopted = tl.abs(streak) >= ADOPT_AFTER
    warmup = tl.full((), WARMUP, tl.float64)
    tl.store(past, tl.where(adopted & (first == 0), warmup, count), mask=positive)
    tl.store(past + 1, tl.where(first, value, expected + step + slope_after), mask=positive)
    tl.store(past + 2, tl.where(first, slope, slope_after), mask=positive)
    tl.store(past + 3, tl.where(first, variance, variance_after), mask=positive)
    tl.store(past + 4, tl.where(first | adopted, 0.0, streak), mask=positive)


@triton.jit
def score_one(
    values,  # float64 [WINDOW]
    entered,  # int64
    value,  # float64
    row,  # float64 [3]
    WINDOW: tl.constexpr,
    WARMUP: tl.constexpr,
    RELATIVE_FLOOR: tl.constexpr,
    WIDTH: tl.constexpr,  # a power of two, at least WINDOW
    BLOCK: tl.constexpr,
):
    """Score one value, and take it in."""
    number, held, median, deviation = _location(values, entered, WINDOW, WIDTH, BLOCK)
    level = tl.load(value)
    finite = tl.abs(level) < float("inf")
    judged = held >= WARMUP
    floor = tl.maximum(tl.abs(median) * tl.full((), RELATIVE_FLOOR, tl.float64), tl.full((), LEAST, tl.float64))
    spread = tl.maximum(deviation, floor) * (1.0 + 8.0 / tl.maximum(held, 1).to(tl.float64))
    score = tl.where(judged & finite, (level - median) / spread, 0.0)
    tl.store(row, tl.where(finite, score, float("inf")))
    tl.store(row + 1, tl.where(judged, median, tl.where(finite, level, float("nan"))))
    tl.store(row + 2, tl.where(judged, spread, float("nan")))
    _take_in(values, entered, number, level, finite, WINDOW)
