"""`experiments.set_aside`: the robustness study, on the workloads on which nothing was chosen."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from experiments import robustness, set_aside
from experiments.workloads import SET_ASIDE, TUNING


def test_the_two_kinds_of_workloads_are_apart() -> None:
    assert not set(SET_ASIDE.values()) & set(TUNING.values())


def test_it_writes_a_record_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a quick workload in place of those set aside, which are not run here."""
    monkeypatch.setattr(robustness, "DECADES", {"sgd": range(-2, 0)})
    monkeypatch.setattr(set_aside, "SET_ASIDE", {"stand-in": TUNING["quadratic"]})
    folders = ["--output", str(tmp_path / "runs"), "--record", str(tmp_path / "record")]
    monkeypatch.setattr(sys, "argv", ["set_aside", "--seeds", "1", "--jobs", "1", *folders])
    set_aside.main()
    record = json.loads((tmp_path / "record" / "set_aside.json").read_text())
    assert [pair["workload"] for pair in record["pairs"]] == ["stand-in"]
    assert "set_aside.json" in (tmp_path / "record" / "set_aside.md").read_text()
    assert "stand-in" in capsys.readouterr().out
