"""Elsewhere: a density, with fresh samples in every batch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from adaptive_lr.study.workload import Evaluation, Split


class Coupling(nn.Module):
    """(n, 2) points -> them, one coordinate scaled and shifted by what the other says, and the (n,) log-scales."""

    def __init__(self, *, first: bool, hidden: int) -> None:
        super().__init__()
        self.first = first  # which coordinate is kept
        self.net = nn.Sequential(
            nn.Linear(1, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-scales stay between -2 and 2."""
        kept, moved = (x[:, :1], x[:, 1:]) if self.first else (x[:, 1:], x[:, :1])
        scale, shift = self.net(kept).chunk(2, dim=1)
        scale = 2.0 * torch.tanh(scale / 2.0)
        moved = moved * scale.exp() + shift
        return torch.cat([kept, moved] if self.first else [moved, kept], 1), scale[:, 0]


class RealNVP(nn.Module):
    """(n, 2) points -> (n,) negative log-densities, in nats."""

    def __init__(self, layers: int = 6, hidden: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Coupling(first=number % 2 == 0, hidden=hidden) for number in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """By the change of variables to a normal distribution."""
        volume = torch.zeros(len(x))
        for layer in self.layers:
            x, change = layer(x)
            volume = volume + change
        return 0.5 * x.square().sum(1) + math.log(2.0 * math.pi) - volume


def moons(count: int, generator: torch.Generator) -> Tensor:
    """(count, 2) points of two moons, scaled to where their entropy is positive."""
    angle = math.pi * torch.rand(count, generator=generator)
    upper = torch.rand(count, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1.0 - angle.cos()) - 0.5
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin()) - 0.25
    return 1.5 * (torch.stack([x, y], 1) + 0.1 * torch.randn(count, 2, generator=generator))


class MoonsFlow:
    """A normalising flow of six affine couplings (Dinh et al., arXiv:1605.08803) on two moons, sampled anew each time.

    7,116 parameters. The loss is in nats a point; the entropy of the test points is 1.83.
    """

    name = "realnvp-moons"
    total_steps = 500
    batch_size = 128
    evaluation_interval = 125

    def __init__(self) -> None:
        self.splits = {
            "validation": moons(2000, torch.Generator().manual_seed(51)),
            "test": moons(2000, torch.Generator().manual_seed(52)),
        }

    def build_model(self, seed: int) -> nn.Module:
        """Six couplings of 32 units."""
        return RealNVP()

    def batches(self, seed: int) -> Iterator[Tensor]:
        """(128, 2) new points."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield moons(self.batch_size, generator)

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Mean negative log-density."""
        value: Tensor = model(batch).mean()
        return value

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Mean negative log-density of the points of a split."""
        return Evaluation(model(self.splits[split]).mean().item())
