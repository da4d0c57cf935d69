"""An ill-conditioned quadratic with gradient noise, whose optimum is known."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.workloads.objective import Objective


class Quadratic(Objective):
    """f(x) = ½ xᵀHx in 100 dimensions, with eigenvalues of H from 1e-3 to 1, evenly spaced in the logarithm.

    The noisy quadratic model of Zhang et al. (2019, arXiv:1907.04164): gradient noise has the covariance σ²H, as that
    of a well-fitted likelihood has. H is rotated at random (once, whatever the seed), so that a diagonal
    preconditioner cannot undo its condition. Runs begin at x ~ N(0, I), where the expected f is ½ tr H = 7.2.
    """

    name = "quadratic"
    total_steps = 300
    evaluation_interval = 20
    dimensions = 100
    condition = 1e3
    noise_scale = 0.1
    """The deviation sigma of the noise; that of the start is 1."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        gaussian = torch.randn(self.dimensions, self.dimensions, generator=generator, dtype=torch.float64)
        rotation = torch.linalg.qr(gaussian).Q
        self.eigenvalues = torch.logspace(0.0, -torch.tensor(self.condition).log10().item(), self.dimensions,
                                          dtype=torch.float64)  # fmt: skip
        self.root = ((rotation * self.eigenvalues.sqrt()) @ rotation.T).float()
        """H^½, (100, 100)."""

    def value(self, position: Tensor) -> Tensor:
        """½ ‖H^½ x‖²."""
        value: Tensor = 0.5 * (self.root @ position).square().sum()
        return value

    def start(self, generator: torch.Generator) -> Tensor:
        """X ~ N(0, I)."""
        return torch.randn(self.dimensions, generator=generator)

    def noise(self, generator: torch.Generator) -> Tensor:
        """E ~ N(0, σ²H)."""
        white = torch.randn(self.dimensions, generator=generator)
        noise: Tensor = self.noise_scale * (self.root @ white)
        return noise
