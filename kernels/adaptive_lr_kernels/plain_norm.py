"""The norm of ordinary gradients on a CPU, at the cost of one foreach operation.

It is all that `guarded()` reads in most steps, and in a small model the way through `measure` takes longer than the
norms do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from adaptive_lr_kernels.reference import PIECE, cut, is_dense


def plain_norm(gradients: Iterable[Tensor | None]) -> float | None:
    """The `grad_norm` that `measure` finds over all gradients.

    Args:
        gradients: one tensor per parameter, or None.

    Returns:
        The norm, within rounding in float64 of what `measure` merges from the same norms; infinite or NaN where that
        one is. None where a gradient is not a float32 tensor on the CPU without gaps, overlaps or a graph:
        `measure` says whether and how it can be read.
    """
    pieces: list[Tensor] = []
    for gradient in gradients:
        if gradient is None:
            continue
        if not (
            type(gradient) is Tensor
            and gradient.dtype is torch.float32
            and gradient.is_cpu
            and gradient.layout is torch.strided
            and not gradient.requires_grad
            and not gradient.is_nested
            and is_dense(gradient)
        ):
            return None
        count = gradient.numel()
        if count > PIECE:
            pieces += cut(gradient, PIECE)
        elif count:
            pieces.append(gradient)
    norms = [norm.item() for norm in torch._foreach_norm(pieces)] if pieces else []
    norm = math.hypot(*norms)
    return norm if norm < math.inf else sum(norms)  # hypot of an infinity and a NaN is infinite, as that sum is not
