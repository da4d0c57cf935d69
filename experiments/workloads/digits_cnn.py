"""A convolutional network with batch normalisation on scikit-learn's digits."""

from __future__ import annotations

from torch import nn

from adaptive_lr.study.digits import Digits


class DigitsCNN(Digits):
    """The data of the built-in `digits` workload; two convolutions with batch normalisation, 6,138 parameters.

    Its buffers (running means and variances) are what a rewind must not forget.
    """

    name = "digits-cnn"
    total_steps = 300

    def build_model(self, seed: int) -> nn.Module:
        """(n, 64) pixels -> (n, 10) scores."""
        return nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
