"""One parameter, constant curvature, exact gradients: and Adam's loss spikes."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.workloads.objective import Objective


class AdamQuadratic(Objective):
    """f(x) = ½ x² from x near 1, without noise (the mechanism of Bai et al. 2025, arXiv:2506.04805).

    While gradients vanish, Adam's second moment v decays by β₂ a step however small they become. Once √v falls below
    η (1 - β₁) / (2 (1 + β₁)), heavy-ball momentum with the step η / √v is unstable at curvature 1, and the loss
    rises by many orders of magnitude before v has caught up; then it begins again. Nothing of that is in the data or
    the curvature: SGD does not spike. With AdamW's usual β₂ = 0.999 and a constant learning rate of 1, the first
    spike comes after some 2,100 steps, which is why this horizon is a long one; each step is one multiplication.
    In float64, where the gradient does not underflow to zero first.
    """

    name = "adam-quadratic"
    total_steps = 6000
    evaluation_interval = 100

    def value(self, position: Tensor) -> Tensor:
        """½ x²."""
        return 0.5 * position.square().sum()

    def start(self, generator: torch.Generator) -> Tensor:
        """1, give or take a tenth, so that seeds differ."""
        return 1.0 + 0.1 * torch.randn(1, generator=generator, dtype=torch.float64)

    def noise(self, generator: torch.Generator) -> Tensor:
        """None: the gradients are exact."""
        return torch.zeros(1, dtype=torch.float64)
