"""The robustness study: its numbers are those of the runs, and finished runs are not repeated."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from adaptive_lr.study import Evaluation, Run, RunResult, StudyFolder
from adaptive_lr.study.study import FIRST_TUNING_SEED
from adaptive_lr.study.summary import Cell
from experiments import robustness
from experiments.robustness import Bench, Outcome, Pair, best, gap_interval, outcome, rate
from experiments.robustness_tables import interval_row, loss_row, markdown, row, too_large_row
from experiments.workloads import TUNING


def cell(peak_lr: float, *losses: float, accuracy: float | None = 0.9) -> Cell:
    results = [
        RunResult(Run("digits", "sgd", "cosine", peak_lr, seed, 10), "", "completed", initial=Evaluation(2.0, 0.1),
                  validation=Evaluation(loss, accuracy), test=Evaluation(2 * loss, accuracy))
        for seed, loss in enumerate(losses)
    ]  # fmt: skip
    return Cell("sgd", "cosine", peak_lr, tuple(results))


def made(lr: float, test_loss: float, accuracy: float | None) -> Outcome:
    return Outcome(lr, test_loss, test_loss, accuracy, seeds=2)


def pair(accuracies: tuple[float | None, ...]) -> Pair:
    tuned, *others = (made(0.1 * 10**n, 0.2 + n, accuracy) for n, accuracy in enumerate(accuracies))
    return Pair(
        workload="x", optimizer="sgd", tuned=tuned, tuned_at_edge=False,
        decades={"cosine": [tuned], "cosine+guarded": [tuned], "automatic": others},
        sensitivity={"cosine": 1.0, "cosine+guarded": 0.5, "automatic": 0.25},
        above={"cosine": [tuned, *others], "cosine+guarded": [tuned] * 4}, missing=0,
    )  # fmt: skip


def test_losses_and_intervals_have_a_line_each() -> None:
    one = replace(
        pair((0.95, 0.94, 0.90, 0.96)), intervals={"automatic": [(0.5, 1.0)], "cosine+guarded": [(-0.0, 0.0)] * 4}
    )
    assert interval_row(one) == "| x | sgd | +0.5 to +1.0 | +0.0 to +0.0 | +0.0 to +0.0 | +0.0 to +0.0 | +0.0 to +0.0 |"
    assert interval_row(pair((0.95, 0.94, 0.90, 0.96))) == "| x | sgd | - | - | - | - | - |"
    assert loss_row(one) == "| x | sgd | 6 | 11 | 16 | 1 | 1 | 1 | 1 |"


def test_half_decades_meet_decades_exactly() -> None:
    """So that a learning rate reached in two ways is one run."""
    assert [rate(2 * k) for k in range(-7, 3)] == [10.0**k for k in range(-7, 3)]


def test_an_outcome_is_a_mean_over_seeds_of_clipped_losses() -> None:
    assert outcome(cell(0.1, 0.5, 3.0)) == Outcome(0.1, 1.25, 1.5, 0.9, 2)
    assert outcome(cell(0.1, 0.5, accuracy=None)).test_accuracy is None


def test_the_interval_of_a_gap_is_that_of_paired_differences() -> None:
    """Losses 0.4, 0.6 and 0.8 (test: twice that) beside 0.5 each: by scipy's own interval, over the mean of tuned."""
    tuned, other = cell(0.1, 0.5, 0.5, 0.5, accuracy=None), cell(1.0, 0.4, 0.6, 0.8, accuracy=None)
    expected = stats.ttest_1samp([-0.2, 0.2, 0.6], 0.0).confidence_interval()
    assert gap_interval([other], tuned) == pytest.approx((1.0 + expected.low, 1.0 + expected.high))
    assert gap_interval([tuned], tuned) == (1.0, 1.0)


def test_a_gap_in_accuracy_is_in_points_missing_and_pairs_by_seed() -> None:
    """Two learning rates that lose 1 and 3 points on each of two seeds; a third seed is tuned's alone."""
    tuned = cell(0.1, 0.5, 0.5, 0.5, accuracy=0.9)
    others = [cell(1.0, 0.5, 0.5, accuracy=0.89), cell(10.0, 0.5, 0.5, accuracy=0.87)]
    assert gap_interval(others, tuned) == pytest.approx((2.0, 2.0))


