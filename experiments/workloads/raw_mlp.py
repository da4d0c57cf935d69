"""A hard case: a perceptron on inputs that nobody scaled."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adaptive_lr.study.errors import require
from experiments.workloads.common import Classification, Pair, split_arrays

SCALE = 160.0
"""Pixels run from 0 to this: the size of 8-bit images, not of the unit interval networks are initialised for."""


class RawMLP(Classification):
    """scikit-learn's digits, stratified 1079/359/359, pixels in [0, 160], and a perceptron of 26,122 parameters.

    The loss at initialisation is many times ln 10, and the curvature of the first layer grows with the square of the
    inputs, while that of the others hardly does.
    """

    name = "raw-mlp"
    total_steps = 300
    batch_size = 64

    def __init__(self) -> None:
        load_digits: Any = require("sklearn.datasets").load_digits
        pixels, classes = load_digits(return_X_y=True)

        def tensors(images: Any, labels: Any) -> Pair:
            return torch.from_numpy(images * (SCALE / 16.0)).float(), torch.from_numpy(labels).long()

        super().__init__(*(tensors(*part) for part in split_arrays(pixels, classes, stratify=True)))

    def build_model(self, seed: int) -> nn.Module:
        """(n, 64) pixels -> (n, 10) scores."""
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
