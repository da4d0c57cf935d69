"""What a schedule is: a pure function from the step to a factor on the peak learning rate.

    schedule = warmup(100).then(cosine(900, eta_min=0.1))
    schedule(50)                 # 0.5: a Python float
    schedule(np.arange(1000))    # an array of 1000 factors
    LambdaLR(optimizer, schedule)

The learning rate of step t is peak × schedule(t), with t = 0 for the first update. Schedules are values: frozen,
comparable, picklable, without state. Past their end they hold their last factor.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from adaptive_lr.schedules import checks

FloatArray: TypeAlias = NDArray[np.float64]
"""float64, shape [steps]."""

LARGEST_STEP = 2**53
"""Beyond it float64 no longer tells one step from the next."""


class Schedule(ABC):
    """A base schedule. Subclass it as `@dataclass(frozen=True, repr=False)` and write `_factors`.

    Raises:
        TypeError: (on a call) the step is neither a real number nor a numpy array of them.
        ValueError: (on a call) a step is negative, not finite, or above 2**53.
    """

    @abstractmethod
    def _factors(self, steps: FloatArray) -> FloatArray:
        """The law itself. Steps are checked: float64, shape [steps], >= 0. Factors are finite and >= 0, same shape."""

    def _momenta(self, steps: FloatArray) -> FloatArray | None:
        """The momentum that goes with the learning rate, shape [steps]; None for a schedule without one."""
        return None

    @property
    def length(self) -> int | None:
        """The number of steps it is made for; None for a schedule that never ends."""
        return None

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: NDArray[Any]) -> FloatArray: ...
    def __call__(self, step: float | NDArray[Any]) -> float | FloatArray:
        """The factor at a step (a number in, a Python float out), or at each step of an array of any shape."""
        factors = _apply(self._factors, step)
        assert factors is not None
        return factors

    @overload
    def momentum(self, step: float) -> float | None: ...
    @overload
    def momentum(self, step: NDArray[Any]) -> FloatArray | None: ...
    def momentum(self, step: float | NDArray[Any]) -> float | FloatArray | None:
        """The momentum (SGD's `momentum`, Adam's first beta) at a step, absolute; None for a schedule without one."""
        return _apply(self._momenta, step)

    def then(self, following: Schedule, *, after: int | None = None) -> Then:
        """This schedule for `after` steps, then `following`, whose own clock starts at 0 there.

        Args:
            following: `following(0)` is the factor of step `after`.
            after: steps; None: the `length` of this schedule.

        Raises:
            ValueError: `after` is None and this schedule never ends.
        """
        if after is None:
            after = self.length
        if after is None:
            raise ValueError(f"after must be given, for {self!r} never ends by itself; got None")
        return Then(self, following, after)

    def times(self, other: Schedule | float) -> Product:
        """The product with another schedule or a number >= 0; also written `schedule * other`."""
        return Product(self, other)

    def temperature(self, temperature: float) -> Tempered:
        """The same schedule at a temperature; see `Tempered`."""
        return Tempered(self, temperature)

    def __mul__(self, other: Schedule | float) -> Product:
        return Product(self, other)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        # The text from which `from_text` builds an equal schedule.
        arguments = ", ".join(f"{f.name}={_plain(getattr(self, f.name))!r}" for f in fields(self))  # type: ignore[arg-type]
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        return f"{name}({arguments})"


def _plain(value: Any) -> Any:
    """Turn numpy numbers into Python's, which print as they are typed."""
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def _apply(law: Callable[[FloatArray], FloatArray | None], step: float | NDArray[Any]) -> float | FloatArray | None:
    """Check the step, and give the law its array of steps."""
    if isinstance(step, np.ndarray):
        if step.dtype.kind not in "iuf":
            raise TypeError(f"step must be a number or a numpy array of numbers, got an array of {step.dtype}")
        steps = np.array(step, dtype=np.float64).ravel()
        allowed = (steps >= 0) & (steps <= LARGEST_STEP)
        if not allowed.all():
            raise ValueError(f"step must be in [0, 2**53], got {step.ravel()[~allowed][0]}")
        values = law(steps)
        return None if values is None else values.reshape(step.shape)
    number = checks.real(step)
    if number is None:
        raise TypeError(f"step must be a number or a numpy array of numbers, got {step!r}")
    if not 0 <= number <= LARGEST_STEP:
        raise ValueError(f"step must be in [0, 2**53], got {step!r}")
    # A number takes the same road as an array, so that both give the same bits.
    values = law(np.array([number]))
    return None if values is None else float(values[0])


