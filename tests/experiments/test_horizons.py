"""The study of longer runs: where it tunes, what its tables say, and that finished runs are not repeated."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from adaptive_lr.study import Evaluation, Run, RunResult, StudyFolder
from adaptive_lr.study.summary import Cell
from experiments import horizons
from experiments.horizons import Bench, window
from experiments.horizons_tables import comparison, large_row, markdown, row
from experiments.robustness import rate
from made_up_records import ABOUT


def outcome(lr: float, loss: float, accuracy: float | None) -> dict[str, Any]:
    return {"lr": lr, "validation_loss": loss, "test_loss": loss, "test_accuracy": accuracy, "seeds": 2}


def entry(accuracy: float | None = 0.9, *, loss: float = 0.6, missing: float = 0.02) -> dict[str, Any]:
    """Tuned at 0.1 with a loss of 0.5; `automatic` found 0.01 and 1, so 0.1 in the mean."""
    less = None if accuracy is None else accuracy - 0.1
    return {
        "workload": "x", "optimizer": "sgd", "steps": 1200, "found": [0.01, 1.0], "spent": [0.04, 0.09],
        "tuning": [outcome(0.01, 1.0, less), outcome(0.1, 0.5, accuracy), outcome(1.0, 2.0, less)],
        "above": {recipe: [outcome(0.1, 0.5, accuracy), outcome(1.0, 0.5 * times, less)]
                  for recipe, times in (("cosine", 4.0), ("cosine+guarded", 1.01))},
        "intervals": {"automatic": [[1.0, 3.0]], "cosine": [[0.0, 0.0], [9.0, 11.0]],
                      "cosine+guarded": [[0.0, 0.0], [-1.0, 1.5]]},
        "automatic": outcome(0.001, loss, None if accuracy is None else accuracy - missing),
    }  # fmt: skip


def test_longer_runs_are_tuned_around_a_peak_that_falls_with_the_root_of_their_length() -> None:
    """A hundred times as long: a decade lower, three half-decades to either side."""
    assert window(0.1, 300, 30_000) == [-7, -6, -5, -4, -3, -2, -1]
    assert window(0.1, 300, 300) == [-5, -4, -3, -2, -1, 0, 1]


@pytest.mark.parametrize(("best", "tried"), [(0, 7), (-4, 9), (5, 10), (20, 11)])
def test_the_window_grows_where_the_best_is_at_its_edge(
    best: int, tried: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until one beyond it was tried, four more at the most; seven reach from -3 to 3."""

    def cells(self: Bench, recipe: str, exponents: Iterable[int], seeds: Iterable[int]) -> list[Cell]:
        assert list(seeds) == [0, 1]
        return [
            Cell("sgd", recipe, rate(exponent), (
                RunResult(Run("digits", "sgd", recipe, rate(exponent), 0, 10), "", "completed",
                          initial=Evaluation(99.0), validation=Evaluation(loss), test=Evaluation(loss)),
            ))
            for exponent in exponents
            for loss in [abs(rate(exponent) / rate(best) - 1.0)]
        ]  # fmt: skip

    monkeypatch.setattr(Bench, "cells", cells)
    bench = Bench("digits-mlp", "sgd", 10, StudyFolder(tmp_path), seeds=1, jobs=1)
    halves, found = bench.tuned(list(range(-3, 4)))
    assert len(found) == len(halves) == tried
    assert [cell.peak_lr for cell in found] == list(map(rate, halves))


def test_seeds_that_are_reported_had_no_say_in_the_tuned_peak(tmp_path: Path) -> None:
    """Tuned on two, reported on those that follow; the peak is the best of the first, its level is of the others."""
    bench = Bench("quadratic", "sgd", 60, StudyFolder(tmp_path), seeds=3, jobs=1)
    bench.folder.prepare()
    found = bench.entry(0.1)
    seeds = {recipe: {run.seed for run in bench.planned if run.recipe == recipe} for recipe in
             ("cosine+guarded", "automatic")}  # fmt: skip
    assert seeds == {"cosine+guarded": {2, 3, 4}, "automatic": {2, 3, 4}}
    by_peak: dict[float, set[int]] = {}
    for run in bench.planned:
        if run.recipe == "cosine":
            by_peak.setdefault(run.peak_lr, set()).add(run.seed)
    tuned = min(found["tuning"], key=lambda one: one["validation_loss"])["lr"]
    tried = {one["lr"] for one in found["tuning"]}
    assert {lr for lr in tried if {0, 1} <= by_peak[lr]} == tried
    assert found["above"]["cosine"][0]["lr"] == tuned
    assert [one["seeds"] for one in found["above"]["cosine"]] == [3, 3]
    assert found["above"]["cosine"][1]["lr"] == pytest.approx(10.0 * tuned)
    low, high = found["intervals"]["automatic"][0]
    ratio = found["automatic"]["test_loss"] / found["above"]["cosine"][0]["test_loss"]
    assert low < ratio < high
    assert found["intervals"]["cosine"][0] == (1.0, 1.0)


