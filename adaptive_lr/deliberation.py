"""Runs the laws on rows, keeps their states and the record of decisions, and says what is in force at which update.

Knows nothing of optimizers or tensors: rows in, levels and reflexes out.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, overload

from adaptive_lr.controllers.base import Controller, configuration
from adaptive_lr.controllers.composition import Composition, CompositionState, Decision, Outcome
from adaptive_lr.plain import check_keys, from_plain, to_plain
from adaptive_lr.statistics import RATIO_STATISTICS, Phase, Statistics
from adaptive_lr.trace import Header, Trace, Update, UpdateRatios

MAX_DECISIONS = 1000
"""Decisions kept in memory and in checkpoints; the trace has all of them."""


class Levels(NamedTuple):
    """What multiplies base learning rate and base momentum."""

    factor: float
    momentum: float
    factors: tuple[float, ...]  # per controller, unbounded
    level: float | None  # not None: the learning rate is held at reference x level instead
    update_ratio: bool = False  # whether a law reads the update-to-weight ratio of this update


class Decisions(Sequence[Decision]):
    """The latest decisions, oldest first, and how many there were in all."""

    def __init__(self, latest: Sequence[Decision], total: int) -> None:
        self._latest = tuple(latest)
        self.total = total

    @overload
    def __getitem__(self, index: int) -> Decision: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Decision, ...]: ...
    def __getitem__(self, index: int | slice) -> Decision | tuple[Decision, ...]:
        return self._latest[index]

    def __len__(self) -> int:
        return len(self._latest)

    def __repr__(self) -> str:
        return f"Decisions({list(self._latest)}, total={self.total})"


class Deliberation:
    """The laws at work.

    Args:
        composition: the laws.
    """

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self.trace: Trace | None = None
        self.should_stop = False
        self.rows = 0  # given to the laws so far
        self.sees_before = composition.holds_lr or any(c.phase is Phase.BEFORE for c in composition)
        self._state = composition.init()
        self._reads_ratio = not composition.requires.isdisjoint(RATIO_STATISTICS)
        self._wants_ratio = self._reads_ratio
        self._in_force = self._standing()
        self._due: deque[tuple[int, Levels]] = deque()  # (first update, levels), in order
        self._requests: list[tuple[int, str]] = []  # (first update after it, what is to be done)
        self._decisions: deque[Decision] = deque(maxlen=MAX_DECISIONS)
        self._total = 0

    @property
    def decisions(self) -> Decisions:
        """The latest decisions and their total number."""
        return Decisions(tuple(self._decisions), self._total)

    def begin_trace(self, trace: Trace, header: Header, start: Statistics) -> None:
        """Record from now on: the header first, then the START row, which the laws have seen, and what they decided."""
        trace.begin(header)
        trace.record(start)
        trace.record_decisions(self._decisions)
        self.trace = trace

    def consider(self, row: Statistics, first: int) -> Outcome:
        """Give a row to the laws.

        Args:
            row: what was measured.
            first: index of the first update that the levels they decide on act on, and that the snapshot or rewind they
                ask for comes before.
        """
        self.rows += 1
        if self.trace is not None:
            self.trace.record(row)
        before = self._state
        self._state, outcome = self.composition.update(before, row)
        if outcome.decisions:
            self._decisions.extend(outcome.decisions)
            self._total += len(outcome.decisions)
            if self.trace is not None:
                self.trace.record_decisions(outcome.decisions)
        self.should_stop = self.should_stop or outcome.stop
        if outcome.rewind or outcome.snapshot or outcome.resume:
            asked = (
                ("set aside", outcome.set_aside),
                ("rewind", outcome.rewind),
                ("resume", outcome.resume),
                ("snapshot", outcome.snapshot),
            )
            self._requests += [(first, request) for request, wanted in asked if wanted]
        wants_ratio = self._reads_ratio and self.composition.wants(RATIO_STATISTICS, self._state)
        after = self._state
        changed = after.factors != before.factors or after.momenta != before.momenta or after.levels != before.levels
        if changed or wants_ratio is not self._wants_ratio:
            self._wants_ratio = wants_ratio
            while self._due and self._due[-1][0] >= first:
                self._due.pop()  # from before a law took hold of the learning rate, which is not delayed
            self._due.append((first, self._standing()))
        return outcome

    def levels(self, update: int) -> Levels:
        """What is in force at an update; never asked for an earlier one again."""
        while self._due and self._due[0][0] <= update:
            self._in_force = self._due.popleft()[1]
        return self._in_force

    @property
    def holds(self) -> bool:
        """Whether a law holds the learning rate itself, as far as the laws have seen."""
        return self.composition.holder(self._state) is not None

    @property
    def needs_snapshot(self) -> bool:
        """Whether a law may still ask to rewind, or has asked for something that is yet to be done."""
        return bool(self._requests) or self.composition.needs_snapshot(self._state)

    @property
    def needs_aside(self) -> bool:
        """Whether a law may still ask to resume what was set aside, or has asked for something yet to be done."""
        return bool(self._requests) or self.composition.needs_aside(self._state)

    def requests(self, update: int) -> list[str]:
        """What is to be done before an update, in order: "set aside", "rewind", "resume", "snapshot"."""
        if not self._requests:
            return []
        due = [request for first, request in self._requests if first <= update]
        self._requests = [(first, request) for first, request in self._requests if first > update]
        return due

    def record_update(self, update: Update, ratios: UpdateRatios | None = None) -> None:
        """Write one completed update to the trace, with the ratios of its tensors where they were asked for."""
        if self.trace is not None:
            self.trace.record_update(update)
            if ratios is not None:
                self.trace.record_update_ratios(ratios)

    def _standing(self) -> Levels:
        laws, state = self.composition, self._state
        return Levels(laws.factor(state), laws.momentum(state), state.factors, laws.level(state), self._wants_ratio)

    def state_dict(self) -> dict[str, Any]:
        """Everything the laws know, as plain values."""
        return {
            "controllers": [
                {"name": name, "settings": _settings(law), "state": to_plain(state)}
                for name, law, state in zip(self.composition.names, self.composition, self._state.states, strict=True)
            ],
            "factors": list(self._state.factors),
            "momenta": list(self._state.momenta),
            "levels": list(self._state.levels),
            "in_force": to_plain(self._in_force),
            "due": [[update, to_plain(levels)] for update, levels in self._due],
            "requests": [list(request) for request in self._requests],
            "should_stop": self.should_stop,
            "rows": self.rows,
            "decisions": [_decision_to_plain(decision) for decision in self._decisions],
            "decisions_total": self._total,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            ValueError: the state is of other controllers, or of another shape.

        Warns:
            UserWarning: a controller has other settings than the one whose state is loaded.
        """
        check_keys("deliberation", state, self.state_dict())
        names = tuple(entry["name"] for entry in state["controllers"])
        if names != self.composition.names:
            raise ValueError(
                f"the state must be of the attached controllers {list(self.composition.names)}, got {list(names)}"
            )
        templates = self.composition.init().states
        states = tuple(
            from_plain(template, entry["state"])
            for template, entry in zip(templates, state["controllers"], strict=True)
        )
        for law, entry in zip(self.composition, state["controllers"], strict=True):
            _compare_settings(law, entry["name"], entry["settings"])
        levels = Levels(1.0, 1.0, (), None)
        standing = (tuple(state[name]) for name in ("factors", "momenta", "levels"))
        self._state = CompositionState(states, *standing)
        self._in_force = from_plain(levels, state["in_force"])
        self._due = deque((update, from_plain(levels, plain)) for update, plain in state["due"])
        self._requests = [(update, request) for update, request in state["requests"]]
        self.should_stop = state["should_stop"]
        self._wants_ratio = self._reads_ratio and self.composition.wants(RATIO_STATISTICS, self._state)
        self.rows = state["rows"]
        self._decisions = deque((_decision_from_plain(d) for d in state["decisions"]), maxlen=MAX_DECISIONS)
        self._total = state["decisions_total"]


