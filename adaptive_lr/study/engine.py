"""Who carries out the runs: this process, several with joblib, or a Ray cluster. The results are the same."""

from __future__ import annotations

import os
import signal
import time
import traceback
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive_lr.study.errors import StudyError, require
from adaptive_lr.study.run import Run, RunResult, environment, execute
from adaptive_lr.study.store import ResultStore

Task = tuple[Run, Path | None]
"""A run, and the folder for its trace or None."""

ENGINES = ("serial", "joblib", "ray")

KILLED = "its worker process was killed twice, the second time with no other run beside it (out of memory?)"


@dataclass(frozen=True)
class Engine:
    """Who carries out runs, and with what.

    Args:
        name: one of `ENGINES`. joblib (loky) is several processes of this machine; with one job it is serial. ray is
            the cluster that `RAY_ADDRESS` names, or one that is started on this machine.
        jobs: processes, >= 1; None: one for each core. A cluster that is there already knows its own size.
        cpus: cores that a run takes of a Ray cluster, >= 0. A run has one thread, whatever this says.
        gpus: GPUs that a run takes of a Ray cluster, >= 0; a fraction shares one.

    Raises:
        StudyError: something is unknown or out of range.
    """

    name: str = "joblib"
    jobs: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise StudyError(f"engine must be one of {', '.join(ENGINES)}, got {self.name!r}")
        if self.jobs is not None and self.jobs < 1:
            raise StudyError(f"jobs must be >= 1, got {self.jobs}")
        if not (self.cpus >= 0.0 and self.gpus >= 0.0 and self.cpus + self.gpus > 0.0):
            raise StudyError(f"a run must take some cores or GPUs, got cpus={self.cpus:g}, gpus={self.gpus:g}")

    def require(self) -> None:
        """Make sure that what carries out runs is installed.

        Raises:
            StudyError: it is not; the sentence says which extra brings it.
        """
        if self.name == "joblib" and self.jobs != 1:
            require("joblib")
        elif self.name == "ray":
            require("ray", extra="ray")


def num_jobs(requested: int | None, num_runs: int) -> int:
    """How many processes to use: as asked for, or one for each core that this process may use."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(requested or available, num_runs))


def execute_all(
    tasks: Iterable[Task], store: ResultStore, engine: Engine | None = None
) -> Generator[RunResult, None, None]:
    """Carry out runs and save each as it ends; yield them in the order they end.

    A run that raises, or whose process is killed (twice, the second time alone), becomes a failed result with the
    reason, and the others go on. Close the iterator (or let an exception pass through it) to stop: what was finished
    is on disk, what was not is lost.

    Args:
        tasks: runs and where their traces go.
        store: where results are saved; failed ones too.
        engine: who carries them out; None: this process.

    Raises:
        OSError: a result cannot be saved.
        StudyError: what the engine needs is not installed or not there.
    """
    engine = engine or Engine("serial")
    listed = list(tasks)
    if engine.name == "ray":
        from adaptive_lr.study.ray_engine import execute_with_ray

        yield from execute_with_ray(listed, store, engine)
        return
    jobs = 1 if engine.name == "serial" else num_jobs(engine.jobs, len(listed))
    if jobs == 1:
        for task in listed:
            yield _execute_and_save(task, store)
    else:
        yield from _with_joblib(listed, store, jobs)


def attempt(run: Run, trace: Path | None = None) -> RunResult:
    """Carry out a run; if it raises, the result is a failed one."""
    started = time.perf_counter()
    try:
        return execute(run, trace=trace)
    except Exception:
        return failure(run, traceback.format_exc(), seconds=time.perf_counter() - started)


def failure(run: Run, error: str, *, seconds: float = 0.0) -> RunResult:
    """The result of a run that came to nothing."""
    return RunResult(run, run.key(), "failed", seconds=seconds, error=error, environment=environment())


class _WorkerDiedError(Exception):
    """One of several processes is gone, and joblib has given up on them all."""


def _with_joblib(tasks: list[Task], store: ResultStore, jobs: int) -> Iterator[RunResult]:
    while tasks:
        begun: list[Task] = []
        ended: set[Run] = set()
        try:
            for result in _pool(tasks, store, jobs, begun):
                ended.add(result.run)
                yield result
            return
        except _WorkerDiedError:
            # One of those begun did it, and took the others with it. Alone, the guilty one shows itself.
            suspects = [task for task in begun if task[0] not in ended]
            tasks = [task for task in tasks if task[0] not in ended and task not in suspects]
            for task in suspects:
                yield _alone(task, store)


def _alone(task: Task, store: ResultStore) -> RunResult:
    """Carry out a run in a process with no other beside it, unless it was finished after all."""
    run = task[0]
    known = store.load(run.key())
    if known is not None and known.ok:
        return known
    try:
        (result,) = _pool([task], store, 2, [])
    except _WorkerDiedError:
        result = failure(run, KILLED)
        store.save(result)
    return result


def _pool(tasks: Sequence[Task], store: ResultStore, jobs: int, begun: list[Task]) -> Iterator[RunResult]:
    """Carry out runs in processes; `begun` is told which ones were handed over."""
    joblib = require("joblib")

    def handed_over() -> Iterator[Any]:
        for task in tasks:
            begun.append(task)
            yield joblib.delayed(_work)(task, store)

    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        # One task at a time: joblib's batches would hold results back, and lose a whole batch with an interruption.
        pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        results = pool(handed_over())
        try:
            yield from results
        except Exception as error:
            if "worker" not in type(error).__name__.lower():  # loky's class is not public
                raise
            raise _WorkerDiedError from error
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that runs were cancelled is what closing is for
                results.close()


def _work(task: Task, store: ResultStore) -> RunResult:
    # Ctrl-C reaches every process of the terminal. The parent stops the workers; they need not print tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _execute_and_save(task, store)


def _execute_and_save(task: Task, store: ResultStore) -> RunResult:
    result = attempt(*task)
    store.save(result)
    return result