def test_gaps_by_hand() -> None:
    """Two points, a loss of 1.2 times tuned; at the peak found a cosine is tuned."""
    one = comparison(entry())
    assert row(one) == ["x", "sgd", "0.1", "90.0%", "+0.00", "+2.0", "+1.0 to +3.0", "1.20", "+0.0", "1.00",
                        "9%"]  # fmt: skip
    assert not one.within
    assert comparison(entry(missing=0.009)).within


def test_a_given_peak_is_reported_at_the_tuned_one_and_ten_times_it() -> None:
    """Ten points are missing at ten times, with and without control; without accuracies, losses are 4 and 1.01."""
    one = comparison(entry())
    assert large_row(one) == ["x", "sgd", "+10.0", "+9.0 to +11.0", "+0.0", "+0.0 to +0.0", "+10.0", "-1.0 to +1.5"]
    assert large_row(comparison(entry(None)))[2::2] == ["4x", "1x", "1.01x"]
    text = markdown({"about": ABOUT, "pairs": [entry(), entry(None)], "rules": []})
    assert "of 2: cosine x 1 on 2, cosine x 10 on 0, guarded x 1 on 2, guarded x 10 on 1." in text


def test_without_repetitions_there_are_no_intervals() -> None:
    one = comparison({**entry(), "intervals": {}})
    assert row(one)[6] == ""
    assert large_row(one)[3::2] == ["", "", ""]


def test_the_peak_alone_is_read_between_half_decades() -> None:
    """Half way from 0.1 to 1: five points, and the geometric mean of the losses."""
    one = comparison({**entry(), "found": [0.1, 1.0]})
    assert one.decades == pytest.approx(0.5)
    assert one.peak_gap == pytest.approx(5.0)
    assert one.peak_ratio == pytest.approx(2.0)


def test_without_accuracies_2_percent_of_the_loss_count() -> None:
    assert row(comparison(entry(None)))[3:7] == ["0.5", "+0.00", "", "1x to 3x"]
    assert not comparison(entry(None, loss=0.52)).within
    assert comparison(entry(None, loss=0.51)).within


def test_the_document_counts_what_its_tables_say() -> None:
    record = {"about": ABOUT, "pairs": [entry(), entry(missing=0.06), entry(missing=0.0), entry(None, loss=0.5)],
              "rules": []}  # fmt: skip
    text = markdown(record)
    assert "no accuracy): 2 of 4." in text
    assert "median gap +2.0, worst +6.0 points, 1 of 3 worse than 5" in text


def test_it_runs_from_the_shell_and_finished_runs_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the record has an entry for each optimizer, with at least seven peaks."""
    arguments = ["--workloads", "breast-cancer", "--seeds", "1", "--jobs", "1", "--steps", "120", "--rules"]
    folders = ["--output", str(tmp_path / "runs"), "--record", str(tmp_path / "record")]
    monkeypatch.setattr(sys, "argv", ["horizons", *arguments, *folders])
    horizons.main()
    printed = capsys.readouterr().out
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    horizons.main()
    assert capsys.readouterr().out == printed
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")} == files
    pairs = json.loads((tmp_path / "record" / "horizons.json").read_text())["pairs"]
    assert [(one["optimizer"], one["steps"]) for one in pairs] == [("sgd", 120), ("adamw", 120)]
    assert all(len(one["tuning"]) >= 7 and len(one["found"]) == 1 for one in pairs)
    assert (tmp_path / "record" / "horizons.md").read_text() in printed


def test_dear_workloads_are_left_out_of_the_longest_runs(tmp_path: Path) -> None:
    settings = {"seeds": 1, "jobs": 1, "output": tmp_path, "record": tmp_path}
    assert horizons.measure(["gru"], [4800], **settings) == []  # type: ignore[arg-type]


def test_bad_options_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["horizons", "--steps", "0"])
    with pytest.raises(SystemExit):
        horizons.main()
    assert "--steps must be at least 1" in capsys.readouterr().err
