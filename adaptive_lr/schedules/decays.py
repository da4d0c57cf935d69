"""Schedules that start at the peak and go down: constant, step, exponential, polynomial, linear, cosine, 1/√t.

Where torch has the schedule, names and values are torch's, with learning rates (`eta_min`) as shares of the peak.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from adaptive_lr.schedules import checks
from adaptive_lr.schedules.base import FloatArray, Schedule
from adaptive_lr.schedules.shapes import interpolate, progress_through


@dataclass(frozen=True, repr=False)
class Constant(Schedule):
    """`factor` for `total_iters` steps, then 1, as torch's ConstantLR; by default 1 for ever.

    Args:
        factor: >= 0.
        total_iters: steps; None: for ever.
    """

    factor: float = 1.0
    total_iters: int | None = None

    def __post_init__(self) -> None:
        checks.number("factor", self.factor)
        if self.total_iters is not None:
            checks.integer("total_iters", self.total_iters, at_least=0)

    @property
    def length(self) -> int | None:
        """`total_iters`."""
        return self.total_iters

    def _factors(self, steps: FloatArray) -> FloatArray:
        if self.total_iters is None:
            return np.full_like(steps, self.factor)
        return np.where(steps < self.total_iters, self.factor, 1.0)


@dataclass(frozen=True, repr=False)
class Step(Schedule):
    """Times `gamma` every `step_size` steps, for ever: torch's StepLR.

    Args:
        step_size: steps, >= 1.
        gamma: within [0, 1].
    """

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        checks.integer("step_size", self.step_size, at_least=1)
        checks.number("gamma", self.gamma, high=1.0)

    def _factors(self, steps: FloatArray) -> FloatArray:
        return np.power(self.gamma, np.floor_divide(steps, self.step_size))


@dataclass(frozen=True, repr=False)
class MultiStep(Schedule):
    """Times `gamma` at each milestone: torch's MultiStepLR.

    Args:
        milestones: steps >= 0, in any order; one that is named twice counts twice. Kept as a sorted tuple.
        gamma: within [0, 1].
    """

    milestones: tuple[int, ...]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        try:
            milestones = tuple(self.milestones)
        except TypeError:
            raise TypeError(f"milestones must be a sequence of integers, got {self.milestones!r}") from None
        for milestone in milestones:
            checks.integer("each of milestones", milestone, at_least=0)
        object.__setattr__(self, "milestones", tuple(sorted(milestones)))
        checks.number("gamma", self.gamma, high=1.0)

    @property
    def length(self) -> int | None:
        """The last milestone."""
        return self.milestones[-1] if self.milestones else 0

    def _factors(self, steps: FloatArray) -> FloatArray:
        passed = np.searchsorted(np.array(self.milestones, dtype=np.float64), steps, side="right")
        return np.power(self.gamma, passed.astype(np.float64))


@dataclass(frozen=True, repr=False)
class Exponential(Schedule):
    """gamma ** (step / decay_steps), for ever: torch's ExponentialLR, and Keras's ExponentialDecay.

    Args:
        gamma: the decay rate, within [0, 1].
        decay_steps: the steps in which the factor falls by `gamma`, >= 1 (1 in torch).
        staircase: fall at once at each multiple of `decay_steps` (the exponent is rounded down), as in Keras.
    """

    gamma: float
    _: KW_ONLY
    decay_steps: int = 1
    staircase: bool = False

    def __post_init__(self) -> None:
        checks.number("gamma", self.gamma, high=1.0)
        checks.integer("decay_steps", self.decay_steps, at_least=1)
        checks.flag("staircase", self.staircase)

    def _factors(self, steps: FloatArray) -> FloatArray:
        exponent = steps / self.decay_steps
        return np.power(self.gamma, np.floor(exponent) if self.staircase else exponent)


@dataclass(frozen=True, repr=False)
class Polynomial(Schedule):
    """end_factor + (1 - end_factor) (1 - step / total_iters) ** power: torch's PolynomialLR, where the end is 0.

    Args:
        total_iters: steps to the end, >= 1.
        power: > 0.
        end_factor: where it ends, within [0, 1].
    """

    total_iters: int
    power: float = 1.0
    _: KW_ONLY
    end_factor: float = 0.0

    def __post_init__(self) -> None:
        checks.integer("total_iters", self.total_iters, at_least=1)
        checks.number("power", self.power, above_low=True)
        checks.number("end_factor", self.end_factor, high=1.0)

    @property
    def length(self) -> int | None:
        """`total_iters`."""
        return self.total_iters

    def _factors(self, steps: FloatArray) -> FloatArray:
        left = np.power(1.0 - progress_through(steps, 0, self.total_iters), self.power)
        return left + self.end_factor * (1.0 - left)


@dataclass(frozen=True, repr=False)
class Linear(Schedule):
    """A straight line from `start_factor` to `end_factor`: torch's LinearLR.

    torch's default factors make a short warm-up; here both must be said. Decay to zero (start 1, end 0) is what
    Defazio et al. (2023, arXiv:2310.07831) and Bergsma et al. (2025, arXiv:2502.15938) recommend.

    Args:
        total_iters: steps to the end, >= 1.
        start_factor: >= 0.
        end_factor: >= 0.
    """

    total_iters: int
    _: KW_ONLY
    start_factor: float
    end_factor: float

    def __post_init__(self) -> None:
        checks.integer("total_iters", self.total_iters, at_least=1)
        checks.number("start_factor", self.start_factor)
        checks.number("end_factor", self.end_factor)

    @property
    def length(self) -> int | None:
        """`total_iters`."""
        return self.total_iters

    def _factors(self, steps: FloatArray) -> FloatArray:
        progress = progress_through(steps, 0, self.total_iters)
        return interpolate("linear", progress, self.start_factor, self.end_factor)


@dataclass(frozen=True, repr=False)
class Cosine(Schedule):
    """eta_min + (1 - eta_min) (1 + cos(π step / T_max)) / 2 (Loshchilov & Hutter 2017, arXiv:1608.03983).

    torch's CosineAnnealingLR up to `T_max`; after it torch's goes up again, and this one holds `eta_min`.

    Args:
        T_max: steps to the end, >= 1.
        eta_min: the floor as a share of the peak (Keras's `alpha`), within [0, 1].
    """

    T_max: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        checks.integer("T_max", self.T_max, at_least=1)
        checks.number("eta_min", self.eta_min, high=1.0)

    @property
    def length(self) -> int | None:
        """`T_max`."""
        return self.T_max

    def _factors(self, steps: FloatArray) -> FloatArray:
        return interpolate("cosine", progress_through(steps, 0, self.T_max), 1.0, self.eta_min)


@dataclass(frozen=True, repr=False)
class InverseSqrt(Schedule):
    """√(timescale / (timescale + step)), for ever.

    `warmup(w).then(inverse_sqrt(w))` is the schedule of the Transformer (Vaswani et al. 2017, arXiv:1706.03762,
    eq. 3) divided by its peak, and `constant().then(inverse_sqrt(k), after=k)` that of T5 (Raffel et al. 2020,
    arXiv:1910.10683, section 3.1.2).

    Args:
        timescale: steps, >= 1.
    """

    timescale: int

    def __post_init__(self) -> None:
        checks.integer("timescale", self.timescale, at_least=1)

    def _factors(self, steps: FloatArray) -> FloatArray:
        return np.sqrt(self.timescale / (self.timescale + steps))
