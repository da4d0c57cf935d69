"""Elsewhere: embeddings alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.elsewhere.drawing import Columns, shuffled, three_parts

USERS, ITEMS = 400, 250


class Factors(nn.Module):
    """(n,) users and (n,) items -> (n,) ratings: a product of two vectors, two biases and a mean."""

    def __init__(self, rank: int = 8) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, rank), nn.Embedding(ITEMS, rank)
        self.user_bias, self.item_bias = nn.Embedding(USERS, 1), nn.Embedding(ITEMS, 1)
        self.mean = nn.Parameter(torch.zeros(()))
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Predicted ratings."""
        product = (self.user(users) * self.item(items)).sum(1)
        found: Tensor = product + self.user_bias(users)[:, 0] + self.item_bias(items)[:, 0] + self.mean
        return found


class Ratings:
    """Matrix factorisation with biases (Koren et al. 2009) of made-up ratings of rank 4, of items by popularity.

    30,000 ratings for training and 3,000 each for validation and test, of 400 users and 250 items; 5,851 parameters.
    The loss is the mean squared error; the noise's variance is 0.25.
    """

    name = "matrix-factorisation"
    total_steps = 800
    batch_size = 512
    evaluation_interval = 200

    def __init__(self) -> None:
        rank, count = 4, 36_000
        random = np.random.default_rng(31)
        popularity = 1.0 / (np.arange(ITEMS) + 10.0)
        users = random.integers(0, USERS, count)
        items = random.choice(ITEMS, count, p=popularity / popularity.sum())
        left, right = random.normal(size=(USERS, rank)), random.normal(size=(ITEMS, rank)) / math.sqrt(rank)
        ratings = 3.5 + (left[users] * right[items]).sum(1) + 0.4 * random.normal(size=USERS)[users]
        ratings = ratings + 0.4 * random.normal(size=ITEMS)[items] + 0.5 * random.normal(size=count)
        columns = [torch.from_numpy(users), torch.from_numpy(items), torch.from_numpy(ratings).float()]
        self.train, self.splits = three_parts(columns, 30_000, 3_000)

    def build_model(self, seed: int) -> nn.Module:
        """Factors of rank 8, with biases and mean at zero."""
        return Factors()

    def batches(self, seed: int) -> Iterator[Columns]:
        """(512,) users, items and ratings."""
        for index in shuffled(len(self.train[0]), self.batch_size, seed):
            yield [column[index] for column in self.train]

    def loss(self, model: nn.Module, batch: Columns) -> Tensor:
        """Mean squared error of ratings."""
        users, items, ratings = batch
        return F.mse_loss(model(users, items), ratings)

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Mean squared error over a split."""
        return Evaluation(self.loss(model, self.splits[split]).item())