def _check_schedule(name: str, value: object) -> None:
    if not isinstance(value, Schedule):
        raise TypeError(f"{name} must be a Schedule, got {value!r}")


@dataclass(frozen=True, repr=False)
class Then(Schedule):
    """One schedule after another (`first.then(second)`), like torch's SequentialLR.

    The second one's clock starts at 0 at step `after`. Where only one of the two has a momentum, the other part
    holds the value that it has at the join.
    """

    first: Schedule
    second: Schedule
    after: int

    def __post_init__(self) -> None:
        _check_schedule("first", self.first)
        _check_schedule("following", self.second)
        checks.integer("after", self.after, at_least=0)

    @property
    def length(self) -> int | None:
        """`after` and that of the second schedule."""
        return None if self.second.length is None else self.after + self.second.length

    def _factors(self, steps: FloatArray) -> FloatArray:
        later = np.maximum(steps - self.after, 0.0)
        return np.where(steps < self.after, self.first._factors(steps), self.second._factors(later))

    def _momenta(self, steps: FloatArray) -> FloatArray | None:
        first = self.first._momenta(np.minimum(steps, self.after))
        second = self.second._momenta(np.maximum(steps - self.after, 0.0))
        if first is None or second is None:
            return second if first is None else first
        return np.where(steps < self.after, first, second)

    def __repr__(self) -> str:
        return f"{self.first!r}.then({self.second!r}, after={_plain(self.after)!r})"


@dataclass(frozen=True, repr=False)
class Product(Schedule):
    """The product of a schedule with a schedule or a number >= 0. The momentum is that of the first that has one."""

    first: Schedule
    second: Schedule | float

    def __post_init__(self) -> None:
        _check_schedule("first", self.first)
        if not isinstance(self.second, Schedule):
            checks.number("other", self.second)

    @property
    def length(self) -> int | None:
        """The longer of the two."""
        if not isinstance(self.second, Schedule):
            return self.first.length
        lengths = (self.first.length, self.second.length)
        return None if None in lengths else max(n for n in lengths if n is not None)

    def _factors(self, steps: FloatArray) -> FloatArray:
        other = self.second._factors(steps) if isinstance(self.second, Schedule) else self.second
        return self.first._factors(steps) * other

    def _momenta(self, steps: FloatArray) -> FloatArray | None:
        momenta = self.first._momenta(steps)
        if momenta is None and isinstance(self.second, Schedule):
            return self.second._momenta(steps)
        return momenta

    def __repr__(self) -> str:
        return f"{self.first!r}.times({_plain(self.second)!r})"


@dataclass(frozen=True, repr=False)
class Tempered(Schedule):
    """A schedule at temperature T: factor ** (1 / T).

    This is this library's definition, after the temperature of a softmax (p ** (1 / T), up to a constant). At T = 1
    nothing changes; a hot schedule (T > 1) stays near the peak for longer and T -> infinity is constant; a cold one
    (T < 1) leaves it sooner. Factors 0 and 1 stay what they are. A decay of polynomial power p becomes one of power
    p / T, and an exponential of rate gamma one of rate gamma ** (1 / T). The momentum is not changed.
    """

    schedule: Schedule
    value: float

    def __post_init__(self) -> None:
        _check_schedule("schedule", self.schedule)
        checks.number("temperature", self.value, above_low=True)

    @property
    def length(self) -> int | None:
        """That of the schedule."""
        return self.schedule.length

    def _factors(self, steps: FloatArray) -> FloatArray:
        return np.power(self.schedule._factors(steps), 1.0 / self.value)

    def _momenta(self, steps: FloatArray) -> FloatArray | None:
        return self.schedule._momenta(steps)

    def __repr__(self) -> str:
        return f"{self.schedule!r}.temperature({_plain(self.value)!r})"
