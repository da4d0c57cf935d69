"""The built-in workload: scikit-learn's handwritten digits and a small perceptron, real data without a download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.errors import require
from adaptive_lr.study.workload import Evaluation, Split

SPLIT_SEED = 0
"""The split is part of the workload, not of the seed: all runs see the same 1077, 360 and 360 images."""


class Digits:
    """1797 images of 8 × 8 pixels in ten classes (Alpaydin & Kaynak 1998), and a perceptron of 26,122 parameters.

    Stratified split into 1077 images for training and 360 each for validation and test. Pixels are standardised by
    the training images' mean and deviation; pixels that never vary there stay at zero.
    """

    name = "digits"
    total_steps = 400
    batch_size = 64
    hidden = 128
    evaluation_interval = 1077 // batch_size
    """One epoch: 16 batches; the incomplete last one is left out."""

    def __init__(self) -> None:
        load_digits = require("sklearn.datasets").load_digits
        split: Callable[..., Any] = require("sklearn.model_selection").train_test_split
        pixels, classes = load_digits(return_X_y=True)
        rest, test, rest_classes, test_classes = split(
            pixels, classes, test_size=360, stratify=classes, random_state=SPLIT_SEED
        )
        train, validation, train_classes, validation_classes = split(
            rest, rest_classes, test_size=360, stratify=rest_classes, random_state=SPLIT_SEED
        )
        mean, deviation = train.mean(axis=0), train.std(axis=0)
        deviation[deviation == 0.0] = 1.0

        def tensors(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
            return torch.from_numpy((images - mean) / deviation).float(), torch.from_numpy(labels).long()

        self.train = tensors(train, train_classes)
        self.splits = {
            "validation": tensors(validation, validation_classes),
            "test": tensors(test, test_classes),
        }

    def build_model(self, seed: int) -> nn.Module:
        """A perceptron 64-128-128-10 with rectifiers."""
        return nn.Sequential(
            nn.Linear(64, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, 10),
        )

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (64, 64) images and (64,) classes, shuffled anew every epoch."""
        images, classes = self.train
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(images), generator=generator)
            for start in range(0, len(images) - self.batch_size + 1, self.batch_size):
                index = order[start : start + self.batch_size]
                yield images[index], classes[index]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy."""
        images, classes = batch
        return F.cross_entropy(model(images), classes)

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Cross-entropy and accuracy over all images of a split."""
        images, classes = self.splits[split]
        scores = model(images)
        accuracy = (scores.argmax(dim=1) == classes).double().mean()
        return Evaluation(F.cross_entropy(scores, classes).item(), accuracy.item())
