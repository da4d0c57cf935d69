"""Ray: the same results on a real local cluster of two workers, killed ones begun anew. Skipped without the extra."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from adaptive_lr.study import Engine, ResultStore, Run, StudyError
from adaptive_lr.study.engine import execute_all
from adaptive_lr.study.ray_engine import _at_a_time

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='ray is not installed: pip install "adaptive-lr[ray]"'
)

Make = Callable[..., Run]

PROGRAM = """
import json, sys
from pathlib import Path
from adaptive_lr.study import Engine, ResultStore, Run
from adaptive_lr.study.engine import execute_all
runs = [Run(*each) for each in json.loads(sys.argv[1])]
options = json.loads(sys.argv[3])
results = execute_all([(run, None) for run in runs], ResultStore(Path(sys.argv[2])), Engine("ray", **options))
print(json.dumps([result.status for result in results]))
"""
"""A process of its own, as for a user: what Ray leaves behind in one is no other test's business."""


def with_ray(runs: list[Run], folder: Path) -> subprocess.CompletedProcess[str]:
    given = json.dumps([[r.workload, r.optimizer, r.recipe, r.peak_lr, r.seed, r.steps] for r in runs])
    command = [sys.executable, "-c", PROGRAM, given, str(folder), json.dumps({"jobs": 2})]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@needs_ray
def test_two_ray_workers_give_what_one_process_gives_bit_for_bit_and_a_killed_one_is_begun_anew(
    run_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adaptive, diverged and failed runs; one whose worker is killed once, by SIGKILL; one that kills every worker."""
    (tmp_path / "died").mkdir()
    monkeypatch.setenv("TINY_DIED", str(tmp_path / "died"))
    runs = [
        run_of(),
        run_of(recipe="plateau+guarded", optimizer="adamw"),
        run_of(recipe="one-cycle", peak_lr=1e38),
        run_of(workload="RaisesInTraining", seed=0),
        run_of(workload="RaisesInTraining", seed=1),
        run_of(workload="DiesOnce", seed=5),
    ]
    deadly = run_of(workload="DiesInTraining")
    finished = with_ray([deadly, *runs], tmp_path / "ray")
    assert finished.returncode == 0, finished.stderr
    assert len(json.loads(finished.stdout.splitlines()[-1])) == len(runs) + 1
    assert len(list((tmp_path / "died").iterdir())) == 1
    serial, ray = ResultStore(tmp_path / "serial"), ResultStore(tmp_path / "ray")
    list(execute_all([(run, None) for run in runs], serial, Engine("serial")))
    lost = ray.load(deadly.key())
    assert lost is not None
    assert lost.status == "failed"
    assert "its worker was lost 3 times" in lost.error
    for run in runs:
        ours, theirs = serial.load(run.key()), ray.load(run.key())
        assert ours is not None
        assert theirs is not None
        assert ours.status == theirs.status
        if ours.ok:
            assert repr(ours.outcome()) == repr(theirs.outcome())
        else:
            assert "RuntimeError: the data is broken" in theirs.error


def test_a_run_that_the_cluster_can_never_carry_out_is_refused_in_a_sentence() -> None:
    cluster = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0, "memory": 1e9})
    sentence = "the Ray cluster has 2 CPU and 0 GPU; a run was to have 1 CPU and 0.5 GPU"
    with pytest.raises(StudyError, match=sentence):
        _at_a_time(cluster, Engine("ray", gpus=0.5))
    assert _at_a_time(cluster, Engine("ray", cpus=0.5)) == 4
