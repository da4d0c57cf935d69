"""Elsewhere: image to image, with batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.errors import require
from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.elsewhere.drawing import shuffled

SIDE = 16
NOISE = 0.1
"""Standard deviation of the noise, where grey values are from 0 to 1."""


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """(n, 1, 16, 16) noisy patches -> the noise in them, in standard deviations."""

    def __init__(self, width: int = 10) -> None:
        super().__init__()
        self.top, self.down = _block(1, width), _block(width, 2 * width)
        self.middle = _block(2 * width, 2 * width)
        self.up = _block(3 * width, width)
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, noisy: Tensor) -> Tensor:
        """At full and at half resolution."""
        top = self.top(noisy)
        low = self.middle(self.down(F.max_pool2d(top, 2)))
        found: Tensor = self.head(self.up(torch.cat([top, F.interpolate(low, scale_factor=2.0)], 1)))
        return found


class Denoiser:
    """A small U-Net that finds the noise in patches of scikit-learn's two photographs, left, middle and right of them.

    3,000 patches for training and 300 each for validation and test; 8,401 parameters. The loss is the mean squared
    error in variances of the noise.
    """

    name = "unet-denoiser"
    total_steps = 300
    batch_size = 24
    evaluation_interval = 100

    def __init__(self) -> None:
        load_images: Any = require("sklearn.datasets").load_sample_images
        photos = [photo.mean(2) / 255.0 for photo in load_images().images]
        random = np.random.default_rng(21)

        def patches(count: int, left: float, right: float) -> Tensor:
            found = []
            for number in range(count):
                photo = photos[number % len(photos)]
                height, width = photo.shape
                y = random.integers(0, height - SIDE)
                x = random.integers(int(left * width), int(right * width) - SIDE)
                found.append(photo[y : y + SIDE, x : x + SIDE])
            return torch.from_numpy(np.stack(found)).float()[:, None] - 0.5

        self.train = patches(3000, 0.0, 0.7)
        generator = torch.Generator().manual_seed(22)
        self.splits = {
            split: (clean, torch.randn(clean.shape, generator=generator))
            for split, clean in (("validation", patches(300, 0.7, 0.85)), ("test", patches(300, 0.85, 1.0)))
        }

    def build_model(self, seed: int) -> nn.Module:
        """A U-Net of two levels."""
        return UNet()

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(24, 1, 16, 16) clean patches, and noise of the same shape."""
        generator = torch.Generator().manual_seed(seed + 1)
        for index in shuffled(len(self.train), self.batch_size, seed):
            clean = self.train[index]
            yield clean, torch.randn(clean.shape, generator=generator)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the noise found."""
        clean, noise = batch
        return F.mse_loss(model(clean + NOISE * noise), noise)

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Mean squared error over a split, whose noise is part of the workload."""
        return Evaluation(self.loss(model, self.splits[split]).item())
