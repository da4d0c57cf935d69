"""Rosenbrock's curved valley, with gradient noise."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.workloads.objective import Objective


class Rosenbrock(Objective):
    """f(x) = (1 - x₀)² + 100 (x₁ - x₀²)² (Rosenbrock 1960), zero at (1, 1).

    Runs begin near the classic start (-1.2, 1), where f = 24.2. At the optimum the curvatures are 1002 and 0.4.
    """

    name = "rosenbrock"
    total_steps = 300
    evaluation_interval = 20
    start_scale = 0.01
    noise_scale = 0.1
    """Deviation of each component of the gradient noise; the gradient at the start is (-216, -88)."""

    def value(self, position: Tensor) -> Tensor:
        """f(x)."""
        first, second = position
        value: Tensor = (1.0 - first).square() + 100.0 * (second - first.square()).square()
        return value

    def start(self, generator: torch.Generator) -> Tensor:
        """(-1.2, 1) and a little noise, so that seeds differ."""
        return torch.tensor([-1.2, 1.0]) + self.start_scale * torch.randn(2, generator=generator)

    def noise(self, generator: torch.Generator) -> Tensor:
        """E ~ N(0, 0.1² I)."""
        return self.noise_scale * torch.randn(2, generator=generator)
