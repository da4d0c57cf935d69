"""Small laws that do as they are told, for tests of everything around a law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from adaptive_lr.controllers import Adjustment, Controller, Reason
from adaptive_lr.statistics import Phase, Statistics


class Count(NamedTuple):
    """Rows seen after the START row."""

    rows: int = 0


@dataclass(frozen=True)
class Script(Controller[Count]):
    """Says the n-th factor and momentum after the n-th row; the first of each stands from the start."""

    factors: tuple[float, ...] = (0.5,)
    momenta: tuple[float, ...] = (1.0,)

    def init(self) -> Count:
        return Count()

    def update(self, state: Count, statistics: Statistics) -> tuple[Count, Adjustment]:
        rows = state.rows if statistics.phase is Phase.START else state.rows + 1
        factor = self.factors[min(rows, len(self.factors) - 1)]
        momentum = self.momenta[min(rows, len(self.momenta) - 1)]
        return Count(rows), Adjustment(factor, momentum, reasons=(Reason("script", "", 0.0, 0.0, f"row {rows}"),))


@dataclass(frozen=True)
class Reflex(Controller[Count]):
    """Damps or skips the updates it is told to, and may ask to stop."""

    phase = Phase.BEFORE
    damp: float = 1.0
    damp_at: tuple[int, ...] = ()
    skip_at: tuple[int, ...] = ()
    stop_at: int = -1

    def init(self) -> Count:
        return Count()

    def update(self, state: Count, statistics: Statistics) -> tuple[Count, Adjustment]:
        if statistics.phase is Phase.START:
            return state, Adjustment()
        step = statistics.step
        return Count(state.rows + 1), Adjustment(
            damp=self.damp if step in self.damp_at else 1.0,
            skip=step in self.skip_at,
            stop=step == self.stop_at,
        )


@dataclass(frozen=True)
class Detour(Controller[Count]):
    """Leaves the run for its start after the update `leave`, and comes back to where it left after `back`."""

    leave: int = 5
    back: int = 9

    def init(self) -> Count:
        return Count()

    def needs_snapshot(self, state: Count) -> bool:
        return state.rows <= self.back

    def needs_aside(self, state: Count) -> bool:
        return self.leave < state.rows <= self.back

    def update(self, state: Count, statistics: Statistics) -> tuple[Count, Adjustment]:
        if statistics.phase is Phase.START:
            return state, Adjustment(snapshot=True)
        left, back = statistics.step == self.leave, statistics.step == self.back
        return Count(state.rows + 1), Adjustment(rewind=left, set_aside=left, resume=back)


@dataclass(frozen=True)
class Watch(Controller[Count]):
    """Changes nothing, and has the statistics it names measured."""

    watched: tuple[str, ...] = ()

    @property
    def requires(self) -> frozenset[str]:
        return frozenset(self.watched)

    def init(self) -> Count:
        return Count()

    def update(self, state: Count, statistics: Statistics) -> tuple[Count, Adjustment]:
        return Count(state.rows + 1), Adjustment()


@dataclass(frozen=True)
class Hold(Controller[Count]):
    """Holds the learning rate at half its reference for some rows in the middle of a run."""

    holds_lr = True
    first: int = 30
    last: int = 35

    def init(self) -> Count:
        return Count()

    def update(self, state: Count, statistics: Statistics) -> tuple[Count, Adjustment]:
        rows = state.rows if statistics.phase is Phase.START else state.rows + 1
        return Count(rows), Adjustment(level=0.5 if self.first < rows <= self.last else None)
