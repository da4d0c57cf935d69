"""Elsewhere: a variational autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.errors import require
from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.elsewhere.drawing import shuffled

LATENT = 8


class Autoencoder(nn.Module):
    """(n, 64) grey values and (n, 8) normal noise -> (n,) negative evidence lower bounds, in nats."""

    def __init__(self, hidden: int = 192) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.moments = nn.Linear(hidden, 2 * LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 64)
        )

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """Reconstruction and divergence from the prior."""
        mean, log_variance = self.moments(self.encoder(pixels)).chunk(2, dim=1)
        logits = self.decoder(mean + (0.5 * log_variance).exp() * noise)
        reconstruction = F.binary_cross_entropy_with_logits(logits, pixels, reduction="none").sum(1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)
        return reconstruction + divergence


class DigitsVAE:
    """A variational autoencoder (Kingma & Welling, arXiv:1312.6114) of scikit-learn's digits, split 1197/300/300.

    Grey values are taken for Bernoulli means. 103,760 parameters; the loss is in nats an image.
    """

    name = "vae-digits"
    total_steps = 500
    batch_size = 96
    evaluation_interval = 125

    def __init__(self) -> None:
        load_digits: Any = require("sklearn.datasets").load_digits
        pixels = torch.from_numpy(load_digits().data / 16.0).float()
        pixels = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(11))]
        self.train = pixels[:1197]
        generator = torch.Generator().manual_seed(12)
        self.splits = {
            split: (part.repeat(4, 1), torch.randn(4 * len(part), LATENT, generator=generator))
            for split, part in (("validation", pixels[1197:1497]), ("test", pixels[1497:]))
        }

    def build_model(self, seed: int) -> nn.Module:
        """The autoencoder, which gives its own loss."""
        return Autoencoder()

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(96, 64) images and (96, 8) noise."""
        generator = torch.Generator().manual_seed(seed + 1)
        for index in shuffled(len(self.train), self.batch_size, seed):
            yield self.train[index], torch.randn(len(index), LATENT, generator=generator)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Negative evidence lower bound, with one sample of the latent."""
        value: Tensor = model(*batch).mean()
        return value

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """The same over a split, with four samples an image that are part of the workload."""
        return Evaluation(model(*self.splits[split]).mean().item())