def test_the_best_has_the_lowest_validation_loss() -> None:
    assert best([cell(0.1, 0.5, 0.3), cell(1.0, 0.3, 0.3), cell(10.0, 0.2, 0.5)]) == 1


def test_gaps_are_points_below_tuned_by_hand() -> None:
    """95 % tuned; 94, 90 and 96 %: the worst is 5 points at 10, the mean 1.67; loss ratios 6, 11 and 16."""
    line = row(pair((0.95, 0.94, 0.90, 0.96)))
    assert line == "| x | sgd | 0.1 | 95.0% | +1.7 | +5.0 | 1e+01 | 11 | 1 | 0.5 | 0.25 |"
    assert too_large_row(pair((0.95, 0.94, 0.90, 0.96))).endswith("| +1.0 | +5.0 | -1.0 | +0.0 | +0.0 | +0.0 | +0.0 |")


def test_without_accuracies_gaps_are_ratios_of_losses() -> None:
    assert row(pair((None,) * 4)) == "| x | sgd | 0.1 | 0.2 | 11x | 16x | 1e+02 | 11 | 1 | 0.5 | 0.25 |"


def test_the_document_counts_what_its_table_says() -> None:
    about = {
        "command": "python",
        "date": "2026-01-01",
        "seeds": 2,
        "versions": {"torch": "2"},
        "control_sha256": "0" * 64,
    }
    text = markdown(
        "Some title", "some_record", [pair((0.95, 0.945, 0.95, 0.95)), pair((0.95, 0.93, 0.95, 0.95))], about
    )
    assert "worst gap: 1 of 2 within 1, 2 of 2 within 3 points" in text


def test_it_runs_from_the_shell_and_finished_runs_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the record has every outcome: nine decades for each recipe, four factors for two of them."""
    monkeypatch.setattr(robustness, "DECADES", {"sgd": range(-2, 1)})
    arguments = ["--workloads", "quadratic", "--seeds", "1", "--jobs", "1", "--output", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["robustness", *arguments, "--record", str(tmp_path / "record")])
    robustness.main()
    printed = capsys.readouterr().out
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    robustness.main()
    assert capsys.readouterr().out == printed
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")} == files
    record = json.loads((tmp_path / "record" / "robustness.json").read_text())
    (found,) = record["pairs"]
    assert [one["lr"] for one in found["decades"]["automatic"]] == [0.01, 0.1, 1.0]
    assert [len(found["above"][recipe]) for recipe in ("cosine", "cosine+guarded")] == [4, 4]
    assert found["tuned"] in found["above"]["cosine"]
    assert (tmp_path / "record" / "robustness.md").read_text() in printed


def test_seeds_that_are_reported_had_no_say_in_the_tuned_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is the best of seven by the validation loss of the seeds for tuning, and reported on the others."""
    monkeypatch.setattr(robustness, "DECADES", {"sgd": range(-2, 1)})
    bench = Bench("quadratic", TUNING["quadratic"], "sgd", StudyFolder(tmp_path), seeds=2, jobs=1)
    bench.folder.prepare()
    found = bench.measure()
    middle = bench.halves[best(bench.cells("cosine", bench.halves, bench.tuning_seeds))]
    rates = [rate(middle + offset) for offset in range(-3, 4)]
    tuning = bench.cells("cosine", range(middle - 3, middle + 4), bench.tuning_seeds)
    assert {result.run.seed for one in tuning for result in one.results} == {FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1}
    assert found.tuned.lr == rates[best(tuning)]
    (reported,) = bench.cells("cosine", [middle - 3 + best(tuning)])
    assert [result.run.seed for result in reported.results] == [0, 1]
    assert found.tuned == outcome(reported)


@pytest.mark.parametrize(
    ("arguments", "sentence"), [(("--workloads", "x"), "invalid choice: 'x'"), (("--seeds", "0"), "must be at least 1")]
)
def test_bad_options_are_refused(
    arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["robustness", *arguments])
    with pytest.raises(SystemExit):
        robustness.main()
    assert sentence in capsys.readouterr().err
