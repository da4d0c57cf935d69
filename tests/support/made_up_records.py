"""Made-up records of the studies, in the form in which they are written."""

from __future__ import annotations

from typing import Any

ABOUT = {
    "command": "python -m experiments.made_up",
    "date": "2026-01-01",
    "seeds": 3,
    "control_sha256": "0123456789abcdef" * 4,
    "versions": {"python": "3", "torch": "2"},
}


def seeds_of(
    losses: list[float], accuracies: list[float] | None = None, *, interventions: int = 0, updates: int = 500
) -> dict[str, Any]:
    """`records.Repetitions` as plain values; test losses are twice those of validation."""
    return {
        "validation_loss": losses,
        "test_loss": [2.0 * loss for loss in losses],
        "validation_accuracy": accuracies,
        "test_accuracy": accuracies,
        "interventions": [interventions] * len(losses),
        "updates": [updates] * len(losses),
    }
