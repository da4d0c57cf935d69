"""A hard case: a deep plain perceptron without normalisation."""

from __future__ import annotations

from torch import nn

from adaptive_lr.study.digits import Digits


class DeepMLP(Digits):
    """The data of the built-in `digits` workload, and seven linear layers of width 256 with rectifiers between them.

    With torch's default initialisation (uniform, variance 1 / (3 fan_in)) activations and gradients shrink sixfold
    a layer, so the network hardly moves at first and becomes sharply curved once it does: under SGD the usable
    learning rates span less than a decade. 348,170 parameters.
    """

    name = "deep-mlp"
    total_steps = 300

    def build_model(self, seed: int) -> nn.Module:
        """(n, 64) pixels -> (n, 10) scores."""
        layers: list[nn.Module] = [nn.Linear(64, 256), nn.ReLU()]
        for _ in range(5):
            layers += [nn.Linear(256, 256), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(256, 10))
