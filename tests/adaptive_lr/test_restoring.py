"""A training run is left exactly as a range test found it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from adaptive_lr import AdaptiveLR, range_test
from adaptive_lr.layer import is_controlled
from range_runs import OPTIMIZERS, SHORT, Run, adamw

# ---------------------------------------------------------------- left as it was found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_training_run_around_it_is_bit_identical_to_one_without_it(name: str) -> None:
    """At the start, in the middle, twice in a row: data order, dropout, losses, weights and state stay the same."""
    plainly = Run(OPTIMIZERS[name])
    plainly.train(2)
    with_sweeps = Run(OPTIMIZERS[name])  # sets the global generators back to its start
    with_sweeps.sweep()
    with_sweeps.train(1)
    first = with_sweeps.sweep()
    assert with_sweeps.sweep() == first
    with_sweeps.train(1)
    assert with_sweeps.losses == plainly.losses
    states = ({"m": run.model.state_dict(), "o": run.optimizer.state_dict()} for run in (with_sweeps, plainly))
    torch.testing.assert_close(*states, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_object_and_every_bit_is_as_before(name: str) -> None:
    """The same tensors with the same content, gradients, flags, groups, generators, hooks and scheduler."""
    for epochs in (0, 1):
        run = Run(OPTIMIZERS[name])
        run.train(epochs)
        run.model.norm.eval()
        run.model.frozen.weight.grad = torch.ones(3, 3)
        before = run.everything()
        run.sweep()
        assert run.everything() == before
        assert not is_controlled(run.optimizer)


def raise_at(call: int, error: BaseException) -> Callable[..., torch.Tensor]:
    """A loss that raises at its n-th call."""
    calls = iter(range(1, 1000))

    def loss_fn(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if next(calls) == call:
            raise error
        return F.cross_entropy(scores, y)

    return loss_fn


@pytest.mark.parametrize("error", [RuntimeError("the user's"), KeyboardInterrupt()], ids=["exception", "Ctrl-C"])
@pytest.mark.parametrize("call", [1, 7])
def test_whatever_is_raised_everything_is_restored_and_it_is_raised_again(error: BaseException, call: int) -> None:
    run = Run(adamw)
    run.train(1)
    before = run.everything()
    with pytest.raises(type(error)) as caught:
        run.sweep(loss_fn=raise_at(call, error))
    assert caught.value is error
    assert run.everything() == before


def test_control_works_after_it_and_refuses_it_meanwhile() -> None:
    """An optimizer under control is refused with a sentence, and nothing is changed; after detach it is swept."""
    run = Run(adamw)
    control = AdaptiveLR(run.optimizer)
    before = run.everything()
    with pytest.raises(ValueError, match=r"not be under AdaptiveLR control, got a AdamW that is: save .*detach\(\)"):
        run.sweep()
    assert run.everything() == before
    control.detach()
    run.sweep()
    AdaptiveLR(run.optimizer)


def test_a_loader_keeps_its_workers_to_itself() -> None:
    """Persistent workers of an epoch under way go on, and the next epoch has the order it would have had."""

    def order(sweep: bool) -> list[list[float]]:
        torch.manual_seed(0)
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        data = TensorDataset(torch.arange(12.0).reshape(-1, 1), torch.zeros(12, 1))
        loader = DataLoader(data, 4, shuffle=True, num_workers=1, persistent_workers=True)
        seen: list[list[float]] = []
        for _ in range(2):
            for number, (x, _) in enumerate(loader):
                seen.append(x.flatten().tolist())
                if sweep and number == 1:
                    range_test(model, optimizer, F.mse_loss, loader, start_lr=1e-6, end_lr=1e-3, steps=4)
        return seen

    assert order(sweep=True) == order(sweep=False)


def test_what_a_wrapping_optimizer_and_a_loss_module_keep_is_restored() -> None:
    """Attributes of the optimizer, an optimizer within it, and buffers of a loss that is a module."""

    class Wrapper(torch.optim.SGD):
        def __init__(self, parameters: Any) -> None:
            parameters = list(parameters)
            super().__init__(parameters, lr=0.1)
            self.inner, self.history = torch.optim.Adam(parameters), [0]

        def step(self, closure: Any = None) -> None:
            self.history.append(len(self.history))
            self.inner.step()
            super().step()

    class CountingLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return F.mse_loss(scores, y)

    model, loss_fn = nn.Linear(2, 1), CountingLoss()
    optimizer = Wrapper(model.parameters())
    range_test(model, optimizer, loss_fn, [(torch.ones(4, 2), torch.ones(4, 1))], **SHORT)
    assert (optimizer.history, dict(optimizer.inner.state), float(loss_fn.calls)) == ([0], {}, 0.0)
