"""The study of problems of other kinds: what it carries out, and what its tables say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from elsewhere_entries import entry
from experiments import elsewhere
from experiments.elsewhere_tables import automatic_gap, markdown, row
from experiments.horizons_tables import comparison
from experiments.workloads import TUNING
from made_up_records import ABOUT


def test_tables_hold_what_was_recorded() -> None:
    record = {"about": ABOUT, "pairs": [entry("sgd", 1.05), entry("adamw", 1.01, accuracy=True)]}
    found = [comparison(one) for one in record["pairs"]]  # type: ignore[arg-type]
    assert row(found[0]) == [
        "x", "sgd", "0.1", "0.5", "2x", "4x", "8x", "1x", "1.01x", "1.5x", "3x", "1.05x", "-0.50",
    ]  # fmt: skip
    assert row(found[1])[3:] == [
        "90.0%", "+10.0", "+30.0", "+70.0", "+0.0", "+0.1", "+5.0", "+20.0", "+0.1", "-0.50",
    ]  # fmt: skip
    assert automatic_gap(found[1]) == pytest.approx(0.1)
    page = markdown(record)
    assert "cosine x 1 on 2, cosine x 3 on 0" in page
    assert "guarded x 1 on 2, guarded x 3 on 2, guarded x 10 on 0, guarded x 30 on 0, automatic on 1." in page
    assert "-0.50 decades from the tuned one" in page
    assert "Of the 1 pairs without accuracy automatic has 0 within 2%, 1 within 10%, 1 within 100%" in page
    assert "| x | sgd | 0.75x to 1.25x | 0.76x to 1.26x | 1.25x to 1.75x | 2.75x to 3.25x | 0.8x to 1.3x |" in page


def test_a_single_seed_has_no_intervals() -> None:
    page = markdown({"about": ABOUT, "pairs": [entry("sgd", 1.05, intervals=False)]})
    assert "How sure" not in page


def test_it_tunes_on_seeds_of_their_own_and_writes_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a quick workload in place of the problems, which are not run here."""
    problems = {"quadratic": TUNING["quadratic"]}
    monkeypatch.setattr(elsewhere, "ELSEWHERE", problems)
    monkeypatch.setattr(elsewhere.Bench, "references", problems)
    monkeypatch.setattr(elsewhere, "MIDDLE", {"sgd": -1})
    folders = ["--output", str(tmp_path / "runs"), "--record", str(tmp_path / "record")]
    monkeypatch.setattr(sys, "argv", ["elsewhere", "--seeds", "2", "--jobs", "1", *folders])
    elsewhere.main()
    record = json.loads((tmp_path / "record" / "elsewhere.json").read_text())
    (found,) = record["pairs"]
    assert (found["workload"], found["optimizer"], found["steps"]) == ("quadratic", "sgd", 300)
    assert {recipe: len(outcomes) for recipe, outcomes in found["above"].items()} == {"cosine": 4, "cosine+guarded": 4}
    assert len(found["found"]) == 2
    assert found["above"]["cosine"][0]["lr"] == min(found["tuning"], key=lambda one: one["validation_loss"])["lr"]
    assert "quadratic with sgd: done" in capsys.readouterr().out
