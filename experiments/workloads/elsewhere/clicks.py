"""Elsewhere: categorical fields of very different frequencies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.elsewhere.drawing import Columns, shuffled, three_parts

SIZES = (4, 8, 12, 25, 50, 100, 200, 400)
"""Values of each field."""

PAIRS = ((0, 5), (1, 4), (2, 3), (3, 6), (0, 7))
"""Fields whose values matter together."""


class WideAndDeep(nn.Module):
    """(n, 8) fields -> (n,) log-odds: a weight for every value, and a perceptron of the values' embeddings."""

    offsets: Tensor

    def __init__(self, rank: int = 6) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.tensor((0, *np.cumsum(SIZES)[:-1])), persistent=False)
        self.wide, self.deep = nn.Embedding(sum(SIZES), 1), nn.Embedding(sum(SIZES), rank)
        nn.init.zeros_(self.wide.weight)
        nn.init.normal_(self.deep.weight, std=0.3)
        self.net = nn.Sequential(
            nn.Linear(rank * len(SIZES), 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def forward(self, fields: Tensor) -> Tensor:
        """The sum of both."""
        index = fields + self.offsets
        odds: Tensor = self.wide(index).sum((1, 2)) + self.net(self.deep(index).flatten(1))[:, 0]
        return odds


class Clicks:
    """Wide and deep learning (Cheng et al., arXiv:1606.07792) of made-up clicks with effects of values and of pairs.

    30,000 examples for training and 4,000 each for validation and test, of eight fields with Zipf frequencies; 10,842
    parameters.
    """

    name = "wide-and-deep"
    total_steps = 800
    batch_size = 256
    evaluation_interval = 200

    def __init__(self) -> None:
        count = 38_000
        random = np.random.default_rng(91)
        columns = []
        for size in SIZES:
            frequency = 1.0 / (np.arange(size) + 2.0)
            columns.append(random.choice(size, count, p=frequency / frequency.sum()))
        odds = np.full(count, -1.0)
        for size, column in zip(SIZES, columns, strict=True):
            odds += 0.7 * random.normal(size=size)[column]
        for one, other in PAIRS:
            left, right = random.normal(size=(SIZES[one], 2)), random.normal(size=(SIZES[other], 2))
            odds += (left[columns[one]] * right[columns[other]]).sum(1)
        clicked = random.random(count) < 1.0 / (1.0 + np.exp(-odds))
        data = [torch.from_numpy(np.stack(columns, 1)), torch.from_numpy(clicked).float()]
        self.train, self.splits = three_parts(data, 30_000, 4_000)

    def build_model(self, seed: int) -> nn.Module:
        """Embeddings of 6, and layers of 64 and 32."""
        return WideAndDeep()

    def batches(self, seed: int) -> Iterator[Columns]:
        """(256, 8) fields and (256,) zeros and ones."""
        for index in shuffled(len(self.train[0]), self.batch_size, seed):
            yield [column[index] for column in self.train]

    def loss(self, model: nn.Module, batch: Columns) -> Tensor:
        """Cross-entropy in nats."""
        return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Cross-entropy and accuracy over a split."""
        fields, clicked = self.splits[split]
        odds = model(fields)
        accuracy = ((odds > 0.0) == (clicked > 0.5)).double().mean()
        return Evaluation(F.binary_cross_entropy_with_logits(odds, clicked).item(), accuracy.item())
