"""Reading a trace back: exactly what was recorded, and the same decisions from it."""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from adaptive_lr.controllers.base import Controller
from adaptive_lr.controllers.composition import Composition, Decision, compose
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.trace.records import RECORD_NAME, Header, Resume, Update, UpdateRatios, decode

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_Item: TypeAlias = Statistics | Update | UpdateRatios | Decision
_OF_UPDATES = (Update, UpdateRatios)


@dataclass(frozen=True, slots=True)
class TraceRecord:
    """One run, as recorded.

    Attributes:
        path: the file it was read from.
        header: what the run (its last session, if it was resumed) began with.
        rows: every row the controllers saw, in order.
        updates: every completed optimizer update, in order.
        decisions: every decision, in order.
        resumes: the updates at which a state was loaded, in order.
        complete: whether the record begins with the run and has no gap where the run was resumed. A run that goes on
            from a checkpoint in another directory does not have its beginning.
        update_ratios: the update-to-weight ratios of the tensors in every update where they were asked for, in order.
        earlier_runs: runs that were recorded in the same file before this one began anew; they are not part of it.
    """

    path: Path
    header: Header
    rows: tuple[Statistics, ...]
    updates: tuple[Update, ...]
    decisions: tuple[Decision, ...]
    resumes: tuple[int, ...] = ()
    complete: bool = True
    update_ratios: tuple[UpdateRatios, ...] = ()
    earlier_runs: int = 0

    def steps(self) -> Integers:
        """Index of every update, shape (updates,)."""
        return np.array([update.step for update in self.updates], dtype=np.int64)

    def lrs(self, group: int | str = 0) -> Floats:
        """Effective learning rates of a parameter group, as used, shape (updates,).

        A group that was added later has NaN before.

        Raises:
            ValueError: there is no such group.
        """
        return self._of_group("lr", group)

    def base_lrs(self, group: int | str = 0) -> Floats:
        """The base schedule's learning rates of a group, shape (updates,); see `lrs`."""
        return self._of_group("base_lr", group)

    def momenta(self, group: int | str = 0) -> Floats:
        """Effective momenta of a group, NaN where the optimizer has none, shape (updates,); see `lrs`."""
        return self._of_group("momentum", group)

    def factors(self, controller: str | None = None) -> Floats:
        """The factor of a controller, or in total, that stood at every update, shape (updates,).

        Raises:
            ValueError: there is no such controller.
        """
        if controller is None:
            return np.array([update.factor for update in self.updates], dtype=np.float64)
        names = self.header.controller_names
        if controller not in names:
            raise ValueError(f"controller must be one of {list(names)}, got {controller!r}")
        index = names.index(controller)
        return np.array([update.factors[index] for update in self.updates], dtype=np.float64)

    def series(self, name: str, *, phase: Phase | None = None) -> tuple[Integers, Floats]:
        """Steps and values of a statistic or metric, each of shape (rows that have it,).

        Args:
            name: as in `Statistics.values`; the training loss is `loss`.
            phase: only rows of this phase. By default the AFTER and OBSERVATION rows: an AFTER row repeats what its
                BEFORE row had.
        """
        phases = (Phase.AFTER, Phase.OBSERVATION) if phase is None else (phase,)
        found = [(row.step, row.values[name]) for row in self.rows if row.phase in phases and name in row.values]
        steps = np.array([step for step, _ in found], dtype=np.int64)
        return steps, np.array([value for _, value in found], dtype=np.float64)

    def ratios(self, parameter: str) -> tuple[Integers, Floats]:
        """Steps and update-to-weight ratios of a parameter, each of shape (updates that have it,).

        Raises:
            ValueError: no ratio of that parameter is on record.
        """
        found = [(ratios.step, ratios.values[parameter]) for ratios in self.update_ratios if parameter in ratios.values]
        if not found:
            known = dict.fromkeys(name for ratios in self.update_ratios for name in ratios.values)
            raise ValueError(f"parameter must be one of {list(known)}, got {parameter!r}")
        steps = np.array([step for step, _ in found], dtype=np.int64)
        return steps, np.array([value for _, value in found], dtype=np.float64)

    def _of_group(self, attribute: str, group: int | str) -> Floats:
        count = max((len(update.lr) for update in self.updates), default=len(self.header.groups))
        index = self.header.groups.index(group) if group in self.header.groups else group
        if isinstance(index, str) or not 0 <= index < count:
            raise ValueError(f"group must be below {count} or one of {list(self.header.groups)}, got {group!r}")
        of_updates = (getattr(update, attribute) for update in self.updates)
        values = [of_groups[index] if index < len(of_groups) else None for of_groups in of_updates]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def read_trace(path: str | os.PathLike[str]) -> TraceRecord:
    """Read the run that was recorded last.

    Where a run loaded a state, its rows, updates and decisions are the ones that led to that state, from whichever
    session of this file reached it, followed by those made since; what was recorded beyond the state (a run that was
    killed after its last checkpoint) is left out. A run that began anew in an old directory is read alone.

    Args:
        path: the trace's directory, or its ``trace.jsonl``.

    Raises:
        FileNotFoundError: there is no trace.
        ValueError: the file has no header yet, a line that is not the last is damaged (the line is named), or the
            trace is of a newer format.

    Warns:
        RuntimeWarning: the last line is torn (the run was killed while writing it); it is left out.
    """
    path = Path(path)
    file = path / RECORD_NAME if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"there is no trace at {path} (expected {RECORD_NAME} in a directory, or the file)")
    lines = file.read_bytes().splitlines()
    sessions: list[_Session] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = decode(line.decode())
            if isinstance(found, Header):
                sessions.append(_Session(found, earlier=sessions[-1].runs if sessions else 0))
            elif not sessions:
                raise ValueError("the trace does not begin with a header")
            elif isinstance(found, Resume):
                sessions[-1] = _resumed(sessions, found)
            else:
                sessions[-1].add(found)
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{file}, line {number}, is damaged: {error}") from error
            if not sessions:
                break  # the header itself is torn, or this is no trace: said below
            warnings.warn(f"{file}: the last line is torn and left out: {error}", RuntimeWarning, stacklevel=2)
    if not sessions:
        raise ValueError(f"{file} holds no run yet: it has no header")
    return sessions[-1].record(file)


