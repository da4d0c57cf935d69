"""The folder of a study: one at a time, nothing lost, nothing mixed up."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adaptive_lr.study import ResultStore, Run, StudyError, StudyFolder, execute
from adaptive_lr.study.lock import Shard, holders, locked

Make = Callable[..., Run]

HOLD = """
import sys, time
from pathlib import Path
from adaptive_lr.study.lock import Shard, locked
with locked(Path(sys.argv[1]), Shard.parse(sys.argv[2]) if len(sys.argv) > 2 else None):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that holds the folder, or a shard of it."""
    started: list[subprocess.Popen[str]] = []

    def start(*shard: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path), *shard], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_two_processes_do_not_write_one_folder(tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]) -> None:
    """The sentence says which process does."""
    process = hold()
    for shard in (None, Shard(0, 2)):
        sentence = f"another study is under way in .*: process {process.pid} on"
        with pytest.raises(StudyError, match=sentence), locked(tmp_path, shard):
            pytest.fail("held twice")
    assert [f"process {process.pid} on" in holder for holder in holders(tmp_path)] == [True]


def test_a_lock_of_a_killed_process_is_free_and_is_said_to_be_left(
    tmp_path: Path, hold: Callable[..., subprocess.Popen[str]], caplog: pytest.LogCaptureFixture
) -> None:
    process = hold()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert holders(tmp_path) == []
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        assert holders(tmp_path) != []
    assert f"process {process.pid} on" in caplog.text
    assert "did not come to its end" in caplog.text
    caplog.clear()
    with locked(tmp_path):
        pass
    assert caplog.text == ""


def test_shards_of_one_division_share_a_folder(tmp_path: Path, hold: Callable[..., subprocess.Popen[str]]) -> None:
    """But not the same shard twice, not with one that does all, and not with those of another division."""
    process = hold("0/2")
    with locked(tmp_path, Shard(1, 2)):
        assert len(holders(tmp_path)) == 2
    for shard in (Shard(0, 2), None, Shard(1, 3)):
        with pytest.raises(StudyError, match=f"process {process.pid} on"), locked(tmp_path, shard):
            pytest.fail("held twice")


def test_a_folder_is_of_one_study(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "out")
    folder.prepare("mine")
    folder.prepare("mine")
    with pytest.raises(StudyError, match="is of the study 'mine', not of 'yours': give another --output"):
        folder.prepare("yours")
    (tmp_path / "out" / "study.json").write_text("{")
    folder.prepare("yours")
    assert json.loads((tmp_path / "out" / "study.json").read_text()) == {"name": "yours"}


def test_compare_does_not_write_into_the_folder_of_a_study(tmp_path: Path) -> None:
    """Its README and tables would stand beside the study's own; a folder of no study may be used again."""
    StudyFolder(tmp_path / "compared").prepare()
    StudyFolder(tmp_path / "compared").prepare()
    StudyFolder(tmp_path / "study").prepare("mine")
    with pytest.raises(StudyError, match="is of the study 'mine': give another --output"):
        StudyFolder(tmp_path / "study").prepare()


def test_results_of_another_version_are_counted_with_the_reason_and_left_alone(
    run_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path)
    folder.prepare()
    runs = [run_of(seed=seed) for seed in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr("adaptive_lr.study.run._version", lambda: "0.0.1")
        for run in runs:
            folder.store.save(execute(run))
    (tmp_path / "results" / "noise.json").write_text("{")
    before = {path: path.read_bytes() for path in (tmp_path / "results").glob("*.json")}
    assert folder.outdated(runs) == {"another version of adaptive-lr": 2}
    assert folder.outdated([run_of(seed=7)]) == {}
    assert folder.known(runs) == {}
    folder.store.save(execute(runs[0]))
    assert len(folder.known(runs)) == 1
    assert all(path.read_bytes() == contents for path, contents in before.items())


def test_a_project_that_was_moved_keeps_its_results(tmp_path: Path) -> None:
    """The same file under another path is the same workload, and a result is found under the run that asks for it."""
    text = (Path(__file__).parent / "tiny.py").read_text()
    runs = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "tiny.py").write_text(text)
        runs.append(Run(f"{tmp_path / place}/tiny.py:Tiny", "sgd", "cosine", 0.1, 0, 5))
    folder = StudyFolder(tmp_path / "out")
    folder.store.save(execute(runs[0]))
    (found,) = folder.finished([runs[1]]).values()
    assert found.run == runs[1]


def test_half_written_files_of_processes_that_are_gone_are_removed_and_others_are_not(tmp_path: Path) -> None:
    import socket

    finished = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    host = socket.gethostname()
    gone = tmp_path / f".abc.json.{host}.{finished.stdout.strip()}.tmp"
    here = tmp_path / f".abc.json.{host}.{os.getpid()}.tmp"
    elsewhere = tmp_path / ".abc.json.another-host.1.tmp"
    for path in (gone, here, elsewhere):
        path.touch()
    ResultStore(tmp_path).tidy()
    assert not gone.exists()
    assert here.exists()
    assert elsewhere.exists()


def test_a_result_says_what_it_was_made_from(run_of: Make, tmp_path: Path) -> None:
    """Configuration, versions, seeds and time; and it is read back exactly."""
    run = run_of(recipe="cosine+guarded", settings=(("warmup_share", 0.2),))
    result = execute(run)
    folder = StudyFolder(tmp_path)
    folder.store.save(result)
    assert folder.store.load(result.key) == result
    record = json.loads(folder.store.path(result.key).read_text())
    assert record["configuration"]["settings"] == {"warmup_share": 0.2}
    assert record["configuration"]["recipe_identity"]["controllers"]["source"]
    assert {"python", "torch", "numpy", "scipy", "adaptive_lr", "seeds", "finished"} <= record["environment"].keys()
    assert record["seconds"] > 0
    assert time.strptime(record["environment"]["finished"], "%Y-%m-%dT%H:%M:%SZ")


def test_tensorboard_runs_stay_in_the_folder_whatever_their_optimizer_is_called(tmp_path: Path) -> None:
    """One of your own is a reference to a file, which may be anywhere."""
    run = Run("digits", f"{tmp_path}/elsewhere/mine.py:LION", "cosine", 0.1, 0, 10)
    assert StudyFolder(tmp_path / "study").trace_path(run) == tmp_path.joinpath(
        "study", "tensorboard", "LION", "cosine", "peak-lr=0.1"
    )
