"""A convex task: logistic regression on the Wisconsin breast-cancer data."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from adaptive_lr.study.errors import require
from experiments.workloads.common import Classification, Pair, split_arrays


class BreastCancer(Classification):
    """569 tumours, 30 measurements each, benign or malignant (Street et al. 1993), and logistic regression.

    Stratified 341/114/114, standardised by the training part. The model is linear with one score per class, which
    is logistic regression on their difference: 62 parameters.
    """

    name = "breast-cancer"
    total_steps = 200
    batch_size = 32

    def __init__(self) -> None:
        load: Any = require("sklearn.datasets").load_breast_cancer
        parts = split_arrays(*load(return_X_y=True), stratify=True)
        mean, deviation = parts[0][0].mean(axis=0), parts[0][0].std(axis=0)

        def tensors(measurements: Any, classes: Any) -> Pair:
            return torch.from_numpy((measurements - mean) / deviation).float(), torch.from_numpy(classes).long()

        super().__init__(*(tensors(*part) for part in parts))

    def build_model(self, seed: int) -> nn.Module:
        """(n, 30) measurements -> (n, 2) scores."""
        return nn.Linear(30, 2)
