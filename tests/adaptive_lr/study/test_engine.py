"""Engines: the same results whoever carries out the runs, failures kept apart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from adaptive_lr.study import ResultStore, Run, StudyError
from adaptive_lr.study.engine import execute_all, num_jobs

Make = Callable[..., Run]


def test_processes_give_what_one_process_gives_bit_for_bit(run_of: Make, tmp_path: Path) -> None:
    """Every recipe kind, diverged runs included."""
    runs = [
        run_of(recipe=recipe, optimizer=optimizer, peak_lr=peak)
        for recipe in ("one-cycle", "plateau+guarded")
        for optimizer in ("sgd", "adamw")
        for peak in (0.01, 1e38)
    ]
    found = []
    for jobs in (1, 2):
        store = ResultStore(tmp_path / str(jobs))
        yielded = {result.run for result in execute_all([(run, None) for run in runs], store, jobs=jobs)}
        assert yielded == set(runs)
        found.append([store.load(run.key()) for run in runs])
    serial, parallel = found
    assert [repr(result.outcome()) for result in serial] == [repr(result.outcome()) for result in parallel]  # type: ignore[union-attr]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_raises_becomes_a_failed_result_and_others_go_on(run_of: Make, tmp_path: Path, jobs: int) -> None:
    store = ResultStore(tmp_path)
    runs = [run_of(workload="RaisesInTraining", seed=seed) for seed in range(6)]
    results = {result.run: result for result in execute_all([(run, None) for run in runs], store, jobs=jobs)}
    failed = [result for result in results.values() if not result.ok]
    assert len(results) == 6
    assert 0 < len(failed) < 6
    assert all("RuntimeError: the data is broken" in result.error for result in failed)
    assert all(store.load(run.key()) == results[run] for run in runs)


def test_a_worker_that_is_killed_is_reported_in_one_sentence(run_of: Make, tmp_path: Path) -> None:
    """And what was finished before stays."""
    store = ResultStore(tmp_path)
    runs = [run_of(), run_of(workload="DiesInTraining"), run_of(workload="DiesInTraining", seed=1)]
    list(execute_all([(runs[0], None)], store))
    with pytest.raises(StudyError, match="worker process was killed"):
        list(execute_all([(run, None) for run in runs[1:]], store, jobs=2))
    assert store.load(runs[0].key()) is not None


def test_closing_early_keeps_what_was_finished(run_of: Make, tmp_path: Path) -> None:
    """In this process; for several, see the test of Ctrl-C on the command line."""
    store = ResultStore(tmp_path)
    runs = [run_of(seed=seed, workload="Slow") for seed in range(12)]
    with closing(execute_all([(run, None) for run in runs], store)) as results:
        first = next(results)
    assert store.load(first.key) == first
    finished = sum(store.load(run.key()) is not None for run in runs)
    assert 1 <= finished < 12


def test_the_number_of_processes_is_bounded_by_the_work() -> None:
    assert num_jobs(8, 3) == 3
    assert num_jobs(2, 100) == 2
    assert num_jobs(None, 0) == 1
    assert num_jobs(None, 10_000) >= 1
