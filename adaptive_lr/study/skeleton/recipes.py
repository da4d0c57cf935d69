"""Recipes of your own: a base schedule, and what else there is to a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from adaptive_lr.study import RECIPES, Setting


def clipped(optimizer: Optimizer, total_steps: int, max_norm: float = 1.0) -> Callable[[float], None]:
    """How an update is carried out once the gradients are there; the loss of the batch is given."""

    def update(loss: float) -> None:
        clip_grad_norm_([parameter for group in optimizer.param_groups for parameter in group["params"]], max_norm)
        optimizer.step()

    return update


CLIPPED = replace(
    RECIPES["cosine"],
    name="cosine, clipped",
    description="cosine with 5% warm-up; gradients clipped at a norm of 1 unless that is searched",
    update=clipped,
    settings={**RECIPES["cosine"].settings, "max_norm": Setting(1.0, 0.1, 10.0, log=True)},
)
