"""The reflex in plain torch: the reference, on any device.

Whatever depends on a value is chosen by `torch.where`, so the same code runs on a CPU, on an accelerator without a
synchronisation, and inside a captured graph (the state is updated in place).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adaptive_lr_kernels.norm_law import LARGEST_LOG, NormLaw, squares_within

if TYPE_CHECKING:
    from adaptive_lr_kernels.reflex import Past, ReflexSettings, Window

NORMAL_IQR = 1.3489795003921634
"""Interquartile range of the standard normal distribution."""

CLIP_EPSILON = 1e-6
"""As in `torch.nn.utils.clip_grad_norm_`."""

LEAST_DAMP = LEAST_SPREAD = sys.float_info.min
"""Damping and spread stay above zero, whatever the values."""


def judge_reference(
    state: Past, norm: Tensor, settings: ReflexSettings, grad_scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Row and skip flag of `adaptive_lr_kernels.reflex.judge`."""
    law = settings.norms
    with torch.no_grad():
        if grad_scale is not None:
            norm = norm / grad_scale.double()
        finite = norm.isfinite()
        positive = finite & (norm > 0.0)
        value = torch.where(positive, norm, 1.0).log()
        count, expected, _, variance, _ = state.values.unbind()
        judged = count >= law.warmup
        deviation = variance.sqrt().clamp(min=law.spread_floor)
        spread = torch.where(judged, deviation * (1.0 + 2.0 / count), law.spread_floor)
        typical = torch.where(judged, expected.clamp(max=LARGEST_LOG).exp(), torch.where(finite, norm, math.nan))
        known = torch.where(judged & positive, (value - expected) / spread, 0.0)
        found = torch.where(finite, known, math.inf)
        skip = ~finite | (found > settings.skip_above)
        damp = torch.where(found > settings.damp_above, (-found * spread).exp().clamp(min=LEAST_DAMP), 1.0)
        if settings.clip is not None:
            # Not clip / norm: torch takes a number over a tensor for a reciprocal and a product.
            clipped = torch.full_like(norm, settings.clip) / (norm + CLIP_EPSILON)
            damp = torch.minimum(damp, clipped.clamp(min=LEAST_DAMP))
        damp = torch.where(skip, 1.0, damp)
        flag = skip.float()
        row = torch.stack((found, typical, spread, damp, skip.double()))
        following = _followed(state.values, value, deviation, law)
        state.values.copy_(torch.where(positive, following, state.values))
        return row, flag


def _followed(values: Tensor, value: Tensor, deviation: Tensor, law: NormLaw) -> Tensor:
    """The past with one log-norm more."""
    count, expected, slope, variance, streak = values.unbind()
    first = count == 0.0
    count = count + 1.0
    bound = law.bound * deviation
    error = torch.minimum(torch.maximum(value - expected, -bound), bound)
    side = (error >= bound).double() - (error <= -bound).double()
    streak = torch.where(streak * side > 0.0, streak + side, side)
    memory = (count / law.level_share).clamp(min=law.least_memory, max=law.level_memory)
    step = error / torch.minimum(count, memory)
    slope = slope + law.trend * step
    memory = (count / law.scale_share).clamp(min=1.0, max=law.scale_memory)
    variance = variance + (error * error / squares_within(law.bound) - variance) / memory
    new = streak.abs() >= law.adopt_after
    count, streak = torch.where(new, float(law.warmup), count), torch.where(new, 0.0, streak)
    later = torch.stack((count, expected + step + slope, slope, variance, streak))
    start = torch.stack((values[0] + 1.0, value, *values[2:].unbind()))
    return torch.where(first, start, later)


def score_reference(state: Window, value: Tensor, *, warmup: int, relative_floor: float) -> Tensor:
    """`adaptive_lr_kernels.reflex.score_value`."""
    with torch.no_grad():
        finite = value.isfinite()
        entering = torch.where(finite, value, 0.0)
        median, deviation, held = _location(state)
        judged = held >= warmup
        floor = (median.abs() * relative_floor).clamp(min=LEAST_SPREAD)
        spread = torch.where(judged, torch.maximum(deviation, floor) * (1.0 + 8.0 / held), math.nan)
        known = torch.where(judged, (entering - median) / spread, 0.0)
        found = torch.where(finite, known, math.inf)
        typical = torch.where(judged, median, torch.where(finite, value, math.nan))
        _take_in(state, entering, finite)
        return torch.stack((found, typical, spread))


def scale_reference(gradients: Iterable[Tensor], damp: Tensor, skip: Tensor) -> None:
    """`adaptive_lr_kernels.reflex.scale_gradients`.

    Every gradient is written, since nothing tells the host whether there is anything to do; where damp is 1 and skip 0,
    to the bits it had.
    """
    with torch.no_grad():
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for gradient in gradients:
            by_dtype.setdefault(gradient.dtype, []).append(gradient)
        taken = skip != 0
        for dtype, same in by_dtype.items():
            if dtype in (torch.float32, torch.float64):
                torch._foreach_mul_(same, damp.to(dtype))
            else:
                # A half-precision scalar would have three digits: the product is taken in float32, one tensor a time.
                precise = damp.to(torch.float64 if dtype is torch.complex128 else torch.float32)
                for gradient in same:
                    wide = gradient if gradient.is_complex() else gradient.float()
                    gradient.copy_(wide * precise)
            for gradient in same:
                gradient.masked_fill_(taken, 0.0)


def _location(state: Window) -> tuple[Tensor, Tensor, Tensor]:
    """Median, deviation by the quartiles, and number of the values held; the first two undefined without values."""
    held = state.entered.clamp(max=state.values.numel())
    last = (held - 1).clamp(min=0)
    ordered = state.values.sort().values
    positions = state.shares * last
    low = positions.long()
    below, above = ordered.gather(0, low), ordered.gather(0, torch.minimum(low + 1, last))
    lower, median, upper = (below + (positions - low) * (above - below)).unbind()
    return median, (upper - lower) / NORMAL_IQR, held.double()


def _take_in(state: Window, value: Tensor, wanted: Tensor) -> None:
    """Let a value (float64, 0-d) enter in place where `wanted` (bool, 0-d) holds, over the oldest one."""
    slot = (state.entered % state.values.numel()).view(1)
    state.values.scatter_(0, slot, torch.where(wanted, value, state.values.gather(0, slot)))
    state.entered.add_(wanted)
