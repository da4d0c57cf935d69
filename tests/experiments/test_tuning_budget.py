"""The tuning budget: the expected best of k runs, against one automatic run, from recorded runs alone."""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from experiments import robustness, tuning_budget
from experiments.paper import tuning_budget as for_the_paper
from experiments.tuning_budget_tables import budgets, expected_of_best, markdown, unmatched_share
from made_up_records import ABOUT

LOSSES = (1.0, 0.8, 0.5, 0.4, 0.6, 0.9, 1.2)


def outcomes(losses: tuple[float, ...], accuracy: float | None = 1.0) -> list[dict[str, Any]]:
    """Outcomes whose test accuracy is `accuracy` less a tenth of the loss."""
    return [
        {"lr": 1.0, "validation_loss": loss, "test_loss": loss, "seeds": 1, "tuning_loss": loss,
         "test_accuracy": None if accuracy is None else accuracy - loss / 10}
        for loss in losses
    ]  # fmt: skip


RECORD = {
    "about": ABOUT,
    "pairs": [
        {"workload": "x", "optimizer": "sgd", "nearby": outcomes(LOSSES), "decades": outcomes((*LOSSES, 2.0, 2.0)),
         "automatic": outcomes((0.5, 0.6, 0.7))},
        {"workload": "y", "optimizer": "sgd", "nearby": outcomes(LOSSES, None),
         "decades": outcomes((*LOSSES, 2.0, 2.0), None), "automatic": outcomes((0.3,) * 3, None)},
    ],
}  # fmt: skip


def test_the_expected_best_is_the_mean_over_all_choices_of_k() -> None:
    """By enumeration: of all sets of k of the seven losses."""
    one, _ = budgets(RECORD)
    for k in range(1, 8):
        least = fmean(min(chosen) for chosen in combinations(LOSSES, k))
        assert one.nearby[k - 1] == pytest.approx(least / 0.6)


def test_the_expected_of_best_is_that_of_the_best_by_validation() -> None:
    """Accuracy falls with the loss here, so it follows the expected least loss."""
    for k, accuracy in enumerate(expected_of_best(outcomes(LOSSES), "test_accuracy"), start=1):
        assert accuracy == pytest.approx(1.0 - fmean(min(chosen) for chosen in combinations(LOSSES, k)) / 10)


def test_the_best_is_chosen_by_losses_that_are_not_reported() -> None:
    """Of two, the one that is worse where it counts was better in tuning: the more runs, the worse."""
    two = [{"tuning_loss": 1.0, "validation_loss": 5.0}, {"tuning_loss": 2.0, "validation_loss": 3.0}]
    assert expected_of_best(two, "validation_loss") == [4.0, 5.0]


def test_runs_to_match_one_automatic_run() -> None:
    """Losses of 0.6: two runs expect 0.63, three 0.52; losses of 0.3 are below any."""
    first, second = budgets(RECORD)
    assert first.matched_nearby == next(
        k for k in range(1, 8) if fmean(min(chosen) for chosen in combinations(LOSSES, k)) <= 0.6
    )
    assert second.matched_nearby is None
    assert unmatched_share([first, second], 7, decades=False) == 0.5
    assert unmatched_share([first, second], 1, decades=True) == 1.0


def test_gaps_are_to_the_best_of_all_seven_in_points() -> None:
    first, second = budgets(RECORD)
    assert first.automatic_gap == pytest.approx(2.0)
    assert first.gaps is not None
    assert first.gaps[-1] == pytest.approx(0.0)
    assert second.gaps is None
    assert second.automatic_gap is None


def test_the_document_and_the_paper_say_what_the_record_says() -> None:
    assert "50% at k = 7 of 2 pairs" in markdown(RECORD)
    part = for_the_paper.part(RECORD)
    assert part.numbers["budget.ahead.7"] == r"50.0\,\%"
    assert part.numbers["budget.gap.automatic"] == "$+2.0$"
    assert part.figures["tuning-budget.pdf"].startswith(b"%PDF")


def test_finished_runs_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of each recipe every learning rate is on record."""
    monkeypatch.setattr(tuning_budget, "DECADES", {"sgd": range(-2, 1)})
    monkeypatch.setattr(robustness, "DECADES", {"sgd": range(-2, 1)})
    arguments = ["--workloads", "quadratic", "--seeds", "1", "--output", str(tmp_path / "runs"), "--record"]
    monkeypatch.setattr(sys, "argv", ["tuning_budget", *arguments, str(tmp_path)])
    tuning_budget.main()
    (found,) = json.loads((tmp_path / "tuning_budget.json").read_text())["pairs"]
    assert [len(found[name]) for name in ("nearby", "decades", "automatic")] == [7, 3, 3]
    assert all("tuning_loss" in one for name in ("nearby", "decades") for one in found[name])
    assert any(one["tuning_loss"] != one["validation_loss"] for one in found["nearby"])
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    tuning_budget.main()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")} == files
