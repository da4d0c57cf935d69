"""Runs whose rows are read late although they are on the CPU, and runs to compare them with."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch.optim import Optimizer

from adaptive_lr import AdaptiveLR

Make = Callable[[list[torch.Tensor]], Optimizer]


@contextmanager
def deferred(wanted: bool = True) -> Iterator[None]:
    """Inside, controls read their rows as they do on a GPU."""
    with mock.patch("adaptive_lr.lag._is_deferred", return_value=wanted):
        yield


@dataclass
class Run:
    """A small noisy regression with planted gradients and losses.

    Args:
        make: the optimizer of a matrix and a vector.
        late: whether rows are read late.
        lag: updates between a row and what it decides.
        controllers: makes the laws.
        spikes: step -> factor of the gradients.
        losses: step -> loss instead of the true one.
        options: of `AdaptiveLR`.
    """

    make: Make
    late: bool
    lag: int | None
    controllers: Callable[[], Any]
    spikes: dict[int, float] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.parameters = [torch.randn(4, 3, generator=generator), torch.zeros(4)]
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.optimizer = self.make(self.parameters)
        with deferred(self.late):
            self.control = AdaptiveLR(self.optimizer, self.controllers(), lag=self.lag, **self.options)

    def update(self, step: int) -> torch.Tensor:
        """One forward and backward pass, and `optimizer.step`; the loss."""
        generator = torch.Generator().manual_seed(1000 + step)
        x = torch.randn(8, 3, generator=generator)
        matrix, vector = self.parameters
        loss = (torch.nn.functional.linear(x, matrix, vector) - x.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        factor = self.spikes.get(step, 1.0)
        if factor != 1.0:
            for parameter in self.parameters:
                parameter.grad.mul_(factor)  # type: ignore[union-attr]
        self.optimizer.step()
        return torch.tensor(self.losses[step]) if step in self.losses else loss

    def step(self, step: int) -> tuple[Any, ...]:
        """A whole step; what can be seen of it at once."""
        self.control.step(self.update(step))
        return self.seen()

    def seen(self) -> tuple[Any, ...]:
        """Weights, learning rates, factor."""
        weights = [parameter.detach().clone() for parameter in self.parameters]
        return weights, self.control.get_last_lr(), self.control.factor

    def save(self) -> bytes:
        """A checkpoint."""
        buffer = io.BytesIO()
        state = {
            "parameters": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "control": self.control.state_dict(),
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def load(self, saved: bytes) -> None:
        """Go on from a checkpoint."""
        state = torch.load(io.BytesIO(saved))
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.control.load_state_dict(state["control"])


def assert_same(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    """Two runs look the same, to the bit."""
    assert all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    assert first[1:] == second[1:]


def assert_same_decisions(first: AdaptiveLR, second: AdaptiveLR) -> None:
    """Two controls decided the same, at the same steps, for the same reasons.

    Logarithms of the device and of the host may differ in the last bit, so values agree to 1e-12.
    """
    assert first.decisions.total == second.decisions.total
    for a, b in zip(first.decisions, second.decisions, strict=True):
        for name in a.__slots__:
            x, y = getattr(a, name), getattr(b, name)
            if isinstance(x, float) and not (math.isnan(x) and math.isnan(y)):
                assert math.isclose(x, y, rel_tol=1e-12), (name, a, b)
            elif not isinstance(x, float):
                assert x == y, (name, a, b)
