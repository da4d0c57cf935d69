"""Runs on a Ray cluster: the one that is named or running, or one that is started on this machine."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from adaptive_lr.study.errors import StudyError, require
from adaptive_lr.study.run import Run, RunResult

if TYPE_CHECKING:
    from adaptive_lr.study.engine import Engine, Task
    from adaptive_lr.study.store import ResultStore

RETRIES = 2
"""How often Ray begins a run anew whose process or machine was lost."""

OBJECT_STORE = 200_000_000
"""Bytes that a cluster on this machine keeps for results on their way; by default it takes 30 % of the memory."""

AHEAD = 2
"""Runs handed over for each that can go on at a time: workers do not wait, and little is queued if all is stopped."""


def execute_with_ray(tasks: Sequence[Task], store: ResultStore, engine: Engine) -> Iterator[RunResult]:
    """Carry out runs as Ray tasks. Results travel back and are saved here: workers need not share the disk.

    No traces are written: workers may be on other machines.

    Raises:
        StudyError: Ray is not installed or cannot be reached, or the cluster can never carry out a run.
        OSError: a result cannot be saved.
    """
    ray = require("ray", extra="ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about its future defaults
        started = _connect(ray, engine)
        try:
            yield from _execute(ray, [run for run, _ in tasks], store, engine)
        finally:
            if started:
                ray.shutdown()


def _connect(ray: Any, engine: Engine) -> bool:
    """Join a cluster; returns whether it must be left again."""
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "include_dashboard": False}
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        else:
            from adaptive_lr.study.engine import num_jobs

            ray.init(num_cpus=num_jobs(engine.jobs, 1_000_000), object_store_memory=OBJECT_STORE, **quiet)
    except Exception as error:
        where = f"reach the Ray cluster at {address}" if address else "start Ray on this machine"
        raise StudyError(f"cannot {where}: {str(error).splitlines()[0]}") from error
    return True


def _execute(ray: Any, runs: Sequence[Run], store: ResultStore, engine: Engine) -> Iterator[RunResult]:
    from adaptive_lr.study.engine import failure

    work = ray.remote(num_cpus=engine.cpus, num_gpus=engine.gpus, max_retries=RETRIES)(_work)
    folder = os.getcwd()
    waiting = iter(runs)
    under_way: dict[Any, Run] = {}
    ahead = AHEAD * _at_a_time(ray, engine)
    try:
        while True:
            for run in islice(waiting, ahead - len(under_way)):
                under_way[work.remote(run, folder)] = run
            if not under_way:
                return
            ready, _ = ray.wait(list(under_way), num_returns=1)
            for reference in ready:
                run = under_way.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().splitlines()[0]
                    result = failure(run, f"its worker was lost {RETRIES + 1} times: {type(error).__name__}: {reason}")
                store.save(result)
                yield result
    finally:
        for reference in under_way:
            ray.cancel(reference, force=True)


def _at_a_time(ray: Any, engine: Engine) -> int:
    """How many runs the cluster can carry out at a time.

    Raises:
        StudyError: not a single one.
    """
    there = ray.cluster_resources()
    needed = {name: amount for name, amount in (("CPU", engine.cpus), ("GPU", engine.gpus)) if amount > 0.0}
    fits = min(int(there.get(name, 0.0) / amount) for name, amount in needed.items())
    if fits < 1:
        asked = " and ".join(f"{amount:g} {name}" for name, amount in needed.items())
        raise StudyError(f"the Ray cluster has {there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU; "
                         f"a run was to have {asked}")  # fmt: skip
    return fits


def _work(run: Run, folder: str) -> RunResult:
    from adaptive_lr.study.engine import attempt

    if os.path.isdir(folder):  # references to files are seen from there
        os.chdir(folder)
    return attempt(run)
