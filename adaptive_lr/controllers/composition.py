"""Several controllers as one law: factors multiply, bounds apply once, the lowest momentum wins.

While one of them holds the learning rate itself (a sweep), the others rest: they would judge what the sweep does. Only
a gradient that is not finite is still skipped.

The same pure `Composition.update` runs live, in a replay and in a simulation.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from adaptive_lr.controllers.arguments import check_number
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
    levels: tuple[float | None, ...]  # not None: that controller holds the learning rate at this level


class Outcome(NamedTuple):
    """What all controllers together ask for after one row.

    Attributes:
        factor: product of the controllers' factors, held within the bounds once.
        momentum: the lowest of the controllers' momentum multipliers.
        damp: the lowest damping of this row.
        skip, stop, snapshot, rewind, set_aside, resume: whether any controller asks for it.
        decisions: every change, in the order of the controllers.
    """

    factor: float = 1.0
    momentum: float = 1.0
    damp: float = 1.0
    skip: bool = False
    stop: bool = False
    snapshot: bool = False
    rewind: bool = False
    set_aside: bool = False
    resume: bool = False
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Composition:
    """Controllers that act together.

    Args:
        controllers: the laws, in order. Two of one class are told apart by a suffix (`plateau`, `plateau_2`).
        min_factor: lower bound of the total factor, >= 0.
        max_factor: upper bound of the total factor, > 0.

    Raises:
        TypeError: something is not a `Controller`, or a bound is no number.
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
        check_number("min_factor", self.min_factor, "[0, inf]")
        check_number("max_factor", self.max_factor, "(0, inf]")
        if self.min_factor > self.max_factor:
            raise ValueError(
                "bounds must satisfy 0 <= min_factor <= max_factor and max_factor > 0, "
                f"got min_factor={self.min_factor}, max_factor={self.max_factor}"
            )
        # What does not change from step to step, made once.
        object.__setattr__(self, "_names", self._unique_names())
        object.__setattr__(self, "_requires", tuple(controller.requires for controller in self.controllers))
        object.__setattr__(self, "_rest", (1.0,) * len(self.controllers))  # the factors of laws at rest
        object.__setattr__(self, "_holds_lr", any(controller.holds_lr for controller in self.controllers))

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
        return frozenset().union(*self._requires)  # type: ignore[attr-defined]

    @property
    def holds_lr(self) -> bool:
        """Whether some controller may hold the learning rate itself."""
        holds: bool = self._holds_lr  # type: ignore[attr-defined]
        return holds

    def init(self) -> CompositionState:
        """All controllers at their start, all levels at 1."""
        count = len(self.controllers)
        return CompositionState(
            tuple(controller.init() for controller in self.controllers),
            (1.0,) * count,
            (1.0,) * count,
            (None,) * count,
        )

    def update(self, state: CompositionState, statistics: Statistics) -> tuple[CompositionState, Outcome]:
        """Give one row to every controller that sees it, and merge what they ask for. Pure.

        Raises:
            ValueError: a controller asked for something out of range (a factor that is not finite and positive).
        """
        holder = self.holder(state) if self.holds_lr else None
        if holder is not None and statistics.phase is Phase.BEFORE:
            return state, self._sweep_reflex(state, holder, statistics)
        states = list(state.states)
        asked: list[tuple[int, Adjustment]] = []  # by the laws that ask for more than what is in force: hardly ever any
        for index, controller in enumerate(self.controllers):
            if not controller.sees(statistics) or (holder is not None and holder != index):
                continue
            states[index], adjustment = controller.update(states[index], statistics)
            if not _stands(adjustment, state.factors[index], state.momenta[index], state.levels[index]):
                _check(self.names[index], adjustment)
                asked.append((index, adjustment))
        following = CompositionState(tuple(states), state.factors, state.momenta, state.levels)
        if not asked:
            return following, Outcome(self.factor(following), self.momentum(following))
        return self._merged(following, asked, statistics)

    def _merged(
        self, state: CompositionState, asked: list[tuple[int, Adjustment]], statistics: Statistics
    ) -> tuple[CompositionState, Outcome]:
        """What the laws ask for together."""
        states, factors, momenta, levels = map(list, state)
        decisions: list[Decision] = []
        damp, skip = 1.0, False
        for index, adjustment in asked:
            controller = self.controllers[index]
            decisions += self._decisions(index, statistics, factors[index], momenta[index], adjustment)
            factors[index], momenta[index] = adjustment.factor, adjustment.momentum
            if controller.holds_lr:
                levels[index] = adjustment.level
            if controller.phase is Phase.BEFORE and statistics.phase is Phase.BEFORE:
                damp, skip = min(damp, adjustment.damp), skip or adjustment.skip
        following = CompositionState(tuple(states), tuple(factors), tuple(momenta), tuple(levels))
        factor, momentum = self.factor(following), self.momentum(following)
        return following, Outcome(
            factor,
            momentum,
            damp,
            skip,
            stop=any(adjustment.stop for _, adjustment in asked),
            snapshot=any(adjustment.snapshot for _, adjustment in asked),
            rewind=any(adjustment.rewind for _, adjustment in asked),
            set_aside=any(adjustment.set_aside for _, adjustment in asked),
            resume=any(adjustment.resume for _, adjustment in asked),
            decisions=tuple(decisions),
        )

    def factor(self, state: CompositionState) -> float:
        """The total factor that stands in a state: finite and positive, whatever the product."""
        if state.factors == self._rest:  # type: ignore[attr-defined]
            product = 1.0
        else:
            product = min(max(math.prod(state.factors), sys.float_info.min), sys.float_info.max)
        return min(max(product, self.min_factor), self.max_factor)

    def momentum(self, state: CompositionState) -> float:
        """The momentum multiplier that stands in a state."""
        return min(state.momenta, default=1.0)

    def wants(self, statistics: Collection[str], state: CompositionState) -> bool:
        """Whether some controller reads one of these statistics of the next rows."""
        for law, known, requires in zip(self.controllers, state.states, self._requires, strict=True):  # type: ignore[attr-defined]
            if not requires.isdisjoint(statistics) and not law.requires_now(known).isdisjoint(statistics):
                return True
        return False

    def needs_snapshot(self, state: CompositionState) -> bool:
        """Whether some controller may still ask to rewind."""
        return any(law.needs_snapshot(known) for law, known in zip(self.controllers, state.states, strict=True))

    def needs_aside(self, state: CompositionState) -> bool:
        """Whether some controller may still ask to resume what was set aside."""
        return any(law.needs_aside(known) for law, known in zip(self.controllers, state.states, strict=True))

    def holder(self, state: CompositionState) -> int | None:
        """The index of the controller that holds the learning rate, or None."""
        return next((index for index, level in enumerate(state.levels) if level is not None), None)

    def level(self, state: CompositionState) -> float | None:
        """The level at which the learning rate is held, or None."""
        return next((level for level in state.levels if level is not None), None)

    def _sweep_reflex(self, state: CompositionState, holder: int, row: Statistics) -> Outcome:
        """While the learning rate is held: skip what is not finite, and nothing else."""
        norm = row.values.get("grad_norm", 0.0)
        factor, momentum = self.factor(state), self.momentum(state)
        if math.isfinite(norm):
            return Outcome(factor, momentum)
        reason = Reason("skip", "grad_norm", norm, math.inf, f"gradient norm is {norm}: update skipped")
        adjustment = Adjustment(state.factors[holder], state.momenta[holder], skip=True, reasons=(reason,))
        decisions = self._decisions(holder, row, adjustment.factor, adjustment.momentum, adjustment)
        return Outcome(factor, momentum, skip=True, decisions=tuple(decisions))

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
    given: object = controllers
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"controllers must be a Controller or an iterable of them, got {controllers!r}")
    return Composition(tuple(controllers))


def _stands(adjustment: Adjustment, factor: float, momentum: float, level: float | None) -> bool:
    """Whether an adjustment asks for nothing but what is in force: a law at rest, at nearly every step."""
    return (
        adjustment.factor == factor
        and adjustment.momentum == momentum
        and adjustment.damp == 1.0
        and adjustment.level == level
        and not adjustment.reasons
        and not (adjustment.skip or adjustment.stop or adjustment.snapshot or adjustment.rewind or adjustment.resume)
    )


def _check(name: str, adjustment: Adjustment) -> None:
    if not 0.0 < adjustment.factor < math.inf:
        raise ValueError(f"controller {name} asked for factor={adjustment.factor}; it must be finite and > 0")
    if not 0.0 <= adjustment.momentum <= 1.0:
        raise ValueError(f"controller {name} asked for momentum={adjustment.momentum}; it must be in [0, 1]")
    if not 0.0 < adjustment.damp <= 1.0:
        raise ValueError(f"controller {name} asked for damp={adjustment.damp}; it must be in (0, 1]")
    if adjustment.level is not None and not 0.0 < adjustment.level < math.inf:
        raise ValueError(f"controller {name} asked for level={adjustment.level}; it must be finite and > 0")
