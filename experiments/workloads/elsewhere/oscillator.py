"""Elsewhere: a differential equation, whose loss holds derivatives of the network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from adaptive_lr.study.workload import Evaluation, Split

OMEGA, DAMPING, END = 3.0, 0.15, 2.0
"""Angular frequency, damping ratio, and the time up to which the equation is solved."""


class Oscillator:
    """A network that solves u'' + 2 z w u' + w² u = 0 with u(0) = 1, u'(0) = 0 (Raissi et al. 2019).

    The training loss is the squared residual at 48 random times and of the two conditions; what is reported is the
    relative error of u against the exact solution, the root of the mean square over 201 times. 1,153 parameters.
    Validation and test are the same: there is one solution.
    """

    name = "pinn-oscillator"
    total_steps = 600
    batch_size = 48
    evaluation_interval = 150

    def __init__(self) -> None:
        self.times = torch.linspace(0.0, END, 201)[:, None]
        rate, decay = OMEGA * math.sqrt(1.0 - DAMPING**2), DAMPING * OMEGA
        wave = (rate * self.times).cos() + decay / rate * (rate * self.times).sin()
        self.exact = (-decay * self.times).exp() * wave

    def build_model(self, seed: int) -> nn.Module:
        """(n, 1) times -> (n, 1) displacements."""
        return nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))

    def batches(self, seed: int) -> Iterator[Tensor]:
        """(48, 1) times, the first of them 0."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            times = END * torch.rand(self.batch_size, 1, generator=generator)
            times[0] = 0.0
            yield times

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Mean squared residual, in units of w², and squared violations of the conditions at time 0."""
        times = batch.clone().requires_grad_()
        u = model(times)
        (slope,) = torch.autograd.grad(u.sum(), times, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), times, create_graph=True)
        residual = bend / OMEGA**2 + 2.0 * DAMPING * slope / OMEGA + u
        value: Tensor = residual.square().mean() + (u[0, 0] - 1.0).square() + (slope[0, 0] / OMEGA).square()
        return value

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """The relative error of the solution."""
        error = (model(self.times) - self.exact).square().mean() / self.exact.square().mean()
        return Evaluation(error.sqrt().item())
