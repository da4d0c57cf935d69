"""Optimizers from packages: what they cannot bear is refused with a sentence, the rest is layered as usual."""

from __future__ import annotations

import pytest
import torch

from adaptive_lr import AdaptiveLR
from laws import Reflex, Script

schedulefree = pytest.importorskip("schedulefree")
prodigyopt = pytest.importorskip("prodigyopt")


def parameters() -> list[torch.Tensor]:
    return [torch.full((4, 2), 1.0, requires_grad=True), torch.full((2,), 2.0, requires_grad=True)]


def train(optimizer: torch.optim.Optimizer, weights: list[torch.Tensor], *, left_out: int = -1) -> None:
    for step in range(8):
        for index, weight in enumerate(weights):
            weight.grad = weight.detach() * (1 + 0.1 * step) + 0.1 * index
        if step != left_out:
            optimizer.step()


@pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree"])
def test_schedule_free_takes_factors_below_one_and_refuses_momentum_and_raises(name: str) -> None:
    def make(weights: list[torch.Tensor], lr: float) -> torch.optim.Optimizer:
        optimizer = getattr(schedulefree, name)(weights, lr=lr)
        optimizer.train()
        return optimizer

    by_hand, controlled = parameters(), parameters()
    reference = make(by_hand, 0.05)
    optimizer = make(controlled, 0.1)
    with pytest.warns(UserWarning, match="momentum is not changed: .* averages its iterates"):
        AdaptiveLR(optimizer, Script((0.5,), (0.5,)))
        train(optimizer, controlled)
    train(reference, by_hand)
    for mode in ("train", "eval"):
        getattr(optimizer, mode)()
        getattr(reference, mode)()
        assert all(torch.equal(a, b) for a, b in zip(by_hand, controlled, strict=True))

    raised, plain = parameters(), parameters()
    optimizer = make(raised, 0.1)
    with pytest.warns(UserWarning, match="not raised above its base"):
        AdaptiveLR(optimizer, Script((3.0,)))
        train(optimizer, raised)
    train(make(plain, 0.1), plain)
    assert all(torch.equal(a, b) for a, b in zip(plain, raised, strict=True))


@pytest.mark.parametrize("name", ["SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree", "Prodigy"])
def test_a_skipped_step_leaves_no_mark_on_counters_the_package_keeps_in_groups(name: str) -> None:
    def make(weights: list[torch.Tensor]) -> torch.optim.Optimizer:
        if name == "Prodigy":
            return prodigyopt.Prodigy(weights)
        optimizer = getattr(schedulefree, name)(weights, lr=0.1)
        optimizer.train()
        return optimizer

    by_hand, controlled = parameters(), parameters()
    reference, optimizer = make(by_hand), make(controlled)
    AdaptiveLR(optimizer, Reflex(skip_at=(3,)))
    train(optimizer, controlled)
    train(reference, by_hand, left_out=3)
    assert all(torch.equal(a, b) for a, b in zip(by_hand, controlled, strict=True))
    for left, right in zip(reference.param_groups, optimizer.param_groups, strict=True):
        assert {k: v for k, v in left.items() if k != "params"} == {k: v for k, v in right.items() if k != "params"}


def test_prodigy_is_scaled_as_one_and_refused_with_different_learning_rates() -> None:
    by_hand, controlled = parameters(), parameters()
    optimizer = prodigyopt.Prodigy([{"params": [p]} for p in controlled], lr=1.0)
    AdaptiveLR(optimizer, Script((0.5,)))
    train(optimizer, controlled)
    train(prodigyopt.Prodigy([{"params": [p]} for p in by_hand], lr=0.5), by_hand)
    assert all(torch.equal(a, b) for a, b in zip(by_hand, controlled, strict=True))
    mixed = prodigyopt.Prodigy([{"params": [p], "lr": lr} for p, lr in zip(parameters(), (1.0, 0.5), strict=True)])
    with pytest.raises(ValueError, match=r"one learning rate for all parameter groups .*\[0.5, 1.0\]"):
        AdaptiveLR(mixed)