def replay(
    record: TraceRecord,
    controllers: Controller[Any] | Composition | Iterable[Controller[Any]] | None = None,
) -> tuple[Decision, ...]:
    """Decide again on the recorded rows.

    The same controllers give the same decisions, bit for bit (compare them by `repr` where one may hold a NaN).
    Other controllers give what they would have decided on what that run measured, which is what the run *would have
    done* only up to the first decision that differs: from there on the run itself would have been another.

    Args:
        record: a run.
        controllers: who decides. None: the run's own, rebuilt from the header. That imports the modules that the
            trace names and makes the classes it names (nothing that is not a `Controller` and a dataclass), so give
            the controllers yourself for a trace that you do not trust.

    Returns:
        The decisions, in order.

    Raises:
        ValueError: the record lacks its beginning or has a gap, or a controller cannot be rebuilt from it.
    """
    if not record.complete:
        raise ValueError(f"{record.path} cannot be replayed: it lacks rows from before update {record.resumes[-1]}")
    composition = _rebuild(record.header) if controllers is None else compose(controllers)
    state = composition.init()
    rows = record.rows
    if not rows or rows[0].phase is not Phase.START:
        rows = (Statistics(0, Phase.START), *rows)
    decisions: list[Decision] = []
    for row in rows:
        state, outcome = composition.update(state, row)
        decisions += outcome.decisions
    return tuple(decisions)


