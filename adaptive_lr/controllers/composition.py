"""Several controllers as one law: factors multiply, bounds apply once, the lowest momentum wins.

The same pure `Composition.update` runs live, in a replay and in a simulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from adaptive_lr.controllers.base import Adjustment, Controller, Reason
from adaptive_lr.statistics import MEASURED_STATISTICS, Phase, Statistics


@dataclass(frozen=True, slots=True)
class Decision:
    """One change on record: what was changed, by whom, when, and why.

    Attributes:
        step: the step of the row that decided (see `Statistics.step`).
        phase: the phase of that row. A reflex (damp, skip) acts in that very step; a level from the next update on,
            `lag` updates later where a lag is set.
        controller: its name in the composition.
        action, statistic, value, threshold, text: see `Reason`.
        factor_before, factor_after: this controller's factor.
        momentum_before, momentum_after: this controller's momentum multiplier.
    """

    step: int
    phase: Phase
    controller: str
    action: str
    statistic: str
    value: float
    threshold: float
    text: str
    factor_before: float
    factor_after: float
    momentum_before: float
    momentum_after: float


class CompositionState(NamedTuple):
    """The states of the controllers and the levels that stand."""

    states: tuple[Any, ...]
    factors: tuple[float, ...]
    momenta: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What all controllers together ask for after one row.

    Attributes:
        factor: product of the controllers' factors, held within the bounds once.
        momentum: the lowest of the controllers' momentum multipliers.
        damp: the lowest damping of this row; skip, stop: whether any controller asks for it.
        decisions: every change, in the order of the controllers.
    """

    factor: float = 1.0
    momentum: float = 1.0
    damp: float = 1.0
    skip: bool = False
    stop: bool = False
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Composition:
    """Controllers that act together.

    Args:
        controllers: the laws, in order. Two of one class are told apart by a suffix (`plateau`, `plateau_2`).
        min_factor: lower bound of the total factor, >= 0.
        max_factor: upper bound of the total factor, > 0.

    Raises:
        TypeError: something is not a `Controller`.
        ValueError: the bounds are not 0 <= min_factor <= max_factor, or a law requires an unknown statistic.
    """

    controllers: tuple[Controller[Any], ...] = ()
    min_factor: float = 0.0
    max_factor: float = math.inf

    def __post_init__(self) -> None:
        object.__setattr__(self, "controllers", tuple(self.controllers))
        for controller in self.controllers:
            if not isinstance(controller, Controller):
                raise TypeError(f"controllers must be Controller instances, got {controller!r}")
            unknown = controller.requires - MEASURED_STATISTICS
            if unknown:
                raise ValueError(
                    f"controller {controller.name} requires {sorted(unknown)}, which nothing measures; "
                    f"measured statistics are {sorted(MEASURED_STATISTICS)}"
                )
        if not 0.0 <= self.min_factor <= self.max_factor or self.max_factor <= 0.0:
            raise ValueError(
                "bounds must satisfy 0 <= min_factor <= max_factor and max_factor > 0, "
                f"got min_factor={self.min_factor}, max_factor={self.max_factor}"
            )
        object.__setattr__(self, "_names", self._unique_names())

    def __iter__(self) -> Iterator[Controller[Any]]:
        return iter(self.controllers)

    def __len__(self) -> int:
        return len(self.controllers)

    @property
    def names(self) -> tuple[str, ...]:
        """The controllers' names, made unique."""
        names: tuple[str, ...] = self._names  # type: ignore[attr-defined]
        return names

    @property
    def requires(self) -> frozenset[str]:
        """The statistics that some controller requires."""
        return frozenset().union(*(controller.requires for controller in self.controllers))

    def init(self) -> CompositionState:
        """All controllers at their start, all levels at 1."""
        count = len(self.controllers)
        return CompositionState(
            tuple(controller.init() for controller in self.controllers), (1.0,) * count, (1.0,) * count
        )

    def update(self, state: CompositionState, statistics: Statistics) -> tuple[CompositionState, Outcome]:
        """Give one row to every controller that sees it, and merge what they ask for. Pure.

        Raises:
            ValueError: a controller asked for something out of range (a factor that is not finite and positive).
        """
        states, factors, momenta = list(state.states), list(state.factors), list(state.momenta)
        decisions: list[Decision] = []
        damp, skip, stop = 1.0, False, False
        for index, controller in enumerate(self.controllers):
            if not controller.sees(statistics):
                continue
            states[index], adjustment = controller.update(states[index], statistics)
            _check(self.names[index], adjustment)
            decisions += self._decisions(index, statistics, factors[index], momenta[index], adjustment)
            factors[index], momenta[index] = adjustment.factor, adjustment.momentum
            if controller.phase is Phase.BEFORE and statistics.phase is Phase.BEFORE:
                damp, skip = min(damp, adjustment.damp), skip or adjustment.skip
            stop = stop or adjustment.stop
        following = CompositionState(tuple(states), tuple(factors), tuple(momenta))
        outcome = Outcome(self.factor(following), min(momenta, default=1.0), damp, skip, stop, tuple(decisions))
        return following, outcome

    def factor(self, state: CompositionState) -> float:
        """The total factor that stands in a state."""
        return min(max(math.prod(state.factors), self.min_factor), self.max_factor)

    def momentum(self, state: CompositionState) -> float:
        """The momentum multiplier that stands in a state."""
        return min(state.momenta, default=1.0)

    def _decisions(
        self, index: int, row: Statistics, factor: float, momentum: float, adjustment: Adjustment
    ) -> list[Decision]:
        reasons = adjustment.reasons
        changed = (
            adjustment.factor != factor
            or adjustment.momentum != momentum
            or adjustment.damp != 1.0
            or adjustment.skip
            or adjustment.stop
        )
        if changed and not reasons:
            reasons = (Reason("change", "", math.nan, math.nan, "the controller gave no reason"),)
        return [
            Decision(
                row.step,
                row.phase,
                self.names[index],
                reason.action,
                reason.statistic,
                reason.value,
                reason.threshold,
                reason.text,
                factor,
                adjustment.factor,
                momentum,
                adjustment.momentum,
            )
            for reason in reasons
        ]

    def _unique_names(self) -> tuple[str, ...]:
        names: list[str] = []
        for controller in self.controllers:
            name, count = controller.name, 2
            while name in names:
                name, count = f"{controller.name}_{count}", count + 1
            names.append(name)
        return tuple(names)


def compose(controllers: Controller[Any] | Composition | Iterable[Controller[Any]]) -> Composition:
    """One controller, several, or a composition as a composition."""
    if isinstance(controllers, Composition):
        return controllers
    if isinstance(controllers, Controller):
        return Composition((controllers,))
    if not isinstance(controllers, Iterable):
        raise TypeError(f"controllers must be a Controller or an iterable of them, got {controllers!r}")
    return Composition(tuple(controllers))


def _check(name: str, adjustment: Adjustment) -> None:
    if not 0.0 < adjustment.factor < math.inf:
        raise ValueError(f"controller {name} asked for factor={adjustment.factor}; it must be finite and > 0")
    if not 0.0 <= adjustment.momentum <= 1.0:
        raise ValueError(f"controller {name} asked for momentum={adjustment.momentum}; it must be in [0, 1]")
    if not 0.0 < adjustment.damp <= 1.0:
        raise ValueError(f"controller {name} asked for damp={adjustment.damp}; it must be in (0, 1]")
