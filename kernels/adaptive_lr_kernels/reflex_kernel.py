"""The program that scores a norm or a loss against its past and says what is to be done: the device's half.

The law is stated in `adaptive_lr_kernels.reflex`. Nothing is sorted: a value's rank is the number of
values below it, equal ones counted in the order of their slots, and a quantile is read off at its two ranks.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# ruff: noqa: N803 - compile-time constants are written in capitals, as everywhere in Triton
from __future__ import annotations

import sys

import triton
import triton.language as tl

NORMAL_IQR = tl.constexpr(1.3489795003921634)
CLIP_EPSILON = tl.constexpr(1e-6)
LEAST = tl.constexpr(sys.float_info.min)
"""Damping and spread stay above zero, whatever the values."""

BLOCK = 16
WARPS = 4


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
    values,  # float64 [WINDOW]
    entered,  # int64
    norm,  # float64
    grad_scale,  # float32, or None
    row,  # float64 [5]
    skip_flag,  # float32
    WINDOW: tl.constexpr,
    WARMUP: tl.constexpr,
    SPREAD_FLOOR: tl.constexpr,
    DAMP_ABOVE: tl.constexpr,
    SKIP_ABOVE: tl.constexpr,
    CLIP: tl.constexpr,  # or None
    WIDTH: tl.constexpr,  # a power of two, at least WINDOW
    BLOCK: tl.constexpr,
):
    """Judge one norm, and take it in."""
    # Written as they are, constants of `where`, `maximum` and the like would be rounded to float32.
    spread_floor = tl.full((), SPREAD_FLOOR, tl.float64)
    least_damp = tl.full((), LEAST, tl.float64)
    number, held, median, deviation = _location(values, entered, WINDOW, WIDTH, BLOCK)
    level = tl.load(norm)
    if grad_scale is not None:
        level = level / tl.load(grad_scale).to(tl.float64)
    finite = tl.abs(level) < float("inf")
    positive = finite & (level > 0.0)
    value = tl.log(tl.where(positive, level, 1.0))
    judged = held >= WARMUP
    widening = 1.0 + 8.0 / tl.maximum(held, 1).to(tl.float64)
    spread = tl.where(judged, tl.maximum(deviation, spread_floor) * widening, spread_floor)
    typical = tl.where(judged, tl.exp(median), tl.where(finite, level, float("nan")))
    score = tl.where(judged & positive, (value - median) / spread, 0.0)
    score = tl.where(finite, score, float("inf"))
    skip = (score > tl.full((), SKIP_ABOVE, tl.float64)) | (finite == 0)
    excess = tl.where(finite, score - tl.full((), DAMP_ABOVE, tl.float64), 0.0)
    damp = tl.where(excess > 0.0, tl.maximum(tl.exp(-excess * spread), least_damp), 1.0)
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
    _take_in(values, entered, number, value, positive, WINDOW)


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
