"""What a study says while it runs: a bar with the time left in a terminal, a line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from adaptive_lr.study.errors import StudyError, require
from adaptive_lr.study.run import RunResult

PIPE_WIDTH = 120
"""Characters in a line where the output is no terminal."""


class InterruptedStudyError(StudyError):
    """The user stopped the study."""


def make_console() -> Any:
    """A rich console as wide as its terminal, or wide enough for the tables in a pipe or a file."""
    console_class = require("rich.console").Console
    console = console_class()
    # Into a pipe or a file rich assumes 80 columns, although there is no edge.
    return console if console.is_terminal else console_class(width=PIPE_WIDTH)


def with_progress(console: Any, results: Iterator[RunResult], total: int) -> Iterator[RunResult]:
    """Pass results through, with a bar that shows how many are done, how many failed, and the time left."""
    if total == 0:
        return
    if not console.is_terminal:
        yield from _with_lines(console, results, total)
        return
    progress = require("rich.progress")
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    num_failed = 0
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("runs", total=total)
        for result in results:
            num_failed += not result.ok
            description = "runs" if not num_failed else f"runs ([red]{num_failed} failed[/red])"
            bar.update(task, advance=1, description=description)
            yield result


def _with_lines(console: Any, results: Iterator[RunResult], total: int) -> Iterator[RunResult]:
    """Pass results through, with a line at every tenth: a bar is of no use in a log."""
    num_failed, started = 0, time.monotonic()
    for done, result in enumerate(results, start=1):
        num_failed += not result.ok
        if done == total or done * 10 // total > (done - 1) * 10 // total:
            passed = time.monotonic() - started
            left = f", about {duration(passed / done * (total - done))} left" if done < total else ""
            console.print(f"{done} of {total} runs" + (f", {num_failed} failed" if num_failed else "") + left)
        yield result


def duration(seconds: float) -> str:
    """A time in words, to two places that matter."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
