"""What the workloads set aside give the paper, from outcomes by hand."""

from __future__ import annotations

from typing import Any

from experiments.paper import set_aside
from made_up_records import ABOUT


def outcome(loss: float, accuracy: float | None) -> dict[str, Any]:
    return {"lr": 0.1, "validation_loss": loss, "test_loss": loss, "test_accuracy": accuracy, "seeds": 3}


def pair(workload: str, accuracy: float | None, automatic: list[dict[str, Any]]) -> dict[str, Any]:
    tuned = outcome(0.5, accuracy)
    above = {
        "cosine": [tuned, tuned, outcome(2.0, None if accuracy is None else 0.1), tuned],
        "cosine+guarded": [tuned, tuned, tuned, outcome(0.6, None if accuracy is None else 0.88)],
    }
    return {
        "workload": workload, "optimizer": "sgd", "tuned": tuned, "tuned_at_edge": False, "missing": 0,
        "decades": {"automatic": automatic}, "sensitivity": {}, "above": above,
    }  # fmt: skip


def test_gaps_are_the_worst_and_ratios_are_means_over_the_rates_given() -> None:
    scored = pair("images", 0.9, [outcome(0.5, 0.9), outcome(1.0, 0.85)])
    unscored = pair("numbers", None, [outcome(0.25, None), outcome(0.25, None)])
    numbers = set_aside.part({"about": ABOUT, "pairs": [scored, unscored]}).numbers
    assert (numbers["set-aside.pairs"], numbers["set-aside.scored"]) == ("2", "1")
    assert numbers["set-aside.worst-gap"] == "$+5.0$"
    assert (numbers["set-aside.least-ratio"], numbers["set-aside.most-ratio"]) == ("$0.5$", "$1.5$")
    assert (numbers["set-aside.above-10.cosine.worst"], numbers["set-aside.above-10.cosine.ratio"]) == (
        "$+80.0$",
        "$4$",
    )
    assert (numbers["set-aside.above-30.guarded.worst"], numbers["set-aside.above-30.guarded.ratio"]) == (
        "$+2.0$",
        "$1.2$",
    )
