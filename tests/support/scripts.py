"""Pieces of a training script that several test files use."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import nn


class Recorder(torch.optim.SGD):
    """Plain gradient descent that notes the learning rate and momentum of each group as it uses them."""

    def __init__(self, parameters: Any, **defaults: Any) -> None:
        super().__init__(parameters, **{"lr": 1.0, **defaults})
        self.used: list[tuple[float, float]] = []

    def step(self, closure: Any = None) -> Any:
        self.used += [(float(group["lr"]), group["momentum"]) for group in self.param_groups]
        return super().step(closure)


class Failing(torch.optim.SGD):
    """Raises what it is told to, once gradients and learning rate are looked at."""

    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("failed")


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def backward(module: nn.Module, *, scale: float = 1.0) -> None:
    module.zero_grad()
    (scale * module(torch.ones(4, 3)).square().mean()).backward()


def through_a_file(state: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer)
