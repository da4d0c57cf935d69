"""Results of runs that never were, for tests of what is made of results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from adaptive_lr.study import Evaluation, Run, RunResult

START = 2.0
"""Loss at initialisation of every run here."""


def recorded(
    recipe: str,
    peak: float,
    seed: int,
    loss: float,
    *,
    workload: str = "digits",
    optimizer: str = "sgd",
    steps: int = 40,
    accuracy: float | None = None,
    initial_accuracy: float = 0.1,
    decisions: Iterable[Mapping[str, object]] = (),
) -> RunResult:
    """A run whose losses fall in a straight line from `START` to `loss`; it diverged if that is not finite.

    Validation and test loss are the same; the learning rate is constant; there is an evaluation at every tenth step.
    """
    diverged = not math.isfinite(loss)
    end = 10.0 * START if diverged else loss

    def at(step: int) -> float:
        return START + (end - START) * step / steps

    return RunResult(
        run := Run(workload, optimizer, recipe, peak, seed, steps),
        str(run),
        "diverged" if diverged else "completed",
        initial=Evaluation(START, None if accuracy is None else initial_accuracy),
        validation=Evaluation(loss, accuracy),
        test=Evaluation(loss, accuracy),
        evaluations=tuple((step, at(step), accuracy) for step in range(0, steps + 1, 10)),
        train_losses=tuple(at(step) for step in range(steps)),
        learning_rates=(peak,) * steps,
        decisions=tuple(decisions),
    )


def decision(step: int, action: str = "cut") -> dict[str, object]:
    """One that halves the factor."""
    return {
        "step": step, "phase": "after", "controller": "plateau", "action": action, "statistic": "loss", "value": 1.0,
        "threshold": 0.5, "text": "the loss is flat", "factor_before": 1.0, "factor_after": 0.5,
        "momentum_before": 1.0, "momentum_after": 1.0,
    }  # fmt: skip


def study(*, seeds: int = 4) -> list[RunResult]:
    """Two workloads, one of them without accuracies; three recipes; three learning rates, the last of them too large.

    `cosine` is best at 0.1 (loss 0.5); `cosine+guarded` equals it there and survives at 1; `automatic` ends at 0.6 from
    everywhere.
    """
    losses = {
        "cosine": (1.5, 0.5, math.inf),
        "cosine+guarded": (1.5, 0.5, 0.8),
        "automatic": (0.6, 0.6, 0.6),
    }
    return [
        recorded(
            recipe,
            peak,
            seed,
            loss + 0.01 * seed,
            workload=workload,
            accuracy=None if workload == "plain" else 1.0 - 0.1 * min(loss, START),
            decisions=[decision(10), decision(10, "restore"), decision(25)] if recipe != "cosine" else (),
        )
        for workload in ("digits", "plain")
        for recipe, ends in losses.items()
        for peak, loss in zip((0.01, 0.1, 1.0), ends, strict=True)
        for seed in range(seeds)
    ]
