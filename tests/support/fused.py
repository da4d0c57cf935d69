"""torch's fused optimizers as they stand before a step, and what a reflex says of it."""

from __future__ import annotations

from typing import Any

import torch

from adaptive_lr_kernels.reflex import Judgement

FUSED = [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad]


def judgement(damp: float = 1.0, skip: float = 0.0) -> Judgement:
    """What a reflex that damps and skips by so much leaves on the device."""
    row = torch.tensor([0.0, 0.0, 0.0, damp, skip], dtype=torch.float64)
    return Judgement(row, row[3], torch.tensor(skip))


def made(cls: Any, **options: Any) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    """A parameter with a gradient, and an optimizer of that class for it: the same ones in every call."""
    generator = torch.Generator().manual_seed(0)
    parameter = torch.randn(5, 7, generator=generator).requires_grad_()
    parameter.grad = torch.randn(5, 7, generator=generator)
    return parameter, cls([parameter], lr=0.1, **options)
