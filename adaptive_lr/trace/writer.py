"""Writing a trace: the exact record and its view in TensorBoard, which never stop the training they watch."""

from __future__ import annotations

import functools
import os
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol

from adaptive_lr.controllers.composition import Decision
from adaptive_lr.statistics import MEASURED_STATISTICS, Statistics
from adaptive_lr.trace.event_file import EventFile, WriterSink
from adaptive_lr.trace.files import AppendFile
from adaptive_lr.trace.records import (
    RECORD_NAME,
    Header,
    Resume,
    Update,
    UpdateRatios,
    encode_decision,
    encode_header,
    encode_resume,
    encode_row,
    encode_update,
    encode_update_ratios,
)
from adaptive_lr.trace.tensorboard import View

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

DEFAULT_STATISTICS = ("grad_norm", "grad_score")
"""What a trace asks to be measured beyond what the controllers do."""

FLUSH_INTERVAL = 1.0
"""Seconds: the most that a killed process loses, beside the step it was in."""

P = ParamSpec("P")


def _guarded(method: Callable[Concatenate[Trace, P], None]) -> Callable[Concatenate[Trace, P], None]:
    """A method that does nothing once the trace has ended, and ends it, with one warning, at the first failure."""

    @functools.wraps(method)
    def guarded(self: Trace, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self._unopened is not None:
            self._open()
        if self._record is None:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._fail(error)

    return guarded


class Trace:
    """Writes what a run measured, used and decided.

    Into ``<directory>/trace.jsonl`` goes the exact record (see `adaptive_lr.trace.records`); into an event file
    beside it, or into the given `SummaryWriter`, what TensorBoard shows (see `adaptive_lr.trace.tensorboard`). Both
    are written at least every `FLUSH_INTERVAL` seconds while records come in, and at `close` or at exit.

    A directory that holds a trace is appended to. A run that loads a state (`resume`) goes on where the state was
    saved; any other run begins anew, and readers show the last one. While a trace is being written, its directory
    should be no other writer's: to show your own scalars in the same run, give the `SummaryWriter` itself.

    Nothing is opened or made before there is something to write. No method raises, and neither does construction for
    anything outside of its arguments: the first failure (a full disk, no permission, a writer that broke) gives one
    RuntimeWarning and ends the trace; training goes on. Where only TensorBoard is missing, the exact record goes on
    too.

    Args:
        target: a directory, made if need be, or a `torch.utils.tensorboard.SummaryWriter`, whose ``log_dir`` then
            gets the exact record. The writer stays yours to close.
        statistics: measured statistics to record beyond what the controllers require; "all" for every one there is.
        every: TensorBoard gets the rows and updates of every n-th step only; the exact record is always complete.

    Raises:
        TypeError: `target` is neither.
        ValueError: an unknown statistic, `every` below 1, or `target` is empty or a file.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | SummaryWriter,
        *,
        statistics: Iterable[str] | Literal["all"] = DEFAULT_STATISTICS,
        every: int = 1,
    ) -> None:
        self.requires: frozenset[str] = _statistics(statistics)
        """The measured statistics this trace asks for."""
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be a whole number of steps, at least 1, got {every!r}")
        writer = None if isinstance(target, str | os.PathLike) else target
        if writer is not None and not _is_summary_writer(writer):
            raise TypeError(f"a trace is written to a directory or a SummaryWriter, got {target!r}")
        if isinstance(target, str | os.PathLike):
            _check_directory(os.fspath(target))
        self.directory = Path(target if isinstance(target, str | os.PathLike) else target.log_dir)
        """Where the trace is written."""
        self._record: AppendFile | None = None
        self._view: View | None = None
        self._finalizer: weakref.finalize[..., Trace] | None = None
        self._due = time.monotonic() + FLUSH_INTERVAL
        self._unopened: tuple[SummaryWriter | None, int] | None = (writer, every)

    @property
    def path(self) -> Path:
        """The exact record's file."""
        return self.directory / RECORD_NAME

    @_guarded
    def begin(self, header: Header) -> None:
        """Begin a session: what follows was made by this optimizer and these controllers."""
        self._append(encode_header(header))
        if self._view is not None:
            self._view.begin(header)

    @_guarded
    def record(self, row: Statistics) -> None:
        """Record a row, as the controllers see it."""
        self._append(encode_row(row))
        if self._view is not None:
            self._view.row(row)
        self._flush_when_due()

    @_guarded
    def record_update(self, update: Update) -> None:
        """Record an optimizer update that is complete."""
        self._append(encode_update(update))
        if self._view is not None:
            self._view.update(update)

    @_guarded
    def record_update_ratios(self, ratios: UpdateRatios) -> None:
        """Record the update-to-weight ratios of the tensors in the update recorded last."""
        self._append(encode_update_ratios(ratios))
        if self._view is not None:
            self._view.update_ratios(ratios)

    @_guarded
    def record_decisions(self, decisions: Iterable[Decision]) -> None:
        """Record what was decided on the row recorded last."""
        decisions = tuple(decisions)
        for decision in decisions:
            self._append(encode_decision(decision))
        if self._view is not None and decisions:
            self._view.decisions(decisions)

    @_guarded
    def resume(self, step: int, *, rows: int | None = None) -> None:
        """A state was loaded: the run goes on from there, and what was recorded beyond it no longer counts.

        Args:
            step: updates completed in the loaded state.
            rows: rows the controllers had seen in it. A step alone cannot tell an evaluation before the state was
                saved from one after it, nor with a lag which rows were still under way; a count of rows can.
        """
        self._append(encode_resume(Resume(step, rows)))
        if self._view is not None:
            self._view.resume(step)

    @_guarded
    def flush(self) -> None:
        """Bring everything recorded so far to the disk (before a checkpoint is saved, for example)."""
        self._flush()

    def close(self) -> None:
        """Flush and end the trace; what is recorded afterwards is ignored."""
        self._unopened = None  # nothing was written, and nothing will be
        self._close()

    @_guarded
    def _close(self) -> None:
        self._flush()
        finalizer, self._record, self._view = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    def _open(self) -> None:
        assert self._unopened is not None
        (writer, every), self._unopened = self._unopened, None
        try:
            self._open_files(writer, every)
        except Exception as error:
            self._fail(error)

    def _open_files(self, writer: SummaryWriter | None, every: int) -> None:
        if writer is not None and "://" in str(writer.log_dir):
            raise ValueError(f"the exact record needs a directory of this machine, not {writer.log_dir}")
        self._record = AppendFile(self.path)
        try:
            sink = EventFile(self.directory) if writer is None else WriterSink(writer)
            self._view = View(sink, every=every, owned=writer is None)
        except ImportError as error:
            _warn(f"{self.directory}: TensorBoard cannot be imported ({error}); only {RECORD_NAME} is written")
        # Closed when the trace is collected or the interpreter exits, without keeping the trace alive.
        self._finalizer = weakref.finalize(self, _close, self._view, self._record)

    def _append(self, line: str) -> None:
        assert self._record is not None
        self._record.append(line.encode() + b"\n")

    def _flush_when_due(self) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + FLUSH_INTERVAL
            self._flush(wait=False)

    def _flush(self, *, wait: bool = True) -> None:
        assert self._record is not None
        self._record.flush()
        if self._view is not None:
            self._view.flush(wait=wait)

    def _fail(self, error: Exception) -> None:
        files = (self._view, self._record)
        self._view = self._record = None
        if self._finalizer is not None:
            self._finalizer.detach()
        for file in files:
            if file is not None:
                file.abandon()
        _warn(f"{self.directory}: tracing ended, training goes on: {_in_words(error)}")


def open_trace(
    target: str | os.PathLike[str] | SummaryWriter | Trace | None,
    *,
    statistics: Iterable[str] | Literal["all"] = DEFAULT_STATISTICS,
) -> Trace | None:
    """A trace for whatever names one: a directory, a `SummaryWriter`, a `Trace` (itself), or None (no trace).

    Raises:
        TypeError: `target` is none of these.
        ValueError: an unknown statistic.
    """
    if target is None or isinstance(target, Trace):
        return target
    return Trace(target, statistics=statistics)


class _Closable(Protocol):
    def close(self) -> None: ...

    def abandon(self) -> None: ...


def _close(*files: View | AppendFile | None) -> None:
    """Close what a trace wrote to; runs at `close`, on collection, or at exit, and never raises."""
    for file in files:
        try:
            if file is not None:
                file.close()
        except Exception as error:
            _warn(f"the end of a trace could not be written: {_in_words(error)}")


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _is_summary_writer(target: Any) -> bool:
    module = sys.modules.get("torch.utils.tensorboard")  # not imported here: no writer exists before it is
    return module is not None and isinstance(target, module.SummaryWriter)


def _check_directory(path: str) -> None:
    if not path or os.path.isfile(path):
        got = "a file" if path else "an empty path"
        raise ValueError(f"a trace is written to a directory or a SummaryWriter, got {got}: {path!r}")


def _statistics(statistics: Iterable[str] | Literal["all"]) -> frozenset[str]:
    if statistics == "all":
        return MEASURED_STATISTICS
    if isinstance(statistics, str):
        raise ValueError(f'statistics must be "all" or several names, got the string {statistics!r}')
    names = frozenset(statistics)
    if names - MEASURED_STATISTICS:
        raise ValueError(
            f"statistics must be among {sorted(MEASURED_STATISTICS)}, got {sorted(names - MEASURED_STATISTICS)}"
        )
    return names
