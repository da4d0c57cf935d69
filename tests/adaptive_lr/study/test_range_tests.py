"""`adaptive-lr range-test`: sweeps over seeds, their spread, the folder it leaves, and every kind of bad input."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from matplotlib.figure import Figure

from adaptive_lr.cli import main
from adaptive_lr.lr_range_test import RangeTestResult
from adaptive_lr.study import OPTIMIZERS, StudyError
from adaptive_lr.study.range_figure import draw
from adaptive_lr.study.range_tests import RULES, RangeStudy, Spread, markdown, record, spreads, sweep_all
from interruptible import interruptible

TINY = Path(__file__).parent / "tiny.py"
SMALL = ("--steps", "20", "--seeds", "2", "--start-lr", "1e-4")

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command in an empty folder; the output goes to `out` there."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object, workload: str = "Tiny") -> Result:
        given = ("range-test", "--workload", f"{TINY}:{workload}", "--output", "out", *SMALL, *arguments)
        return CliRunner().invoke(main, [str(argument) for argument in given])

    return run


def result(peak: float | None = 0.1, shift: float = 0.0) -> RangeTestResult:
    """A curve without noise, and what might be suggested on it."""
    lrs = np.geomspace(1e-5, 1.0, 40)
    losses = 2.0 - np.clip(np.log10(lrs / 1e-3) - shift, 0.0, 1.5)
    suggested = {"steepest": 0.01, "valley": 0.002 * 10.0**shift, "slide": None, "minimum": 0.003}
    ends = None if peak is None else (1e-3, 1e-1)
    return RangeTestResult(tuple(lrs), (*losses[:-1], math.nan), tuple(losses), suggested, peak, ends, "the end")


# ---------------------------------------------------------------- the job


def test_it_leaves_a_table_a_figure_and_all_results(invoke: Invoke, tmp_path: Path) -> None:
    """Both optimizers, every rule in the table, every sweep in the record, which is strict JSON."""
    done = invoke()
    assert done.exit_code == 0, done.output
    table = (tmp_path / "out" / "table.md").read_text()
    recorded = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)
    assert set(recorded["results"]) == set(OPTIMIZERS)
    for optimizer, of_one in recorded["results"].items():
        assert f"## {OPTIMIZERS[optimizer].label}" in table
        assert OPTIMIZERS[optimizer].label in done.stdout
        assert [sweep["seed"] for sweep in of_one["sweeps"]] == [0, 1]
        for sweep in of_one["sweeps"]:
            assert len(sweep["lrs"]) == len(sweep["losses"]) == len(sweep["smoothed"]) <= 20
            assert set(sweep["suggestions"]) == set(RULES) - {"suggestion"}
        assert set(of_one["spreads"]) == {*RULES, "interval low", "interval high"}
    for name in ("adaptive-lr", "steepest", "valley", "slide", "minimum/10", "interval low"):
        assert f"| {name} |" in table
        assert name in done.stdout
    assert (tmp_path / "out" / "figure.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "figure.pdf").stat().st_size > 5_000


def test_the_same_command_gives_the_same_sweeps_and_leaves_torch_as_it_was() -> None:
    """Everything follows from the seed; seeds differ, optimizers share weights and batches."""
    study = RangeStudy(f"{TINY}:Tiny", start_lr=1e-4, steps=12, seeds=2)
    state = torch.get_rng_state()
    first = sweep_all(study)
    assert torch.equal(torch.get_rng_state(), state)
    assert sweep_all(study) == first
    assert first["sgd"][0].losses != first["sgd"][1].losses
    assert first["sgd"][0].losses[0] == first["adamw"][0].losses[0]


def test_progress_is_told_for_every_update() -> None:
    told: list[tuple[str, int, int, int]] = []
    study = RangeStudy(f"{TINY}:Tiny", ["sgd"], start_lr=1e-6, end_lr=1e-3, steps=5, seeds=2)
    sweep_all(study, lambda *done: told.append(done))
    assert told == [("sgd", seed, done, 5) for seed in range(2) for done in range(1, 6)]


# ---------------------------------------------------------------- the spread


def test_the_spread_is_that_of_decades() -> None:
    """Geometric mean, sample standard deviation of log10, extremes; None where there is nothing."""
    spread = Spread.of([0.001, None, 0.1])
    assert (spread.count, spread.low, spread.high) == (2, 0.001, 0.1)
    assert spread.mean == pytest.approx(0.01)
    assert spread.spread == pytest.approx(math.sqrt(2.0))
    assert Spread.of([0.5]) == Spread(1, pytest.approx(0.5), None, 0.5, 0.5)
    assert Spread.of([None, None]) == Spread(0)


def test_tables_and_records_bear_rules_without_a_suggestion() -> None:
    """A dash in the table, null in the record, and a loss that is not finite as a string that float reads."""
    results = {"sgd": [result(), result(None, 0.3)]}
    lines = {line.split("|")[1].strip(): line for line in markdown(results).splitlines() if line.startswith("| ")}
    assert lines["slide"].split("|")[2:6] == [" - ", " - ", " - ", " 0 of 2 "]
    assert lines["adaptive-lr"].split("|")[5] == " 1 of 2 "
    assert f"{spreads(results['sgd'])['valley'].spread:.2f}" == "0.21"
    recorded = json.loads(json.dumps(record(RangeStudy(f"{TINY}:Tiny"), results), allow_nan=False))
    sweep = recorded["results"]["sgd"]["sweeps"][1]
    assert (sweep["suggestion"], sweep["interval"]) == (None, None)
    assert math.isnan(float(sweep["losses"][-1]))


@pytest.mark.parametrize("optimizers", [["sgd"], ["sgd", "adamw"]])
def test_the_figure_is_the_same_bytes_from_the_same_numbers(tmp_path: Path, optimizers: list[str]) -> None:
    """One optimizer or two, with rules and intervals that are missing."""
    results = {name: [result(), result(None, 0.3)] for name in optimizers}
    files = draw(results, tmp_path / "first") + draw(results, tmp_path / "second")
    assert [file.suffix for file in files] == [".pdf", ".png"] * 2
    assert files[0].read_bytes() == files[2].read_bytes()
    assert files[1].read_bytes() == files[3].read_bytes()


@pytest.mark.parametrize("optimizers", [["sgd"], ["sgd", "adamw"]])
def test_no_text_of_the_figure_is_cut_off_or_lies_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizers: list[str]
) -> None:
    """The legend of one panel as that of two; the number of a rule that points to the lowest rates stands right."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(figure))
    low = replace(result(), suggestions={"steepest": 1.2e-5, "valley": 2e-5, "slide": None, "minimum": 0.9})
    draw({name: [low, low] for name in optimizers}, tmp_path / "figure")
    figure = figures[0]
    figure.draw_without_rendering()
    width = figure.bbox.width
    assert all(0 <= text.get_window_extent().x0 <= text.get_window_extent().x1 <= width
               for text in figure.legends[0].get_texts())  # fmt: skip
    assert len(figure.legends[0].get_texts()) == 3
    for panel in figure.get_axes()[len(optimizers) :]:
        extents = [text.get_window_extent() for text in panel.texts]
        assert all(panel.bbox.x0 <= extent.x0 <= extent.x1 <= panel.bbox.x1 + 2 for extent in extents)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--optimizer", "nosuch"), "unknown optimizer 'nosuch'; known: sgd, adamw"),
        (("--start-lr", "0"), "0 < start-lr < end-lr, got start-lr=0, end-lr=10"),
        (("--end-lr", "1e-5"), "0 < start-lr < end-lr, got start-lr=0.0001, end-lr=1e-05"),
        (("--end-lr", "nan"), "0 < start-lr < end-lr"),
        (("--steps", "1"), "steps must be >= 2, got 1"),
        (("--seeds", "0"), "seeds must be >= 1, got 0"),
        (("--workload", "nosuch"), "unknown workload 'nosuch'"),
        (("--output", str(TINY / "below")), "cannot write to output folder"),
    ],
)
def test_bad_input_gives_one_sentence_and_a_non_zero_exit(
    invoke: Invoke, arguments: tuple[str, ...], part: str
) -> None:
    refused = invoke(*arguments)
    assert refused.exit_code == 2, refused.output
    assert part in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "Traceback" not in refused.output


