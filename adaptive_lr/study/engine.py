"""Who carries out the runs: this process, or several with joblib. The results are the same."""

from __future__ import annotations

import os
import signal
import time
import traceback
import warnings
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from adaptive_lr.study.errors import StudyError, require
from adaptive_lr.study.run import Run, RunResult, environment, execute
from adaptive_lr.study.store import ResultStore

Task = tuple[Run, Path | None]
"""A run, and the folder for its trace or None."""


def num_jobs(requested: int | None, num_runs: int) -> int:
    """How many processes to use: as asked for, or one for each core that this process may use."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(requested or available, num_runs))


def execute_all(tasks: Iterable[Task], store: ResultStore, *, jobs: int = 1) -> Generator[RunResult, None, None]:
    """Carry out runs and save each as it ends, by whoever carried it out; yield them in the order they end.

    A run that raises becomes a failed result with its traceback, and the others go on. Close the iterator (or let an
    exception pass through it) to stop: what was finished is on disk, what was not is lost.

    Args:
        tasks: runs and where their traces go.
        store: where results are saved; failed ones too.
        jobs: processes; 1 means this one.

    Raises:
        OSError: a result cannot be saved.
        StudyError: joblib is not installed, or a worker process died.
    """
    if jobs == 1:
        for task in tasks:
            yield _execute_and_save(task, store)
        return
    joblib = require("joblib")
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        # One task at a time: joblib's batches would hold results back, and lose a whole batch with an interruption.
        pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        results = pool(joblib.delayed(_work)(task, store) for task in tasks)
        try:
            yield from results
        except Exception as error:
            if "worker" not in type(error).__name__.lower():  # loky's class is not public
                raise
            raise StudyError(
                "a worker process was killed (out of memory?); run the same command again to go on, "
                "perhaps with fewer --jobs"
            ) from error
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that runs were cancelled is what closing is for
                results.close()


def _work(task: Task, store: ResultStore) -> RunResult:
    # Ctrl-C reaches every process of the terminal. The parent stops the workers; they need not print tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _execute_and_save(task, store)


def _execute_and_save(task: Task, store: ResultStore) -> RunResult:
    result = _attempt(*task)
    store.save(result)
    return result


def _attempt(run: Run, trace: Path | None) -> RunResult:
    started = time.perf_counter()
    try:
        return execute(run, trace=trace)
    except Exception:
        details: dict[str, Any] = {"error": traceback.format_exc(), "environment": environment()}
        return RunResult(run, run.key(), "failed", seconds=time.perf_counter() - started, **details)
