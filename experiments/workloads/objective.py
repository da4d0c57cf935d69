"""Test functions as workloads: a point is the model, and what a batch brings is noise on the gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from adaptive_lr.study.workload import Evaluation, Split


class Point(nn.Module):
    """A vector to be moved.

    Args:
        start: (n,) where it begins.
    """

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.position = nn.Parameter(start.clone())


class Objective(ABC):
    """A function f of a point x, minimised from noisy gradients.

    The loss of a batch e is f(x) + e·x, so its gradient is ∇f(x) + e, exact in expectation. Both splits are f itself:
    a known function has nothing to generalise to.
    """

    name: str
    total_steps: int
    evaluation_interval: int

    @abstractmethod
    def value(self, position: Tensor) -> Tensor:
        """f(x) >= 0, zero at the optimum alone: (n,) -> 0-d."""

    @abstractmethod
    def start(self, generator: torch.Generator) -> Tensor:
        """Where a run begins: (n,)."""

    @abstractmethod
    def noise(self, generator: torch.Generator) -> Tensor:
        """What is added to one gradient: (n,), of mean zero."""

    def build_model(self, seed: int) -> nn.Module:
        """A point at the start that belongs to the seed."""
        return Point(self.start(torch.Generator().manual_seed(seed)))

    def batches(self, seed: int) -> Iterator[Tensor]:
        """The noise of one gradient after another."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield self.noise(generator)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """f(x) + e·x; may be negative, as any function plus a random slope may."""
        position = model.get_parameter("position")
        return self.value(position) + batch @ position

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """f(x), without noise."""
        return Evaluation(self.value(model.get_parameter("position")).item())
