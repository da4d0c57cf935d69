"""What a controller is: a law, not an object with habits.

A controller is a frozen configuration, a small explicit state (a NamedTuple of numbers), and a pure function
``update(state, statistics) -> (state, adjustment)``. So any state can be built in a test, a run resumes exactly,
replays from its trace, is simulated without training, and runs in shadow.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, TypeVar

from adaptive_lr.scores import NormPast, score_norm
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr_kernels.reflex import ReflexSettings

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an adjustment differs from the one before it.

    Attributes:
        action: what is done, one or two words: "damp", "skip", "back off", "recover", "cut", "stop", ...
        statistic: the name of the statistic that decided.
        value: its value.
        threshold: the value it was compared with.
        text: the whole reason as one sentence a person can read, without the step.
    """

    action: str
    statistic: str
    value: float
    threshold: float
    text: str


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What one controller asks for. Levels stand until the controller's next word; the reflex is for this step.

    Attributes:
        factor: level, multiplies the base learning rate from the next update on; finite, > 0.
        momentum: level, multiplies the base momentum (`momentum`, or the first of `betas`); in [0, 1].
        damp: reflex, multiplies the gradients of this update; in (0, 1]. Only a BEFORE law can use it.
        skip: reflex, leaves this update out, parameters and optimizer state alike. Only a BEFORE law can use it.
        stop: asks the training loop to end (`control.should_stop`).
        level: holds the learning rate at reference × level, whatever the base schedule says, while other controllers
            rest; None lets go. Only for a law that `holds_lr`. The reference of a parameter group is its
            `max_lr`, else its `initial_lr`, else its `lr` when control was attached.
        snapshot: keep a copy of parameters, buffers and optimizer state as they are now.
        rewind: put the latest such copy back.
        set_aside: before that, keep another copy apart, of the way that is left; only for a law that `needs_aside`.
        resume: put that copy back, and go on the way that was left.
        reasons: why, one for each change. An adjustment that changes nothing has none.
    """

    factor: float = 1.0
    momentum: float = 1.0
    damp: float = 1.0
    skip: bool = False
    stop: bool = False
    level: float | None = None
    snapshot: bool = False
    rewind: bool = False
    set_aside: bool = False
    resume: bool = False
    reasons: tuple[Reason, ...] = ()


class Controller(ABC, Generic[State]):
    """A law that turns statistics into adjustments. Subclass it as a frozen dataclass.

    Class attributes:
        phase: `Phase.BEFORE`: sees the BEFORE rows (this step's gradient) and may damp or skip.
            `Phase.AFTER`: sees the AFTER rows (the whole step) and the OBSERVATION rows.
            Every law first sees one empty START row.
        holds_lr: whether the law may hold the learning rate itself (`Adjustment.level`).
        state_settings: names of the settings without which a saved state means nothing (what was judged): it is not
            loaded into a law in which they differ.
        per_group: whether the law reads `statistics.groups`; otherwise groups may be left unmeasured.
    """

    phase: ClassVar[Phase] = Phase.AFTER
    holds_lr: ClassVar[bool] = False
    per_group: ClassVar[bool] = False
    state_settings: ClassVar[frozenset[str]] = frozenset()

    @property
    def name(self) -> str:
        """The name in traces and decisions: the class name in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def requires(self) -> frozenset[str]:
        """The measured statistics this law reads; only what some law (or the trace) requires is measured."""
        return frozenset()

    @property
    def reflex(self) -> ReflexSettings | None:
        """The damping and skipping of a BEFORE law as the reflex that runs on the device, within the step.

        None: `update` alone knows, so the gradients of each step must be read by the host before the step.
        """
        return None

    def requires_now(self, state: State) -> frozenset[str]:
        """What the law reads of the next rows, at most `requires`; for statistics that cost much and serve a while."""
        del state
        return self.requires

    def needs_snapshot(self, state: State) -> bool:
        """Whether the law may still ask to rewind: the snapshot is kept for as long."""
        del state
        return False

    def needs_aside(self, state: State) -> bool:
        """Whether the law may still ask to resume what was set aside: that copy is kept for as long."""
        del state
        return False

    @abstractmethod
    def init(self) -> State:
        """The state before the first row: a NamedTuple of numbers, None, and flat tuples of numbers."""

    @abstractmethod
    def update(self, state: State, statistics: Statistics) -> tuple[State, Adjustment]:
        """One row in, the next state and an adjustment out. Pure: the same arguments give the same result."""

    def sees(self, statistics: Statistics) -> bool:
        """Whether this law is given that row."""
        if statistics.phase is Phase.START:
            return True
        return (statistics.phase is Phase.BEFORE) == (self.phase is Phase.BEFORE)

    def simulate(self, statistics: Iterable[Statistics | Mapping[str, float]]) -> list[Adjustment]:
        """Run the law over recorded or invented rows, without training.

        Args:
            statistics: rows, or mappings of names to values (then the n-th is step n, in this law's phase). A
                `grad_norm` without a `grad_score` is scored as it would be in training. The empty START row is
                supplied if the first row is not one.

        Returns:
            One adjustment a row; for a row that this law does not see, the levels that stand.
        """
        state, past = self.init(), NormPast()
        standing = Adjustment()
        adjustments: list[Adjustment] = []
        for index, given in enumerate(statistics):
            row = given if isinstance(given, Statistics) else Statistics(index, self.phase, dict(given))
            if index == 0 and row.phase is not Phase.START:
                state, standing = self.update(state, Statistics(0, Phase.START))
            if self.sees(row):
                if "grad_norm" in row.values and "grad_score" not in row.values:
                    past, scored = score_norm(past, row.values["grad_norm"])
                    row = replace(row, values={**row.values, **scored})
                state, standing = self.update(state, row)
                adjustments.append(standing)
            else:
                adjustments.append(Adjustment(standing.factor, standing.momentum, level=standing.level))
        return adjustments


def configuration(controller: Controller[Any]) -> dict[str, Any]:
    """The frozen configuration of a controller as plain values, for the record."""
    return {f.name: getattr(controller, f.name) for f in fields(controller)}  # type: ignore[arg-type]
