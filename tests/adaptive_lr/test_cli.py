"""The command line as a user meets it: the main job, resuming, and every kind of bad input."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from adaptive_lr import AdaptiveLR
from adaptive_lr.cli import main
from interruptible import interruptible
from laws import Script

TINY = Path(__file__).parent / "study" / "tiny.py"
SMALL = ("--lr", "0.1", "--lr", "1", "--seeds", "2", "--jobs", "1")

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command in an empty folder; the output goes to `out` there."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def compare(invoke: Invoke, *arguments: object, workload: str = "Tiny") -> Result:
    return invoke("compare", "--workload", f"{TINY}:{workload}", "--output", "out", *SMALL, *arguments)


def outcomes(folder: Path) -> dict[str, object]:
    """What the results of a folder say, without what depends on time and machine."""
    records = [json.loads(path.read_text()) for path in (folder / "results").glob("*.json")]
    return {r["key"]: {k: v for k, v in r.items() if k not in ("seconds", "environment")} for r in records}


def refused(result: Result, *parts: str, code: int = 2) -> None:
    """One sentence on stderr, no traceback, the exit code of bad input."""
    assert result.exit_code == code, result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.stderr


# ---------------------------------------------------------------- the main job


def test_compare_leaves_a_folder_with_everything_in_it(invoke: Invoke, tmp_path: Path) -> None:
    """Tables that name every recipe, a figure, a record for each run, TensorBoard runs, a README that lists them."""
    from adaptive_lr.study import COMPARED, OPTIMIZERS

    result = compare(invoke)
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    table = (out / "table.md").read_text()
    for recipe in COMPARED:
        assert f"| {recipe} |" in table
        assert recipe in result.stdout
    lines = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert len(lines) == len(COMPARED) * len(OPTIMIZERS) * 2
    assert len(list((out / "results").glob("*.json"))) == len(lines) * 2
    assert (out / "figure.png").stat().st_size > 10_000
    assert (out / "figure.pdf").stat().st_size > 5_000
    assert (out / "figure-error.png").stat().st_size > 10_000
    readme = (out / "README.md").read_text()
    assert all(name in readme for name in ("table.md", "table.csv", "figure.pdf", "figure-error.pdf", "results/"))
    for optimizer in OPTIMIZERS:
        for recipe in COMPARED:
            for peak in ("0.1", "1"):
                assert list((out / "tensorboard" / optimizer / recipe / f"peak-lr={peak}").glob("events.out.*"))


def test_tensorboard_shows_the_same_curves_for_fixed_and_adaptive_runs(invoke: Invoke, tmp_path: Path) -> None:
    """Under the same tags, so that TensorBoard draws them in one chart."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    compare(invoke, "--recipe", "cosine", "--recipe", "cosine+guarded", "--optimizer", "sgd")
    tags = {}
    for recipe in ("cosine", "cosine+guarded"):
        events = EventAccumulator(str(tmp_path / "out" / "tensorboard" / "sgd" / recipe / "peak-lr=0.1"))
        events.Reload()
        tags[recipe] = set(events.Tags()["scalars"])
    shared = {tag for tag in tags["cosine"] if tag.startswith(("lr/", "loss/"))}
    assert len(shared) >= 3
    assert shared <= tags["cosine+guarded"]


def test_compare_takes_an_optimizer_and_a_recipe_of_ones_own(invoke: Invoke, tmp_path: Path) -> None:
    """By reference, as the help says; tables and figures name them."""
    own = TINY.with_name("my_recipes.py")
    result = compare(invoke, "--optimizer", f"{own}:LION", "--recipe", "cosine", "--recipe", f"{own}:SCALED")
    assert result.exit_code == 0, result.output
    table = (tmp_path / "out" / "table.md").read_text()
    assert "sign descent" in table
    assert (tmp_path / "out" / "figure.png").exists()


