"""The no-harm study: paired differences relative to cosine's mean, Holm's correction, and what is an intervention."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from adaptive_lr.study import Run, RunResult
from experiments import no_harm
from experiments.no_harm_tables import differences, markdown
from experiments.paper import no_harm as for_the_paper
from experiments.records import RECORD, interventions, recorded_workloads, rounded, tuned_peaks
from made_up_records import ABOUT, seeds_of

FIXED = [0.20, 0.22, 0.24]
GUARDED = [0.21, 0.22, 0.26]


@pytest.fixture
def record() -> dict[str, Any]:
    cosine, guarded = seeds_of(FIXED, [0.9, 0.9, 0.9]), seeds_of(GUARDED, [0.9, 0.91, 0.89], interventions=1)
    recipes = {"cosine": cosine, "cosine+guarded": guarded, "automatic": cosine}
    without = {name: {**one, "validation_accuracy": None, "test_accuracy": None} for name, one in recipes.items()}
    return {
        "about": ABOUT,
        "pairs": [
            {"workload": "x_1", "optimizer": "sgd", "peak_lr": 0.1, "recipes": recipes},
            {"workload": "x_1", "optimizer": "adamw", "peak_lr": 0.01, "recipes": without},
        ],
    }


def test_the_change_is_paired_and_relative_to_the_mean_of_cosine(record: dict[str, Any]) -> None:
    """Against scipy's paired t-test."""
    first, second = differences(record, "cosine+guarded")
    paired = stats.ttest_rel(GUARDED, FIXED).confidence_interval(0.95)
    mean = np.mean(FIXED)
    assert first.loss == pytest.approx((0.01 / mean, paired.low / mean, paired.high / mean))
    assert first.accuracy is not None
    assert first.accuracy.mean == pytest.approx(0.0, abs=1e-12)
    assert second.accuracy is None
    assert not first.harmless


def test_holm_is_taken_over_the_pairs_of_a_recipe(record: dict[str, Any]) -> None:
    """Of eight sign patterns of (0.01, 0, 0.02), four reach the observed sum: p = 1/2; two of those make 1."""
    assert [(d.p_value, d.adjusted_p) for d in differences(record, "cosine+guarded")] == [(0.5, 1.0)] * 2


def test_equal_runs_are_harmless_and_calm(record: dict[str, Any]) -> None:
    for one in differences(record, "automatic"):
        assert one.loss == (0.0, 0.0, 0.0)
        assert one.harmless
        assert one.interventions == 0.0


def test_interventions_are_per_thousand_updates(record: dict[str, Any]) -> None:
    assert differences(record, "cosine+guarded")[0].interventions == 2.0


def test_taking_an_intervention_back_and_sweeping_are_none_and_lost_decisions_count() -> None:
    decisions = [
        {"action": "damp", "controller": "gradient_spike"},
        {"action": "recover", "controller": "gradient_spike"},
        {"action": "clear", "controller": "rescue"},
        {"action": "peak", "controller": "range_test"},
    ]
    run = Run("digits", "sgd", "automatic", 0.1, 0, 10)
    assert interventions(RunResult(run, "", "completed", decisions=tuple(decisions), num_decisions=6)) == 3


def test_equal_numbers_stay_equal_when_they_are_recorded() -> None:
    assert rounded([1 / 3, 1 / 3, 2.0]) == [0.3333333, 0.3333333, 2.0]


def test_the_document_and_the_paper_say_what_the_record_says(record: dict[str, Any]) -> None:
    assert "cosine+guarded: upper end within +1% on 0 of 2" in markdown(record)
    assert "automatic: upper end within +1% on 2 of 2, equal to the last digit on 2" in markdown(record)
    part = for_the_paper.part(record)
    assert part.numbers["no-harm.guarded.within-bar"] == "0"
    assert part.numbers["no-harm.automatic.within-bar"] == "2"
    assert part.numbers["no-harm.guarded.median-loss"] == r"$+4.5\,\%$"
    assert part.numbers["no-harm.guarded.worst-workload"] == r"x\_1"
    assert part.tables["no-harm"].count(r"\\") == 4
    assert part.figures["no-harm.pdf"].startswith(b"%PDF")
    assert for_the_paper.part(record).figures == part.figures


def test_it_runs_from_the_shell_at_the_recorded_peaks_and_finished_runs_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--workloads", "quadratic", "--seeds", "2", "--jobs", "1", "--output", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["no_harm", *arguments, "--record", str(tmp_path / "record")])
    no_harm.main()
    printed = capsys.readouterr().out
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    no_harm.main()
    assert capsys.readouterr().out == printed
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")} == files
    record = json.loads((tmp_path / "record" / "no_harm.json").read_text())
    peaks = tuned_peaks(tmp_path, ["quadratic"])
    assert {(p["workload"], p["optimizer"]): p["peak_lr"] for p in record["pairs"]} == peaks
    assert all(len(found["validation_loss"]) == 2 for p in record["pairs"] for found in p["recipes"].values())


def test_a_workload_without_a_tuned_peak_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "robustness.json").write_text('{"pairs": []}')
    monkeypatch.setattr(sys, "argv", ["no_harm", "--workloads", "gru", "--record", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no tuned peak of gru: run `python -m experiments\.robustness"):
        no_harm.main()


def test_a_part_of_a_study_keeps_a_record_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under the name that is given; the peak is found in the part of the robustness study that has that workload."""
    pairs = json.loads((RECORD / "robustness.json").read_text())["pairs"]
    own = [pair for pair in pairs if pair["workload"] == "quadratic"]
    (tmp_path / "robustness.json").write_text(json.dumps({"pairs": []}))
    (tmp_path / "byte_gpt.json").write_text(json.dumps({"pairs": own}))
    assert tuned_peaks(tmp_path, ["quadratic"]) == {
        ("quadratic", pair["optimizer"]): pair["tuned"]["lr"] for pair in own
    }
    arguments = ["--workloads", "quadratic", "--seeds", "2", "--jobs", "1", "--output", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["no_harm", *arguments, "--record", str(tmp_path), "--name", "a_part"])
    no_harm.main()
    assert (tmp_path / "a_part.json").exists()
    assert (tmp_path / "a_part.md").exists()
    assert not (tmp_path / "no_harm.json").exists()


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_a_name_with_folders_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["no_harm", "--name", name])
    with pytest.raises(SystemExit):
        no_harm.main()
    assert "--name must be" in capsys.readouterr().err


def test_all_workloads_on_record_are_taken_by_default() -> None:
    assert "digits-mlp" in recorded_workloads()