@dataclass
class _Session:
    """What one header and the lines after it amount to so far."""

    header: Header
    items: list[_Item] = field(default_factory=list)
    resumes: tuple[int, ...] = ()
    complete: bool = True
    started: bool = False  # has its START row
    restarted: bool = False  # saw another one, after a state from before the start was loaded
    earlier: int = 0  # runs in the file before the one this session began or goes on with

    @property
    def runs(self) -> int:
        """Runs in the file so far; one that ended before its first update is none."""
        return self.earlier + any(isinstance(item, Update) for item in self.items)

    def add(self, item: _Item) -> None:
        if isinstance(item, Statistics) and item.phase is Phase.START:
            self.restarted = self.started
            self.started = True
        if self.restarted and not isinstance(item, _OF_UPDATES) and item.phase is Phase.START:
            return
        self.items.append(item)

    def reaches(self, resume: Resume) -> bool:
        """Whether a state after that many updates can have been saved in this session."""
        if resume.rows is not None:
            return sum(isinstance(item, Statistics) for item in self.items) >= resume.rows
        return max((_completed(item) for item in self.items), default=0) >= resume.step

    def before(self, resume: Resume) -> list[_Item]:
        """What led to the state that was loaded."""
        if resume.rows is None:
            return [item for item in self.items if _is_before(item, resume.step)]
        rows, kept = 0, []
        for item in self.items:
            rows += isinstance(item, Statistics)
            if rows > resume.rows:
                break
            if not isinstance(item, _OF_UPDATES) or item.step < resume.step:
                kept.append(item)
        return kept

    def record(self, path: Path) -> TraceRecord:
        return TraceRecord(
            path,
            self.header,
            tuple(item for item in self.items if isinstance(item, Statistics)),
            tuple(item for item in self.items if isinstance(item, Update)),
            tuple(item for item in self.items if isinstance(item, Decision)),
            self.resumes,
            self.complete,
            tuple(item for item in self.items if isinstance(item, UpdateRatios)),
            self.earlier,
        )


def _resumed(sessions: list[_Session], resume: Resume) -> _Session:
    """The last session, going on from the state that it or an earlier one had saved."""
    last = sessions[-1]
    resumes = (*last.resumes, resume.step)
    for session in reversed(sessions):
        if session.reaches(resume):
            kept = session.before(resume)
            started = any(isinstance(item, Statistics) and item.phase is Phase.START for item in kept)
            return _Session(
                last.header, kept, (*session.resumes, resume.step), session.complete, started, earlier=session.earlier
            )
    return _Session(last.header, [], resumes, complete=False, earlier=last.earlier)


def _completed(item: _Item) -> int:
    """The number of updates that were complete when this was recorded, as far as it tells."""
    if isinstance(item, _OF_UPDATES) or (isinstance(item, Statistics) and item.phase is Phase.AFTER and item.updated):
        return item.step + 1
    return item.step


def _is_before(item: _Item, step: int) -> bool:
    if not isinstance(item, _OF_UPDATES):
        if item.phase is Phase.START:
            return True
        if item.phase is Phase.OBSERVATION:  # of as many updates: evaluations are made before a state is saved
            return item.step <= step
    return item.step < step


def _rebuild(header: Header) -> Composition:
    controllers = tuple(_rebuild_controller(controller) for controller in header.controllers)
    return Composition(controllers, min_factor=header.min_factor, max_factor=header.max_factor)


def _rebuild_controller(found: Mapping[str, Any]) -> Controller[Any]:
    name = found["class"]
    module, _, qualified_name = name.partition(":")
    try:
        made: Any = functools.reduce(getattr, qualified_name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"controller {name} cannot be imported ({error}); give controllers=...") from error
    if not (isinstance(made, type) and issubclass(made, Controller) and hasattr(made, "__dataclass_fields__")):
        raise ValueError(f"controller {name} must be a Controller and a dataclass; give controllers=...")
    try:
        controller = made(**{name: _frozen(value) for name, value in found["configuration"].items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"controller {name} cannot be rebuilt ({error}); give controllers=...") from error
    assert isinstance(controller, Controller)
    return controller


def _frozen(value: Any) -> Any:
    """JSON has lists where a frozen configuration had tuples."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        if value.keys() == {"unwritable"}:
            raise ValueError(f"its setting {value['unwritable']} could not be written")
        return {name: _frozen(item) for name, item in value.items()}
    return value