def test_compare_works_without_accuracy_and_without_tensorboard(invoke: Invoke, tmp_path: Path) -> None:
    result = compare(invoke, "--recipe", "step", "--recipe", "step+guarded", "--no-tensorboard", workload="NoAccuracy")
    assert result.exit_code == 0, result.output
    assert "test loss" in (tmp_path / "out" / "table.md").read_text()
    assert not (tmp_path / "out" / "figure-error.png").exists()
    assert "figure-error" not in (tmp_path / "out" / "README.md").read_text()
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_a_second_time_nothing_is_done_again_and_the_tables_are_the_same(invoke: Invoke, tmp_path: Path) -> None:
    arguments = ("--recipe", "cosine", "--recipe", "cosine+guarded", "--optimizer", "sgd")
    compare(invoke, *arguments)
    table = (tmp_path / "out" / "table.csv").read_bytes()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}
    second = compare(invoke, *arguments)
    assert "All 8 runs are there already" in second.stdout
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}
    assert (tmp_path / "out" / "table.csv").read_bytes() == table


def test_a_study_can_be_widened(invoke: Invoke, tmp_path: Path) -> None:
    """More seeds or rates: only the new runs are carried out."""
    arguments = ("--recipe", "cosine", "--optimizer", "sgd")
    compare(invoke, *arguments)
    assert "4 of 6 runs are there already" in compare(invoke, *arguments, "--lr", "0.01").stdout


def test_a_damaged_result_is_done_again_and_the_others_are_not(invoke: Invoke, tmp_path: Path) -> None:
    arguments = ("--recipe", "cosine", "--optimizer", "sgd")
    compare(invoke, *arguments)
    before = outcomes(tmp_path / "out")
    victim = next((tmp_path / "out" / "results").glob("*.json"))
    victim.write_text(victim.read_text()[:100])
    assert "3 of 4 runs are there already" in compare(invoke, *arguments).stdout
    assert outcomes(tmp_path / "out") == before


