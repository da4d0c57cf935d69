"""What a training step costs under each recipe, as a ratio to `cosine` in the same process.

The time of a step is that between two batches: forward, backward, update and whatever the recipe does, evaluations
left out. Recipes take turns, so that a machine that slows down slows all of them; the ratio is the median over rounds
of the ratio of the medians over steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from torch import Tensor, nn

from adaptive_lr.study import Evaluation, Run, Workload, execute
from adaptive_lr.study.digits import Digits
from adaptive_lr.study.workload import Split, load_workload

REFERENCE = f"{__name__}:ClockedDigits"
BASE = "cosine"
STEPS = 200
ROUNDS = 5


class ClockedDigits:
    """The digits workload, whose batches remember when they were asked for; nothing is evaluated on the way.

    Attributes:
        moments: seconds on the clock at which each batch of the latest run was asked for.
    """

    name = "clocked-digits"
    total_steps = STEPS
    evaluation_interval = STEPS

    def __init__(self) -> None:
        self.workload: Workload = Digits()
        self.moments: list[float] = []

    def build_model(self, seed: int) -> nn.Module:
        """As it is."""
        return self.workload.build_model(seed)

    def batches(self, seed: int) -> Iterator[Any]:
        """As they are, and when they were asked for."""
        self.moments = moments = []
        for batch in self.workload.batches(seed):
            moments.append(time.perf_counter())
            yield batch

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """As it is."""
        return self.workload.loss(model, batch)

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """As it is."""
        return self.workload.evaluate(model, split)


def step_seconds(optimizer: str, recipe: str, lr: float, *, steps: int = STEPS) -> float:
    """Median seconds of a step."""
    workload = load_workload(REFERENCE)
    assert isinstance(workload, ClockedDigits)
    execute(Run(REFERENCE, optimizer, recipe, lr, 0, steps))
    moments = workload.moments
    return median(later - earlier for earlier, later in pairwise(moments))


def ratios(
    optimizer: str, recipes: Sequence[str], lr: float, *, rounds: int = ROUNDS, steps: int = STEPS
) -> dict[str, float]:
    """Recipe -> the time of its step over that of `cosine`, which is measured in every round.

    Args:
        optimizer: name.
        recipes: that are for this optimizer.
        lr: given to all of them; one at which the workload trains.
        rounds: how often recipes take turns, >= 1.
        steps: of each run, >= 2.
    """
    step_seconds(optimizer, BASE, lr, steps=steps)  # the first run of a process is slower
    found: dict[str, list[float]] = {recipe: [] for recipe in recipes}
    for _ in range(rounds):
        base = step_seconds(optimizer, BASE, lr, steps=steps)
        for recipe in recipes:
            found[recipe].append(step_seconds(optimizer, recipe, lr, steps=steps) / base)
    return {recipe: median(values) for recipe, values in found.items()}
