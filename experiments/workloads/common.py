"""What several workloads share: splitting, shuffling, and classification of a data set that fits into memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.errors import require
from adaptive_lr.study.workload import Evaluation, Split

SPLIT_SEED = 0
"""A split is part of its workload, not of the seed of a run."""

Pair = tuple[Tensor, Tensor]
"""Inputs and targets, one row per example."""


def split_arrays(inputs: Any, targets: Any, *, stratify: bool) -> list[tuple[Any, Any]]:
    """Split arrays into 60 % for training and 20 % each for validation and test.

    Args:
        inputs: (n, features).
        targets: (n,).
        stratify: whether every part has the same shares of the classes in `targets`.

    Returns:
        (inputs, targets) of training, validation and test.
    """
    split: Any = require("sklearn.model_selection").train_test_split
    fifth = round(0.2 * len(targets))

    def in_two(x: Any, y: Any) -> Any:
        return split(x, y, test_size=fifth, stratify=y if stratify else None, random_state=SPLIT_SEED)

    rest, test, rest_targets, test_targets = in_two(inputs, targets)
    train, validation, train_targets, validation_targets = in_two(rest, rest_targets)
    return [(train, train_targets), (validation, validation_targets), (test, test_targets)]


def shuffled_batches(examples: Pair, batch_size: int, seed: int) -> Iterator[Pair]:
    """Batches without end, in a new order every epoch; the incomplete last batch of an epoch is left out."""
    inputs, targets = examples
    whole = len(inputs) // batch_size * batch_size
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(inputs), generator=generator)
        for index in torch.split(order[:whole], batch_size):
            yield inputs[index], targets[index]


class Classification(ABC):
    """A classification task whose examples are tensors in memory.

    A subclass names itself, sets its horizon and its batch, hands its data to `__init__` and builds its model.

    Args:
        train: inputs (n, ...) and int64 classes (n,).
        validation: as `train`.
        test: as `train`.
    """

    name: str
    total_steps: int
    batch_size: int

    def __init__(self, train: Pair, validation: Pair, test: Pair) -> None:
        self.train = train
        self.splits = {"validation": validation, "test": test}
        self.evaluation_interval = max(1, len(train[0]) // self.batch_size)

    @abstractmethod
    def build_model(self, seed: int) -> nn.Module:
        """A new model that maps inputs to one score per class."""

    def batches(self, seed: int) -> Iterator[Pair]:
        """Batches of inputs and classes, shuffled anew every epoch."""
        return shuffled_batches(self.train, self.batch_size, seed)

    def loss(self, model: nn.Module, batch: Pair) -> Tensor:
        """Cross-entropy in nats."""
        inputs, classes = batch
        return F.cross_entropy(model(inputs), classes)

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Cross-entropy and accuracy over all examples of a split."""
        inputs, classes = self.splits[split]
        scores = torch.cat([model(part) for part in torch.split(inputs, 1000)])  # bounds the memory of large splits
        accuracy = (scores.argmax(dim=1) == classes).double().mean()
        return Evaluation(F.cross_entropy(scores, classes).item(), accuracy.item())
