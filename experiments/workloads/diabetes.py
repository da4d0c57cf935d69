"""Set aside: regression, with saturating units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.errors import require
from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.common import Pair, shuffled_batches, split_arrays


class Diabetes:
    """Progression of diabetes in 442 patients from ten measurements (Efron et al. 2004), and a tanh perceptron.

    Split 266/88/88; measurements and target standardised by the training part, so that predicting the mean has a
    mean squared error of about 1. 4,929 parameters. Set aside: run when the laws are fixed, and never while a constant
    is being chosen.
    """

    name = "diabetes"
    total_steps = 200
    batch_size = 32
    evaluation_interval = 266 // batch_size

    def __init__(self) -> None:
        load: Any = require("sklearn.datasets").load_diabetes
        parts = split_arrays(*load(return_X_y=True), stratify=False)
        measurements, progression = parts[0]
        mean, deviation = measurements.mean(axis=0), measurements.std(axis=0)

        def tensors(inputs: Any, targets: Any) -> Pair:
            scaled = (targets - progression.mean()) / progression.std()
            return torch.from_numpy((inputs - mean) / deviation).float(), torch.from_numpy(scaled).float()

        self.train, validation, test = (tensors(*part) for part in parts)
        self.splits = {"validation": validation, "test": test}

    def build_model(self, seed: int) -> nn.Module:
        """(n, 10) measurements -> (n,) predictions."""
        return nn.Sequential(
            nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1), nn.Flatten(0)
        )

    def batches(self, seed: int) -> Iterator[Pair]:
        """Batches of (32, 10) measurements and (32,) targets, shuffled anew every epoch."""
        return shuffled_batches(self.train, self.batch_size, seed)

    def loss(self, model: nn.Module, batch: Pair) -> Tensor:
        """Mean squared error, in variances of the training target."""
        measurements, target = batch
        return F.mse_loss(model(measurements), target)

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Mean squared error over a split; there is no accuracy."""
        return Evaluation(self.loss(model, self.splits[split]).item())
