"""Digits with a clock: what a training step costs, see `experiments.step_cost`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from adaptive_lr.study import Evaluation, Workload
from adaptive_lr.study.digits import Digits
from adaptive_lr.study.workload import Split

STEPS = 200


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
