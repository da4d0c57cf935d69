"""`adaptive-lr study` as a user meets it: run, status, report; killed, in shards, and with everything wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adaptive_lr.cli import main

HERE = Path(__file__).parent / "study"

STUDY = """
name = "small"
workloads = ["tiny.py:{workload}"]
recipes = ["cosine", "my_recipes.py:SCALED"]
optimizers = ["sgd"]
horizons = [0.5, 1]

[tuning]
budget = ["default", "search-3"]
seeds = 2

[report]
seeds = 3
"""
SHORT = """
name = "small"
workloads = ["tiny.py:Tiny"]
recipes = ["cosine"]
optimizers = ["sgd"]
learning_rates = [1]

[report]
seeds = 2
"""
TUNING, REPORTED = 2 * 2 * 3 * 2, 2 * 2 * 2 * 3
"""Runs of the two phases, where both budgets choose something else."""

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command in a folder that has a study of the tiny workload."""
    monkeypatch.chdir(tmp_path)
    for name in ("tiny.py", "my_recipes.py"):
        (tmp_path / name).write_text((HERE / name).read_text())
    declare(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["study", *map(str, arguments)])


def declare(folder: Path, workload: str = "Tiny", text: str = STUDY) -> None:
    (folder / "study.toml").write_text(text.replace("{workload}", workload))


def run(invoke: Invoke, *arguments: object) -> Result:
    return invoke("run", "study.toml", "--jobs", "1", "--no-report", *arguments)


def outcomes(folder: Path) -> dict[str, object]:
    """What the results of a folder say, without what depends on time and machine."""
    records = [json.loads(path.read_text()) for path in (folder / "results").glob("*.json")]
    return {r["key"]: {k: v for k, v in r.items() if k not in ("seconds", "environment")} for r in records}


def refused(result: Result, *parts: str, code: int = 2) -> None:
    assert result.exit_code == code, result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for part in parts:
        assert part in result.stderr


def test_a_study_is_tuned_and_then_reported_and_gone_on_with(invoke: Invoke, tmp_path: Path) -> None:
    """The second time nothing is done; the choice is the point of least validation loss, the seeds are fresh."""
    first = run(invoke)
    assert first.exit_code == 0, first.output
    out = tmp_path / "runs" / "small"
    records = [json.loads(path.read_text()) for path in (out / "results").glob("*.json")]
    tuning = [record["run"] for record in records if record["run"]["seed"] >= 1000]
    reported = [record["run"] for record in records if record["run"]["seed"] < 1000]
    assert len(tuning) == TUNING
    assert {each["seed"] for each in reported} == {0, 1, 2}
    choices = json.loads((out / "choices.json").read_text())
    assert len(choices) == 2 * 2 * 2
    assert {(c["peak_lr"], c["steps"], c["recipe"]) for c in choices} == {
        (each["peak_lr"], each["steps"], each["recipe"]) for each in reported
    }
    assert len((out / "runs.csv").read_text().splitlines()) == 1 + len(reported)

    written = {path: path.stat().st_mtime_ns for path in (out / "results").glob("*.json")}
    second = run(invoke)
    assert f"{TUNING} of {TUNING} tuning runs are there already" in second.stdout
    assert written == {path: path.stat().st_mtime_ns for path in (out / "results").glob("*.json")}
    status = invoke("status", "study.toml")
    assert f"{len(records)} of {len(records)} runs are there, 0 failed, 0 missing" in status.stdout


