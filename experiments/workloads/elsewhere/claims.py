"""Elsewhere: counts, with a log link."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.elsewhere.drawing import Columns, shuffled, three_parts

FEATURES = 12


class Claims:
    """Made-up numbers of claims: Poisson regression by a network with a log link, the exposure as its offset.

    9,000 examples for training and 2,000 each for validation and test, of twelve correlated features, three of them
    with heavy tails; 3,025 parameters. The loss is the mean Poisson deviance; that of the true rates is near 1.
    """

    name = "poisson-exposure"
    total_steps = 800
    batch_size = 128
    evaluation_interval = 200

    def __init__(self) -> None:
        count = 13_000
        random = np.random.default_rng(101)
        x = random.normal(size=(count, FEATURES)) @ (np.eye(FEATURES) + 0.25 * random.normal(size=(FEATURES, FEATURES)))
        x[:, :3] = np.sign(x[:, :3]) * np.abs(x[:, :3]) ** 1.5
        x = (x - x.mean(0)) / x.std(0)
        effects = random.normal(size=FEATURES) * 0.3
        log_rate = x @ effects + 0.5 * np.sin(2.0 * x[:, 3]) + 0.3 * x[:, 4] * x[:, 5] - 0.5
        log_exposure = random.uniform(math.log(0.1), math.log(10.0), count)
        claims = random.poisson(np.exp(np.clip(log_rate, -6.0, 3.0) + log_exposure))
        columns = [torch.from_numpy(column).float() for column in (x, log_exposure, claims)]
        self.train, self.splits = three_parts(columns, 9_000, 2_000)

    def build_model(self, seed: int) -> nn.Module:
        """(n, 12) features -> (n, 1) log-rates."""
        return nn.Sequential(nn.Linear(FEATURES, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 1))

    def batches(self, seed: int) -> Iterator[Columns]:
        """(128, 12) features, (128,) log-exposures and (128,) numbers of claims."""
        for index in shuffled(len(self.train[0]), self.batch_size, seed):
            yield [column[index] for column in self.train]

    def loss(self, model: nn.Module, batch: Columns) -> Tensor:
        """Mean Poisson deviance."""
        features, log_exposure, claims = batch
        log_mean = model(features)[:, 0] + log_exposure
        value: Tensor = torch.special.xlogy(claims, claims) - claims * log_mean - claims + log_mean.exp()
        return 2.0 * value.mean()

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Mean Poisson deviance over a split."""
        return Evaluation(self.loss(model, self.splits[split]).item())
