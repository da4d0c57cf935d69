"""The command that measures what a step costs, its table, and what it gives the paper."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import step_cost
from experiments.paper import step_cost as for_the_paper
from experiments.step_cost import markdown, over_base, quartiles
from made_up_records import ABOUT

RECORD: dict[str, Any] = {
    "about": {**ABOUT, "rounds": 5, "steps": 10},
    "rows": [
        {"optimizer": "sgd", "recipe": "cosine", "lr": 0.1, "seconds": [1e-3] * 5, "ratios": [1.0] * 5},
        {"optimizer": "sgd", "recipe": "cosine+guarded", "lr": 0.1, "seconds": [2e-3] * 5,
         "ratios": [1.5, 1.1, 1.3, 1.2, 1.4]},
        {"optimizer": "adamw", "recipe": "cosine", "lr": 1e-3, "seconds": [2e-3] * 5, "ratios": [1.0] * 5},
    ],
}  # fmt: skip


def test_a_time_is_divided_by_that_of_cosine_in_the_same_round() -> None:
    """A machine that becomes four times slower changes no ratio."""
    found = over_base({"cosine": [1.0, 4.0], "clip": [1.5, 6.0]})
    assert found == {"cosine": [1.0, 1.0], "clip": [1.5, 1.5]}


def test_the_table_and_the_paper_have_medians_and_quartiles() -> None:
    assert quartiles(RECORD["rows"][1]) == pytest.approx((1.2, 1.3, 1.4))
    text = markdown(RECORD)
    assert "| cosine+guarded | sgd | 1.30 | 1.20 to 1.40 |" in text
    assert "1.00 ms with sgd, 2.00 ms with adamw" in text
    part = for_the_paper.part(RECORD)
    assert part.numbers["step-cost.sgd.guarded.ratio"] == "$1.30$"
    assert part.numbers["step-cost.adamw.cosine.time"] == r"$2$\,ms"
    assert r"guarded & $1.30$ & $1.20$ to $1.40$ &  &  \\" in part.tables["step-cost"]


def test_it_runs_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And keeps every round; a recipe that is not for an optimizer is left out there."""
    arguments = ["--recipes", "clip", "prodigy", "--rounds", "2", "--steps", "4", "--record", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["step_cost", *arguments])
    step_cost.main()
    rows = json.loads((tmp_path / "step_cost.json").read_text())["rows"]
    assert [(row["optimizer"], row["recipe"]) for row in rows] == [
        ("sgd", "cosine"), ("sgd", "clip"), ("adamw", "cosine"), ("adamw", "clip"), ("adamw", "prodigy"),
    ]  # fmt: skip
    assert all(len(row["seconds"]) == len(row["ratios"]) == 2 for row in rows)
    assert (tmp_path / "step_cost.md").exists()


def test_bad_options_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["step_cost", "--rounds", "0"])
    with pytest.raises(SystemExit):
        step_cost.main()
    assert "--rounds must be at least 1" in capsys.readouterr().err
