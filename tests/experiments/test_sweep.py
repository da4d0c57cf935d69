"""The quick sweep: it trains what is missing, and its table says what the runs say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adaptive_lr.study import Evaluation, Run, RunResult
from experiments import sweep


def result(peak_lr: float, loss: float, accuracy: float | None) -> RunResult:
    evaluation = Evaluation(loss, accuracy)
    run = Run("digits", "sgd", "cosine", peak_lr, 0, 400)
    return RunResult(run, "", "completed", initial=Evaluation(2.3, accuracy), validation=evaluation)


def test_the_best_peak_has_the_lowest_loss_and_the_tolerance_is_one_point_of_accuracy() -> None:
    results = [result(0.1, 0.3, 0.955), result(1.0, 0.2, 0.96), result(10.0, 0.21, 0.94)]
    assert sweep.row("x", "sgd", results) == "| x | sgd | 2.3 | 1 | 0.2 | 96.0% | 0.1 to 1 | 0.0 |"


def test_without_accuracy_the_tolerance_is_two_per_cent_of_the_loss() -> None:
    results = [result(0.1, 0.203, None), result(1.0, 0.2, None), result(10.0, 0.205, None)]
    assert sweep.row("x", "sgd", results) == "| x | sgd | 2.3 | 1 | 0.2 | | 0.1 to 1 | 0.0 |"


def test_it_runs_from_the_shell_and_finished_runs_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep, "GRIDS", {"sgd": (0.01, 0.1)})
    monkeypatch.setattr(sys, "argv", ["sweep", "breast-cancer", "--jobs", "1", "--output", str(tmp_path)])
    sweep.main()
    first = capsys.readouterr().out
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    sweep.main()
    assert capsys.readouterr().out == first
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()} == files
    assert "| breast-cancer | sgd |" in first


def test_an_unknown_name_is_refused_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep", "nonsense"])
    with pytest.raises(SystemExit):
        sweep.main()
    assert "unknown workload nonsense; known: digits-mlp" in capsys.readouterr().err
