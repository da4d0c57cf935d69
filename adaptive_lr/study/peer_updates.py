"""What other methods do to a gradient before an update: clip it to a norm, clip it by its z-score, leave it out.

Written from the papers, for comparison in the same harness: each is the function of the training loss that a `Recipe`
carries out as its update. All of them read the norm on the host, as their published versions do or as a user of them
must.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import Protocol

import torch
from torch.optim import Optimizer

Update = Callable[[float], object]
"""Training loss of this step -> the update is carried out, or left out."""

MAX_NORM = 1.0
"""Of fixed clipping: the value of nearly every published recipe."""

ZCLIP_WARMUP, ZCLIP_DECAY, ZCLIP_THRESHOLD = 25, 0.97, 2.5
"""Steps, decay of the running moments, and z-score of ZClip (arXiv:2504.02507, its defaults)."""

SKIP_WINDOW, SKIP_DEVIATIONS = 128, 6.0
"""Steps of history and standard deviations of OLMo-core's skip-step optimizer (its defaults); it acts once half of the
window is known."""


def clipped_at_one(optimizer: Optimizer, total_steps: int) -> Update:
    """`torch.nn.utils.clip_grad_norm_` with a norm of 1 (Pascanu et al. 2013, arXiv:1211.5063)."""

    def update(loss: float) -> None:
        torch.nn.utils.clip_grad_norm_(_parameters(optimizer), MAX_NORM)
        optimizer.step()

    return update


class ZClip:
    """The threshold of ZClip: norms beyond `ZCLIP_THRESHOLD` deviations of a running mean are pulled back.

    Kumar et al. 2025, arXiv:2504.02507, with their defaults: the mean and variance of 25 norms, then exponential
    averages into which the clipped norm enters; a norm g of z-score z > 2.5 is clipped to mean + 2.5² / z deviations
    (their "adaptive scaling"), and every norm to 1.
    """

    def __init__(self) -> None:
        self.mean = 0.0
        self.variance = 0.0
        self._first: list[float] = []

    def clipped(self, norm: float) -> float:
        """The norm that a gradient of this norm is clipped to, and the running moments moved on."""
        if len(self._first) < ZCLIP_WARMUP:
            self._first.append(norm)
            self.mean = fmean(self._first)
            self.variance = fmean((value - self.mean) ** 2 for value in self._first)
            return min(norm, MAX_NORM)
        deviation = math.sqrt(self.variance)
        score = (norm - self.mean) / (deviation + 1e-6)
        target = self.mean + ZCLIP_THRESHOLD * deviation * ZCLIP_THRESHOLD / score if score > ZCLIP_THRESHOLD else norm
        self.mean = ZCLIP_DECAY * self.mean + (1.0 - ZCLIP_DECAY) * target
        self.variance = ZCLIP_DECAY * self.variance + (1.0 - ZCLIP_DECAY) * (target - self.mean) ** 2
        return min(target, MAX_NORM)


def z_clipped(optimizer: Optimizer, total_steps: int) -> Update:
    """Gradients clipped by `ZClip`."""
    threshold = ZClip()

    def update(loss: float) -> None:
        norm = total_norm(optimizer)
        target = threshold.clipped(norm)
        if target < norm:
            scale_gradients(optimizer, target / norm)
        optimizer.step()

    return update


class SkipStep:
    """The rule of OLMo-core's skip-step optimizer: leave out what is 6 deviations above the recent past.

    Loss and gradient norm are each judged against the mean and standard deviation of the last 128 steps, this one
    included, once 64 are known (OLMo-core's `SkipStepOptimizer`; the values that are flagged stay in the window).
    """

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=SKIP_WINDOW)
        self._norms: deque[float] = deque(maxlen=SKIP_WINDOW)

    def skips(self, loss: float, norm: float) -> bool:
        """Whether the update of this step is left out."""
        self._losses.append(loss)
        self._norms.append(norm)
        if len(self._losses) < max(2, SKIP_WINDOW // 2):
            return False
        # Written as "not within", as there: a NaN in the window makes every comparison false, and skips all it lasts.
        return not (_within(loss, self._losses) and _within(norm, self._norms))


def skipped(optimizer: Optimizer, total_steps: int) -> Update:
    """Updates left out by `SkipStep`."""
    rule = SkipStep()

    def update(loss: float) -> None:
        if not rule.skips(loss, total_norm(optimizer)):
            optimizer.step()

    return update


class _WantsLoss(Protocol):
    def step(self, *, loss: torch.Tensor) -> object: ...


def given_the_loss(optimizer: _WantsLoss, total_steps: int) -> Update:
    """An optimizer whose step wants the loss (MoMo)."""

    def update(loss: float) -> None:
        optimizer.step(loss=torch.tensor(loss))

    return update


def total_norm(optimizer: Optimizer) -> float:
    """The Euclidean norm of all gradients."""
    gradients = [parameter.grad for parameter in _parameters(optimizer) if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def scale_gradients(optimizer: Optimizer, factor: float) -> None:
    """Multiply all gradients, in place."""
    for parameter in _parameters(optimizer):
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def _parameters(optimizer: Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _within(value: float, window: Sequence[float] | deque[float]) -> bool:
    if not all(map(math.isfinite, window)):
        return False
    return value - fmean(window) <= SKIP_DEVIATIONS * stdev(window)
