"""Schedules in phases: a warm-up before any other, warm-up-stable-decay, and two common compositions."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np

from adaptive_lr.schedules import checks
from adaptive_lr.schedules.base import FloatArray, Schedule
from adaptive_lr.schedules.decays import Cosine
from adaptive_lr.schedules.shapes import SHAPES, interpolate, progress_through


def _check_exponential(shape: str, name: str, value: float) -> None:
    if shape == "exponential" and value == 0.0:
        raise ValueError(f"{name} must be > 0 where the shape is 'exponential', got {value!r}")


@dataclass(frozen=True, repr=False)
class Warmup(Schedule):
    """A rise to the peak, which it then holds; `warmup(100).then(cosine(900))` puts another schedule after it.

    The factor is `start_factor` at step 0 and 1 at step `steps`, the step 0 of what follows. From 0, the first
    update changes nothing, as with transformers and Keras. Goyal et al. (2017, arXiv:1706.02677) warm up so.

    Args:
        steps: steps before the peak, >= 0; 0 is no warm-up.
        start_factor: within [0, 1].
        shape: one of `SHAPES`; `exponential` needs a `start_factor` > 0.
    """

    steps: int
    _: KW_ONLY
    start_factor: float = 0.0
    shape: str = "linear"

    def __post_init__(self) -> None:
        checks.integer("steps", self.steps, at_least=0)
        checks.number("start_factor", self.start_factor, high=1.0)
        checks.choice("shape", self.shape, SHAPES)
        _check_exponential(self.shape, "start_factor", self.start_factor)

    @property
    def length(self) -> int | None:
        """`steps`."""
        return self.steps

    def _factors(self, steps: FloatArray) -> FloatArray:
        if self.steps == 0:
            return np.ones_like(steps)
        return interpolate(self.shape, progress_through(steps, 0, self.steps), self.start_factor, 1.0)


@dataclass(frozen=True, repr=False)
class WarmupStableDecay(Schedule):
    """Warm-up, the peak, and a decay at the end (WSD; Hu et al. 2024, MiniCPM, arXiv:2404.06395).

    The peak is held from step `warmup_steps` to step `total_steps - decay_steps`; `end_factor` is reached at
    `total_steps`. Hägele et al. (2024, arXiv:2405.18392) find a 1 - √p decay over a fifth of the steps as good as
    a tuned cosine.

    Args:
        total_steps: >= 1.
        warmup_steps: >= 0.
        decay_steps: >= 0; None: a fifth of `total_steps`, rounded down. With the warm-up at most `total_steps`.
        decay_shape: one of `SHAPES`; `exponential` (MiniCPM's) needs an `end_factor` > 0.
        start_factor: where the linear warm-up starts, within [0, 1].
        end_factor: where the decay ends, within [0, 1].
    """

    total_steps: int
    _: KW_ONLY
    warmup_steps: int = 0
    decay_steps: int | None = None
    decay_shape: str = "1-sqrt"
    start_factor: float = 0.0
    end_factor: float = 0.0

    def __post_init__(self) -> None:
        checks.integer("total_steps", self.total_steps, at_least=1)
        checks.integer("warmup_steps", self.warmup_steps, at_least=0)
        if self.decay_steps is None:
            object.__setattr__(self, "decay_steps", self.total_steps // 5)
        checks.integer("decay_steps", self.decay_steps, at_least=0)
        checks.choice("decay_shape", self.decay_shape, SHAPES)
        checks.number("start_factor", self.start_factor, high=1.0)
        checks.number("end_factor", self.end_factor, high=1.0)
        _check_exponential(self.decay_shape, "end_factor", self.end_factor)
        if self.warmup_steps + self._decay_steps > self.total_steps:
            raise ValueError(
                f"warmup_steps + decay_steps must be at most total_steps = {self.total_steps}, "
                f"got {self.warmup_steps} + {self.decay_steps}"
            )

    @property
    def _decay_steps(self) -> int:
        assert self.decay_steps is not None  # set at construction
        return self.decay_steps

    @property
    def length(self) -> int | None:
        """`total_steps`."""
        return self.total_steps

    def _factors(self, steps: FloatArray) -> FloatArray:
        factors = Warmup(self.warmup_steps, start_factor=self.start_factor)._factors(steps)
        decay_start = self.total_steps - self._decay_steps
        if self._decay_steps == 0:
            return factors
        progress = progress_through(steps, decay_start, self.total_steps)
        return np.where(steps > decay_start, interpolate(self.decay_shape, progress, 1.0, self.end_factor), factors)


def constant_with_decay(
    total_steps: int, *, decay_fraction: float = 0.1, shape: str = "linear", end_factor: float = 0.0
) -> WarmupStableDecay:
    """Constant, with a decay in the last tenth, the share that MiniCPM found enough (Hu et al. 2024).

    Args:
        total_steps: >= 1.
        decay_fraction: share of the steps that decay, within (0, 1]; rounded up to whole steps.
        shape: one of `SHAPES`.
        end_factor: where the decay ends, within [0, 1].
    """
    checks.integer("total_steps", total_steps, at_least=1)
    checks.number("decay_fraction", decay_fraction, high=1.0, above_low=True)
    decay_steps = math.ceil(decay_fraction * total_steps)
    return WarmupStableDecay(total_steps, decay_steps=decay_steps, decay_shape=shape, end_factor=end_factor)


def cosine_decay(decay_steps: int, *, alpha: float = 0.0, warmup_steps: int = 0, warmup_start: float = 0.0) -> Schedule:
    """Keras's CosineDecay: a linear warm-up to the target, then a cosine from it to `alpha` times it.

    With Keras's `warmup_target` as the peak, factor × peak is Keras's learning rate. `decay_steps` counts from the
    end of the warm-up.

    Args:
        decay_steps: steps of the cosine, >= 1.
        alpha: the floor as a share of the peak, within [0, 1].
        warmup_steps: >= 0; 0 is no warm-up.
        warmup_start: Keras's initial_learning_rate / warmup_target, within [0, 1].
    """
    return Warmup(warmup_steps, start_factor=warmup_start).then(Cosine(decay_steps, eta_min=alpha))