def _settings(law: Controller[Any]) -> dict[str, str]:
    """The configuration of a law, each setting as JSON; of what JSON cannot hold, its type."""
    if not hasattr(law, "__dataclass_fields__"):
        return {}
    return {
        name: json.dumps(value, default=lambda unknown: type(unknown).__name__)
        for name, value in configuration(law).items()
    }


def _compare_settings(law: Controller[Any], name: str, saved: Mapping[str, str]) -> None:
    attached = _settings(law)
    differ = [setting for setting in attached.keys() | saved.keys() if attached.get(setting) != saved.get(setting)]
    if not differ:
        return
    told = ", ".join(f"{s}={saved.get(s)} (attached: {attached.get(s)})" for s in sorted(differ))
    if law.state_settings & set(differ):
        raise ValueError(f"the state must be of the attached controllers, got that of {name} with {told}")
    warnings.warn(
        f"{name} goes on with other settings than those of the state that is loaded: {told}", UserWarning, stacklevel=5
    )


def _decision_to_plain(decision: Decision) -> dict[str, Any]:
    return {**dataclasses.asdict(decision), "phase": str(decision.phase)}


def _decision_from_plain(plain: dict[str, Any]) -> Decision:
    return Decision(**{**plain, "phase": Phase(plain["phase"])})