def test_a_workload_finds_its_neighbours_from_any_folder(tmp_path: Path) -> None:
    """By the installed command: modules beside the file first, then those where the command is run."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "my_data.py").write_text("SEED = 0\n")
    (elsewhere / "my_data.py").write_text("raise ImportError('the wrong one')\n")
    (elsewhere / "my_model.py").write_text(
        f"import sys\nsys.path.append({str(TINY.parent)!r})\nfrom tiny import Tiny\n"
    )
    (project / "mine.py").write_text("import my_data\nfrom my_model import Tiny as Mine\n")
    command = Path(sys.executable).with_name("adaptive-lr")
    arguments = ["compare", "--workload", "../project/mine.py:Mine", *SMALL, "--recipe", "cosine", "--no-tensorboard"]
    finished = subprocess.run([command, *arguments], cwd=elsewhere, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


# ---------------------------------------------------------------- interruption


SLOW = ("compare", "--workload", f"{TINY}:Slow", "--output", "out", "--lr", "0.1", "--seeds", "6",
        "--recipe", "cosine", "--recipe", "cosine+guarded", "--optimizer", "sgd")  # fmt: skip


def start(tmp_path: Path, *, jobs: str = "1") -> subprocess.Popen[str]:
    return subprocess.Popen(
        interruptible(*SLOW, "--jobs", jobs),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as a terminal gives to a command
    )


def wait_for_results(tmp_path: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out" / "results").glob("*.json"))) < number:
        assert time.monotonic() < deadline, "the study does not get on"
        time.sleep(0.02)


def test_after_kill_9_the_same_command_completes_the_study(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished is kept and not done again; the union is that of a study that was never interrupted."""
    process = start(tmp_path)
    wait_for_results(tmp_path, 3)
    process.kill()
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").glob("*.json")}
    assert 3 <= len(kept) < 12
    resumed = invoke(*SLOW, "--jobs", "1")
    assert f"{len(kept)} of 12 runs are there already" in resumed.stdout, resumed.output
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    assert not list((tmp_path / "out" / "results").glob("*.tmp"))

    whole = tmp_path / "whole"
    whole.mkdir()
    monkeypatch.chdir(whole)
    invoke(*SLOW, "--jobs", "1")
    assert len(outcomes(whole / "out")) == 12
    assert outcomes(whole / "out") == outcomes(tmp_path / "out")
    assert (whole / "out" / "table.csv").read_bytes() == (tmp_path / "out" / "table.csv").read_bytes()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path, jobs: str) -> None:
    """One sentence, the exit code of an interruption, no traceback from any process, finished runs kept."""
    process = start(tmp_path, jobs=jobs)
    wait_for_results(tmp_path, 2)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "run the same command again to go on" in stderr
    assert "Traceback" not in stderr
    assert 2 <= len(outcomes(tmp_path / "out")) < 12


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--recipe", "cosinus"), "unknown recipe 'cosinus'; known: cosine, cosine+guarded, automatic, one-cycle"),
        (("--optimizer", "lion"), "unknown optimizer 'lion'; known: sgd, adamw"),
        (("--lr", "0"), "learning rates must be finite and > 0, got 0.0"),
        (("--lr", "-1"), "learning rates must be finite and > 0, got -1.0"),
        (("--lr", "nan"), "learning rates must be finite and > 0, got nan"),
        (("--lr", "inf"), "learning rates must be finite and > 0, got inf"),
        (("--lr", "fast"), "'fast' is not a valid float"),
        (("--seeds", "0"), "seeds must be >= 1, got 0"),
        (("--recipe", "step", "--recipe", "step"), "recipes must differ from each other, got 'step' 2 times"),
        (("--workload", f"{TINY}:Nothing"), "tiny.py has no 'Nothing'"),
        (("--steps", "0"), "steps must be >= 1, got 0"),
        (("--jobs", "0"), "--jobs must be >= 1 or auto, got 0"),
        (("--jobs", "many"), "--jobs must be a number >= 1 or auto, got 'many'"),
        (("--workload", "nonsense"), "unknown workload 'nonsense'; known: digits"),
        (("--workload", "nothing.py:Mine"), "workload file 'nothing.py' does not exist"),
        (("--no-such-option",), "No such option"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(invoke: Invoke, arguments: tuple[str, ...], sentence: str) -> None:
    result = compare(invoke, *arguments)
    refused(result, sentence)


@pytest.mark.parametrize(
    ("workload", "sentence"),
    [
        ("NanAtStart", "validation loss of nan at initialisation"),
        ("RaisesAtStart", "RuntimeError: no such layer"),
        ("RaisesInConstructor", "FileNotFoundError: data.csv"),
        ("Incomplete", "lacks evaluation_interval"),
    ],
)
def test_a_broken_workload_is_refused_before_any_work(
    invoke: Invoke, tmp_path: Path, workload: str, sentence: str
) -> None:
    refused(compare(invoke, workload=workload), sentence)
    assert not (tmp_path / "out").exists()


def test_runs_that_fail_are_listed_at_the_end_and_tried_again(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are finished and reported; the exit code says that some failed; when mended, only those are done."""
    arguments = ("--recipe", "cosine", "--optimizer", "sgd", "--seeds", "4")
    first = compare(invoke, *arguments, workload="RaisesInTraining")
    assert first.exit_code == 1
    assert "runs failed; the same command tries them again" in first.stderr
    assert "cosine with sgd at peak LR 0.1, seed" in first.stderr
    assert "RuntimeError: the data is broken" in first.stderr
    assert "Traceback" not in first.output
    assert (tmp_path / "out" / "table.md").exists()
    failed = [record for record in outcomes(tmp_path / "out").values() if record["status"] == "failed"]  # type: ignore[index]
    assert failed

    (tmp_path / "mended").touch()
    monkeypatch.setenv("TINY_MENDED", str(tmp_path / "mended"))
    second = compare(invoke, *arguments, workload="RaisesInTraining")
    assert second.exit_code == 0, second.output
    assert f"{8 - len(failed)} of 8 runs are there already" in second.stdout


def test_the_help_says_what_exit_codes_mean(invoke: Invoke) -> None:
    """As they are in the tests above: bad input is told from failed runs."""
    text = invoke("--help").stdout
    assert "1    runs failed" in text
    assert "2    an option, a file" in text


def test_a_study_in_which_every_run_fails_says_why(invoke: Invoke) -> None:
    result = compare(invoke, "--recipe", "cosine", "--steps", "5", workload="TooFewBatches")
    refused(result, "runs failed", "gave only 3 batches", code=1)


def test_an_output_that_is_a_file_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    refused(compare(invoke), "cannot write to output folder 'out': Not a directory")
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_without_permission_is_refused(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the refusal is the system's answer, put in its mouth."""

    def deny(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", deny)
    refused(compare(invoke), "cannot write to output folder 'out': Permission denied")


def test_a_disk_that_fills_up_is_one_sentence_and_loses_nothing(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptive_lr.study.store import ResultStore

    save = ResultStore.save

    def fill(self: ResultStore, result: object) -> None:
        if len(list(self.directory.glob("*.json"))) >= 3:
            raise OSError(28, "No space left on device", str(self.directory))
        save(self, result)  # type: ignore[arg-type]

    monkeypatch.setattr(ResultStore, "save", fill)
    refused(compare(invoke, "--recipe", "cosine"), "No space left on device", code=1)
    assert len(outcomes(tmp_path / "out")) == 3


@pytest.mark.parametrize("module", ["rich", "joblib", "matplotlib", "sklearn"])
def test_a_missing_extra_is_named_with_what_to_install(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Found before any work is done."""
    from adaptive_lr.study.workload import load_workload

    load_workload.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    result = invoke("compare", "--jobs", "2", "--steps", "1")
    refused(result, f"{module} is not installed", 'pip install "adaptive-lr[compare]"', code=1)


# ---------------------------------------------------------------- plot, explain, help


def test_plot_draws_schedules(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("plot", "cosine", "one_cycle(pct_start=0.3)", "--steps", 100, "--output", "picture.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_plot_takes_the_names_of_recipes_for_a_schedule(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anywhere in a chain; names of which they are a part are left alone."""
    from adaptive_lr import schedules

    drawn: dict[str, object] = {}
    monkeypatch.setattr(schedules, "draw", lambda chosen, steps, output: drawn.update(chosen))
    texts = ("wsd", "one-cycle(pct_start=0.4)", "warmup(steps=10).then(wsd)")
    result = invoke("plot", *texts, "--steps", 100)
    assert result.exit_code == 0, result.output
    own_names = ("warmup_stable_decay", "one_cycle(pct_start=0.4)", "warmup(steps=10).then(warmup_stable_decay)")
    assert list(drawn.values()) == [schedules.from_text(text, total_steps=100) for text in own_names]
    refused(invoke("plot", "my-wsd"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("no_such_schedule",),
        ("cosine(",),
        ("cosine(no_such_argument=1)",),
        ("one_cycle(pct_start=7)",),
        ("cosine", "--steps", "0"),
        ("cosine", "--output", "/dev/null/picture.png"),
        ("cosine", "--output", "picture.nonsense"),
        ("cosine", "--output", "picture"),
        (),
    ],
)
def test_plot_refuses_bad_input_in_one_sentence(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    refused(invoke("plot", *arguments))


def test_explain_tells_the_story_of_a_run_of_the_study(invoke: Invoke) -> None:
    compare(invoke, "--recipe", "cosine+guarded", "--optimizer", "sgd")
    result = invoke("explain", "out/tensorboard/sgd/cosine+guarded/peak-lr=0.1")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_explain_all_tells_every_decision(invoke: Invoke, tmp_path: Path) -> None:
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    control = AdaptiveLR(optimizer, Script((1.0, 0.9, 0.8)), trace=tmp_path / "run")
    for _ in range(2):
        optimizer.step()
        control.step(1.0)
    control.detach()
    assert "row 2" not in invoke("explain", str(tmp_path / "run")).stdout
    assert all(f"row {n}" in invoke("explain", "--all", str(tmp_path / "run")).stdout for n in (0, 1, 2))


def test_explain_refuses_what_is_no_trace_in_one_sentence(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "trace.jsonl").write_text("{}\nnonsense\n{}\n")
    for run in ("nowhere", "empty", "broken"):
        refused(invoke("explain", run), run)


def test_explain_names_a_run_further_in_where_a_folder_of_runs_is_given(invoke: Invoke) -> None:
    compare(invoke, "--recipe", "cosine+guarded", "--optimizer", "sgd")
    result = invoke("explain", "out")
    refused(result, "further in, such as out/tensorboard/sgd/cosine+guarded/peak-lr=")


def test_help_shows_examples_and_version_shows_the_version(invoke: Invoke) -> None:
    from importlib.metadata import version

    assert "adaptive-lr compare --workload my_model.py:MyWorkload" in invoke("compare", "--help").stdout
    assert {"compare", "plot", "explain"} <= set(invoke("--help").stdout.split())
    assert version("adaptive-lr") in invoke("--version").stdout


def test_help_does_not_wait_for_torch() -> None:
    """Asking for help imports neither torch nor scipy nor matplotlib."""
    program = (
        "import sys; from adaptive_lr.cli import main\n"
        "try: main(['compare', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip().endswith("[]")
