"""The reflex in one small program on the device: a norm or a loss scored against its past, and what is to be done."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from adaptive_lr_kernels.norm_law import squares_within
from adaptive_lr_kernels.plan import FP_FUSION
from adaptive_lr_kernels.plans import check_device, on_device
from adaptive_lr_kernels.reflex import Judgement, Past, ReflexSettings, Window
from adaptive_lr_kernels.reflex_kernel import BLOCK, JUDGE_WARPS, WARPS, judge_norm, score_one


def judge_fused(
    state: Past,
    norm: Tensor,
    settings: ReflexSettings,
    *,
    grad_scale: Tensor | None = None,
    out: Judgement | None = None,
) -> Judgement:
    """Score a gradient norm against the ones before it, say what to do, and take it in, in one launch without a wait.

    Args:
        state: the norms before; updated in place.
        norm: Euclidean norm of all gradients, float64, 0-d, on the device of the state; may be 0, inf or NaN.
        settings: the law; each set of constants is compiled once.
        grad_scale: what the gradients, and so the norm, are multiplied by (a GradScaler's scale), float32, 0-d or
            [1], on the same device; None: 1.
        out: memory to write; None for new.

    Returns:
        The judgement, on the same device.

    Raises:
        TypeError: a tensor of another dtype.
        ValueError: a tensor on another device, or a device that Triton cannot run on.
    """
    device = state.values.device
    check_device(device)
    _check("state.values", state.values, torch.float64, device)
    _check("norm", norm, torch.float64, device)
    if grad_scale is not None:
        _check("grad_scale", grad_scale, torch.float32, device)
    judgement = Judgement.empty(device) if out is None else out
    law = settings.norms
    with on_device(device):
        judge_norm[(1,)](
            state.values,
            norm,
            grad_scale,
            judgement.row,
            judgement.skip,
            DAMP_ABOVE=settings.damp_above,
            SKIP_ABOVE=settings.skip_above,
            CLIP=settings.clip,
            WARMUP=law.warmup,
            SPREAD_FLOOR=law.spread_floor,
            BOUND=law.bound,
            WITHIN=squares_within(law.bound),
            LEAST_MEMORY=law.least_memory,
            LEVEL_MEMORY=law.level_memory,
            LEVEL_SHARE=law.level_share,
            SCALE_MEMORY=law.scale_memory,
            SCALE_SHARE=law.scale_share,
            TREND=law.trend,
            ADOPT_AFTER=law.adopt_after,
            num_warps=JUDGE_WARPS,
            enable_fp_fusion=FP_FUSION,
        )
    return judgement


def score_fused(
    state: Window, value: Tensor, *, warmup: int, relative_floor: float, out: Tensor | None = None
) -> Tensor:
    """Score a value itself (a loss) against the ones before it, and take it in, in one launch without a wait.

    The law is that of `adaptive_lr_kernels.reflex.score_value`.

    Args:
        state: the values before; updated in place.
        value: float64, 0-d, on the device of the state; one that is not finite scores inf and does not enter.
        warmup: values to see before one is judged, 1 or more.
        relative_floor: least spread as a share of the median's magnitude, > 0.
        out: memory to write, float64 [3]; None for new.

    Returns:
        float64 [3]: score, typical value, spread (NaN during the warm-up).

    Raises:
        TypeError: a tensor of another dtype.
        ValueError: a tensor on another device, or a device that Triton cannot run on.
    """
    device = _checked(state)
    _check("value", value, torch.float64, device)
    row = torch.empty(3, dtype=torch.float64, device=device) if out is None else out
    window = state.values.numel()
    with on_device(device):
        score_one[(1,)](
            state.values,
            state.entered,
            value,
            row,
            WINDOW=window,
            WARMUP=warmup,
            RELATIVE_FLOOR=relative_floor,
            WIDTH=triton.next_power_of_2(window),
            BLOCK=BLOCK,
            num_warps=WARPS,
            enable_fp_fusion=FP_FUSION,
        )
    return row


def _checked(state: Window) -> torch.device:
    """The device of the state, on which Triton can run."""
    device = state.values.device
    check_device(device)
    _check("state.values", state.values, torch.float64, device)
    _check("state.entered", state.entered, torch.int64, device)
    return device


def _check(name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    if tensor.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}; got {tensor.dtype}")
    if tensor.device != device:
        raise ValueError(f"{name} must be on the device of the state, {device}; got {tensor.device}")
