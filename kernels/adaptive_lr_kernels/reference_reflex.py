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

if TYPE_CHECKING:
    from adaptive_lr_kernels.reflex import ReflexSettings, Window

NORMAL_IQR = 1.3489795003921634
"""Interquartile range of the standard normal distribution."""

CLIP_EPSILON = 1e-6
"""As in `torch.nn.utils.clip_grad_norm_`."""

LEAST_DAMP = LEAST_SPREAD = sys.float_info.min
"""Damping and spread stay above zero, whatever the values."""


def judge_reference(
    state: Window, norm: Tensor, settings: ReflexSettings, grad_scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Row and skip flag of `adaptive_lr_kernels.reflex.judge`."""
    with torch.no_grad():
        if grad_scale is not None:
            norm = norm / grad_scale.double()
        finite = norm.isfinite()
        positive = finite & (norm > 0.0)
        value = torch.where(positive, norm, 1.0).log()
        median, deviation, held = _location(state)
        judged = held >= settings.warmup
        floor = settings.spread_floor
        spread = torch.where(judged, deviation.clamp(min=floor) * (1.0 + 8.0 / held), floor)
        typical = torch.where(judged, median.exp(), torch.where(finite, norm, math.nan))
        known = torch.where(judged & positive, (value - median) / spread, 0.0)
        found = torch.where(finite, known, math.inf)
        skip = ~finite | (found > settings.skip_above)
        excess = found - settings.damp_above
        damp = torch.where(excess > 0.0, (-excess * spread).exp().clamp(min=LEAST_DAMP), 1.0)
        if settings.clip is not None:
            # Not clip / norm: torch takes a number over a tensor for a reciprocal and a product.
            clipped = torch.full_like(norm, settings.clip) / (norm + CLIP_EPSILON)
            damp = torch.minimum(damp, clipped.clamp(min=LEAST_DAMP))
        damp = torch.where(skip, 1.0, damp)
        flag = skip.float()
        row = torch.stack((found, typical, spread, damp, skip.double()))
        _take_in(state, value, positive)
        return row, flag


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
