"""Engines: the same results whoever carries out the runs, failures kept apart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from adaptive_lr.study import ResultStore, Run
from adaptive_lr.study.engine import Engine, execute_all, num_jobs

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
        yielded = {result.run for result in execute_all([(run, None) for run in runs], store, Engine(jobs=jobs))}
        assert yielded == set(runs)
        found.append([store.load(run.key()) for run in runs])
    serial, parallel = found
    assert [repr(result.outcome()) for result in serial] == [repr(result.outcome()) for result in parallel]  # type: ignore[union-attr]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_raises_becomes_a_failed_result_and_others_go_on(run_of: Make, tmp_path: Path, jobs: int) -> None:
    store = ResultStore(tmp_path)
    runs = [run_of(workload="RaisesInTraining", seed=seed) for seed in range(6)]
    results = {result.run: result for result in execute_all([(run, None) for run in runs], store, Engine(jobs=jobs))}
    failed = [result for result in results.values() if not result.ok]
    assert len(results) == 6
    assert 0 < len(failed) < 6
    assert all("RuntimeError: the data is broken" in result.error for result in failed)
    assert all(store.load(run.key()) == results[run] for run in runs)


def test_a_run_whose_worker_is_killed_once_is_done_again(
    run_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with SIGKILL, as by the kernel; every run has its result, the same as if nothing had happened."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)  # new workers, which know the variable below
    (tmp_path / "died").mkdir()
    monkeypatch.setenv("TINY_DIED", str(tmp_path / "died"))
    runs = [run_of(workload="DiesOnce" if seed == 2 else "Tiny", seed=seed) for seed in range(5)]
    store = ResultStore(tmp_path / "results")
    results = list(execute_all([(run, None) for run in runs], store, Engine(jobs=2)))
    assert len(list((tmp_path / "died").iterdir())) == 1
    assert {result.run: result.status for result in results} == dict.fromkeys(runs, "completed")
    assert len(results) == 5
    again = list(execute_all([(runs[2], None)], ResultStore(tmp_path / "again")))
    killed = next(result for result in results if result.run == runs[2])
    assert killed.outcome() == again[0].outcome()


def test_a_run_that_kills_every_worker_fails_with_the_reason_and_the_others_go_on(run_of: Make, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    runs = [run_of(workload="DiesInTraining" if seed in (0, 3) else "Tiny", seed=seed) for seed in range(6)]
    results = {result.run: result for result in execute_all([(run, None) for run in runs], store, Engine(jobs=2))}
    assert [results[run].status for run in runs] == ["failed", *["completed"] * 2, "failed", *["completed"] * 2]
    assert "its worker process was killed twice" in results[runs[0]].error
    assert all(store.load(run.key()) == results[run] for run in runs)


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
