"""Entries of the record of problems of other kinds, made up."""

from __future__ import annotations

from typing import Any

from experiments.robustness import rate

RATIOS = {"cosine": (1.0, 2.0, 4.0, 8.0), "cosine+guarded": (1.0, 1.01, 1.5, 3.0)}


def outcome(lr: float, loss: float, accuracy: float | None = None) -> dict[str, Any]:
    return {"lr": lr, "validation_loss": loss, "test_loss": loss, "test_accuracy": accuracy, "seeds": 2}


def entry(optimizer: str, automatic: float, *, accuracy: bool = False, intervals: bool = True) -> dict[str, Any]:
    """Tuned at 0.1 with a loss of 0.5; what is lost in accuracy is a tenth of what the ratio of losses is above 1."""

    def at(lr: float, times: float) -> dict[str, Any]:
        return outcome(lr, 0.5 * times, 0.9 - 0.1 * (times - 1.0) if accuracy else None)

    ends = {recipe: [[ratio - 0.25, ratio + 0.25] for ratio in ratios] for recipe, ratios in RATIOS.items()}
    return {
        "workload": "x", "optimizer": optimizer, "steps": 300, "found": [0.01, 0.1], "spent": [0.04, 0.09],
        "tuning": [at(0.01, 2.0), at(0.1, 1.0), at(1.0, 4.0)],
        "above": {recipe: [at(rate(k - 2), times) for k, times in enumerate(ratios)]
                  for recipe, ratios in RATIOS.items()},
        "intervals": {**ends, "automatic": [[automatic - 0.25, automatic + 0.25]]} if intervals else {},
        "automatic": at(0.001, automatic),
    }  # fmt: skip
