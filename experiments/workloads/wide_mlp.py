"""Set aside: a wide and shallow perceptron."""

from __future__ import annotations

from torch import nn

from adaptive_lr.study.digits import Digits


class WideMLP(Digits):
    """The data of the built-in `digits` workload, and one hidden layer of 800 rectifiers: 60,010 parameters.

    Set aside: run when the laws are fixed, and never while a constant is being chosen.
    """

    name = "wide-mlp"
    total_steps = 250

    def build_model(self, seed: int) -> nn.Module:
        """(n, 64) pixels -> (n, 10) scores."""
        return nn.Sequential(nn.Linear(64, 800), nn.ReLU(), nn.Linear(800, 10))
