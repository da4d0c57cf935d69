"""What is trained: replace the data, the model and the loss by your own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study import Evaluation


class TwoRings:
    """Points on two noisy rings, one inside the other; a small perceptron tells them apart."""

    name = "two-rings"
    total_steps = 60
    evaluation_interval = 15
    """Updates between two evaluations on the validation split."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)  # the data is the workload's; all seeds of a study share it
        ring = torch.randint(2, (600,), generator=generator)
        angle = 6.2832 * torch.rand(600, generator=generator)
        radius = 1.0 + ring + 0.3 * torch.randn(600, generator=generator)
        points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        self.train = points[:400], ring[:400]
        self.splits = {"validation": (points[400:500], ring[400:500]), "test": (points[500:], ring[500:])}

    def build_model(self, seed: int) -> nn.Module:
        """A new model; torch's generator is seeded already."""
        return nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches without end, in an order that depends on the seed alone."""
        points, ring = self.train
        generator = torch.Generator().manual_seed(seed)
        while True:
            index = torch.randint(len(points), (32,), generator=generator)
            yield points[index], ring[index]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy on one batch."""
        points, ring = batch
        return F.cross_entropy(model(points), ring)

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Cross-entropy and accuracy on "validation" or "test"; leave the accuracy out where there is none."""
        points, ring = self.splits[split]
        scores = model(points)
        accuracy = (scores.argmax(dim=1) == ring).double().mean().item()
        return Evaluation(F.cross_entropy(scores, ring).item(), accuracy)