def test_a_workload_that_raises_gives_one_sentence(invoke: Invoke) -> None:
    """Before the first step, and in the middle of a sweep."""
    assert "raises before its first step: RuntimeError: no such layer" in invoke(workload="RaisesAtStart").stderr
    refused = invoke("--seeds", "6", workload="RaisesInTraining")
    assert refused.exit_code == 1
    assert "workload 'tiny' raises during the sweep: RuntimeError: the data is broken" in refused.stderr


def test_a_workload_whose_every_loss_but_the_first_is_nan_is_reported_and_drawn(invoke: Invoke, tmp_path: Path) -> None:
    """No suggestion, no exception."""
    done = invoke("--optimizer", "sgd", workload="NanBatches")
    assert done.exit_code == 0, done.output
    assert "0 of 2" in done.stdout
    assert (tmp_path / "out" / "figure.png").exists()


def test_suggestions_outside_the_interval_of_their_sweep_are_explained() -> None:
    """One of two sweeps, in the table of that optimizer; nothing is said where all lie inside."""
    inside = replace(result(), suggestion=0.1, interval=(0.01, 1.0))
    beyond = replace(inside, suggestion=2.0)
    assert "lies outside the interval" not in markdown({"sgd": [inside, inside]})
    text = markdown({"sgd": [inside, beyond]})
    assert "In 1 of 2 sweeps the suggestion of adaptive-lr lies outside the interval" in text
    assert "drawn towards what is usual for the optimizer" in text


def test_a_study_refuses_what_it_cannot_do() -> None:
    with pytest.raises(StudyError, match="optimizers must not be empty"):
        RangeStudy(optimizers=[])


def test_ctrl_c_ends_with_one_sentence_and_the_exit_code_of_an_interruption(tmp_path: Path) -> None:
    command = interruptible("range-test", "--workload", f"{TINY}:Slow", "--steps", "500")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **pipes) as process:  # type: ignore[call-overload]
        deadline = time.monotonic() + 60.0
        while not (tmp_path / "runs" / "range-test").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        stderr = None
        while stderr is None and time.monotonic() < deadline + 60.0:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):  # CPython drops one that falls into a destructor
                _, stderr = process.communicate(timeout=15)
        process.kill()
    # CPython reports the signal instead where it falls into an import; to a shell both are 130.
    assert process.returncode in (130, -signal.SIGINT)
    assert stderr is not None
    assert stderr.strip().splitlines()[-1] == "adaptive-lr: stopped"


def test_help_says_what_it_does() -> None:
    """With examples and every default."""
    text = CliRunner().invoke(main, ["range-test", "--help"]).output
    for part in (
        "--workload",
        "--optimizer",
        "--start-lr",
        "[default: 1e-07]",
        "--seeds",
        "runs/range-test",
        "Examples",
    ):
        assert part in text
    assert "range-test" in CliRunner().invoke(main, ["--help"]).output