def test_the_reports_name_every_recipe_and_choice(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("run", "study.toml", "--jobs", "1")
    assert result.exit_code == 0, result.output
    reports = tmp_path / "runs" / "small" / "reports"
    text = (reports / "choices.md").read_text()
    assert all(name in text for name in ("tiny.py:Tiny", "cosine", "my_recipes.py:SCALED", "search-3", "default"))
    assert len(text.splitlines()) >= 2 + 8
    for budget in ("default", "search-3"):
        tables = "".join(path.read_text() for path in (reports / budget).rglob("*.md"))
        assert "scaled" in tables.lower()
        assert "cosine" in tables
        assert all(path.stat().st_size > 5_000 for path in (reports / budget).rglob("*.pdf"))


def test_a_study_prints_what_to_read_first_and_shows_its_seeds_in_tensorboard(invoke: Invoke, tmp_path: Path) -> None:
    """Of each budget every task and all in one number; a band for each recipe and task that is reported."""
    run(invoke)
    result = invoke("report", "study.toml")
    assert result.exit_code == 0, result.output
    assert all(f"tuned with {budget}" in result.stdout for budget in ("default", "search-3"))
    assert result.stdout.count("2 tasks in one number") == 2
    assert result.stdout.count("tiny, 12 steps") == 2
    folder = tmp_path / "runs" / "small" / "tensorboard-seeds"
    for budget in ("default", "search-3"):
        tuned = {
            path.parent.relative_to(folder / budget).as_posix() for path in (folder / budget / "tuned").rglob("e*")
        }
        assert {run for run in tuned if "cosine" in run} == {f"tuned/tiny-{n}-steps/sgd/cosine" for n in (6, 12)}
        assert len(tuned) == 4


def test_shards_together_are_the_study(invoke: Invoke, tmp_path: Path) -> None:
    """First the tuning of all, then what is reported; the same results as without shards."""
    waiting = [run(invoke, "--shard", f"{number}/3") for number in range(3)]
    assert all(result.exit_code == 0 for result in waiting), waiting[0].output
    assert "tuning runs are still missing" in waiting[0].stdout
    assert "tuning is not done" not in waiting[2].stdout
    for number in range(3):
        assert run(invoke, "--shard", f"{number}/3").exit_code == 0
    assert run(invoke, "--output", "whole").exit_code == 0
    assert outcomes(tmp_path / "runs" / "small") == outcomes(tmp_path / "whole")


def test_after_kill_9_the_same_command_completes_the_study(invoke: Invoke, tmp_path: Path) -> None:
    """What was finished is not done again; that another was killed is said; the results are those of a whole study."""
    declare(tmp_path, "Slow")
    process = subprocess.Popen(
        [sys.executable, "-m", "adaptive_lr.cli", "study", "run", "study.toml", "--jobs", "1", "--no-report"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    results = tmp_path / "runs" / "small" / "results"
    deadline = time.monotonic() + 100
    while len(list(results.glob("*.json"))) < 3:
        assert time.monotonic() < deadline, "the study does not get on"
        time.sleep(0.02)
    refused(run(invoke), "another study is under way", f"process {process.pid}", code=1)
    assert f"under way: process {process.pid}" in invoke("status", "study.toml").stdout
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in results.glob("*.json")}
    assert 3 <= len(kept) < TUNING
    resumed = run(invoke)
    assert resumed.exit_code == 0, resumed.output
    assert f"{len(kept)} of {TUNING} tuning runs are there already" in resumed.stdout
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert not list(results.glob(".*.tmp"))


def test_runs_that_fail_are_listed_at_the_end_and_the_others_are_kept(invoke: Invoke, tmp_path: Path) -> None:
    """A recipe that raises: its runs fail with the reason, the other recipe is tuned and reported."""
    declare(tmp_path, text=STUDY.replace("SCALED", "RAISES"))
    result = run(invoke)
    assert result.exit_code == 1
    assert "runs failed; the same command tries them again" in result.stderr
    assert "ZeroDivisionError" in result.stderr
    assert "Traceback" not in result.output
    choices = json.loads((tmp_path / "runs" / "small" / "choices.json").read_text())
    assert {choice["recipe"] for choice in choices if choice["budget"] == "search-3"} == {"cosine"}
    assert "failed" in invoke("status", "study.toml").stdout


def test_a_study_of_which_everything_fails_says_why(invoke: Invoke, tmp_path: Path) -> None:
    text = 'workloads = ["tiny.py:{workload}"]\nrecipes = ["cosine"]\nlearning_rates = [1]\n[report]\nseeds = 1'
    declare(tmp_path, "TooFewBatches", text)
    refused(run(invoke), "all 2 runs failed", "gave only 3 batches", code=1)


def test_a_message_of_several_lines_is_quoted_from_its_first(invoke: Invoke, tmp_path: Path) -> None:
    text = 'workloads = ["tiny.py:{workload}"]\nrecipes = ["cosine"]\nlearning_rates = [1]\n[report]\nseeds = 1'
    declare(tmp_path, "RaisesLate", text)
    refused(run(invoke), "the first with RuntimeError: out of memory (tracebacks", code=1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("tiny.py:{workload}", "tiny.py:NanAtStart"), "validation loss of nan at initialisation"),
        (("tiny.py:{workload}", "tiny.py:RaisesAtStart"), "raises before its first step: RuntimeError: no such layer"),
        (("tiny.py:{workload}", "nothing.py:X"), "workload file 'nothing.py' does not exist"),
        (("SCALED", "NEEDS_MORE"), "recipe 'needs' needs no_such_module"),
        (('name = "small"', 'name = "../evil"'), "a letter or a digit first; got '../evil'"),
        (("horizons", "horizon"), "unknown key 'horizon' in the file"),
        (('budget = ["default", "search-3"]', "budget = 7"), "`tuning.budget` must be a list of strings, got 7"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    invoke: Invoke, tmp_path: Path, change: tuple[str, str], sentence: str
) -> None:
    declare(tmp_path, text=STUDY.replace(*change))
    refused(run(invoke), sentence)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--shard", "3/3"), "a shard is written i/n with 0 <= i < n, such as 0/8; got '3/3'"),
        (("--engine", "dask"), "engine must be one of serial, joblib, ray, got 'dask'"),
        (("--jobs", "none"), "--jobs must be a number >= 1 or auto, got 'none'"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(invoke: Invoke, arguments: tuple[str, ...], sentence: str) -> None:
    refused(run(invoke, *arguments), sentence)


def test_a_folder_of_another_study_and_a_report_of_nothing_are_refused(invoke: Invoke, tmp_path: Path) -> None:
    refused(invoke("report", "study.toml"), "there is nothing to report", code=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.json").write_text('{"name": "another"}')
    refused(run(invoke, "--output", "out"), "is of the study 'another', not of 'small'")


def test_another_study_that_takes_a_folder_in_use_is_refused_and_loses_nothing(invoke: Invoke, tmp_path: Path) -> None:
    """Another study file that names the same folder: every file there is as it was."""
    declare(tmp_path, text=SHORT)
    assert run(invoke).exit_code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    declare(tmp_path, text=SHORT.replace("small", "other").replace("seeds = 2", "seeds = 1"))
    refused(run(invoke, "--output", "runs/small"), "is of the study 'small', not of 'other': give another --output")
    assert before == {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file()}


def test_a_recipe_that_raises_is_left_out_of_the_paper_and_the_others_are_in_it(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said how many runs failed; a text that quotes the recipe is refused by the name that is not there."""
    monkeypatch.setattr("adaptive_lr.study.study_paper.draw", lambda report, folder: [])
    declare(tmp_path, text=SHORT.replace('["cosine"]', '["cosine", "my_recipes.py:RAISES"]'))
    result = run(invoke)
    assert result.exit_code == 1
    assert "2 runs failed" in result.stderr
    text = tmp_path / "paper" / "main.tex"
    text.parent.mkdir()
    text.write_text(r"\result{runs.failed} failed, \result{tiny.x1.sgd.cosine.loss}")
    result = invoke("paper", "study.toml", "--no-pdf")
    assert result.exit_code == 0, result.output
    assert "2 runs failed; the paper is of the others" in result.stderr
    text.write_text(r"\result{tiny.x1.sgd.raises.loss}")
    result = invoke("paper", "study.toml", "--no-pdf")
    assert result.exit_code == 1
    assert "main.tex:1: no result named 'tiny.x1.sgd.raises.loss'" in result.stderr


def test_a_folder_of_other_things_is_not_cleared_for_a_paper(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adaptive_lr.study.study_paper.draw", lambda report, folder: [])
    declare(tmp_path, text=SHORT)
    assert run(invoke).exit_code == 0
    own = tmp_path / "paper" / "generated" / "by-hand.tex"
    own.parent.mkdir(parents=True)
    own.write_text("a table of my own")
    (tmp_path / "paper" / "main.tex").write_text("nothing quoted")
    refused(invoke("paper", "study.toml"), "holds other files, which would be removed")
    assert own.read_text() == "a table of my own"


def test_without_the_extra_ray_is_refused_in_one_sentence(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(run(invoke, "--engine", "ray"), "ray is not installed", 'pip install "adaptive-lr[ray]"', code=1)


def test_results_of_another_version_are_said_to_be_left_alone(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(tmp_path, text=SHORT)
    with monkeypatch.context() as patch:
        patch.setattr("adaptive_lr.study.run._version", lambda: "0.0.1")
        run(invoke)
    kept = outcomes(tmp_path / "runs" / "small")
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "main.tex").touch()
    sentence = "2 results in runs/small are of another version of adaptive-lr: they are kept, not used"
    assert sentence in invoke("status", "study.toml").stdout
    for command, error in (("report", "there is nothing to report"), ("paper", "2 runs of the study are missing")):
        result = invoke(command, "study.toml")
        assert result.exit_code == 1
        assert result.stderr.splitlines()[0] == f"adaptive-lr: {sentence}"
        assert error in result.stderr.splitlines()[1]
    result = run(invoke)
    assert "2 results in" in result.stdout
    assert "are of another version of adaptive-lr: they are kept, not used" in " ".join(result.stdout.split())
    assert outcomes(tmp_path / "runs" / "small").items() > kept.items()


def test_help_does_not_wait_for_torch() -> None:
    program = (
        "import sys; from adaptive_lr.cli import main\n"
        "try: main(['study', 'run', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip().endswith("[]")
