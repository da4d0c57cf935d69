"""Optimizers beyond those of the package."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adaptive_lr.snapshot import Snapshot
from adaptive_lr.study import StudyError
from adaptive_lr.study.recipe import find_optimizer
from experiments.optimizers import MORE, MuonWithAdamW


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def train(model: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    inputs = torch.randn(steps, 16, 6, generator=torch.Generator().manual_seed(1))
    for batch in inputs:
        model.zero_grad()
        model(batch).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def test_muon_with_adamw_is_the_two_of_them() -> None:
    """Matrices and vectors, bit for bit; a learning rate written into its groups reaches both."""
    together, apart = network(), network()
    matrices, vectors = ([p for p in apart.parameters() if (p.dim() == 2) == two] for two in (True, False))
    both = MuonWithAdamW(together.parameters(), lr=1e-3)
    for group in both.param_groups:
        group["lr"] = 0.02
    muon = torch.optim.Muon(matrices, lr=0.02, adjust_lr_fn="match_rms_adamw")
    expected = train(apart, muon, torch.optim.AdamW(vectors, lr=0.02))
    assert all(torch.equal(a, b) for a, b in zip(train(together, both), expected, strict=True))


def test_muon_with_adamw_goes_back_to_a_snapshot() -> None:
    """Its state is that of both parts: the same steps from a snapshot give the same weights."""
    model = network()
    optimizer = MuonWithAdamW(model.parameters(), lr=0.02)
    train(model, optimizer)
    snapshot = Snapshot(optimizer, model)
    first = train(model, optimizer)
    snapshot.put_back(optimizer, model)
    assert all(torch.equal(a, b) for a, b in zip(train(model, optimizer), first, strict=True))


@pytest.mark.parametrize("reference", [reference for name, reference in MORE.items() if name != "lion"])
def test_each_is_found_by_its_reference_and_trains(reference: str) -> None:
    model = network()
    before = [p.detach().clone() for p in model.parameters()]
    after = train(model, find_optimizer(reference).build(model.parameters(), 0.01))
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "reference", ["experiments.optimizers:NONE", "no.such.module:X", "experiments.optimizers:GRID"]
)
def test_a_reference_that_leads_nowhere_is_refused(reference: str) -> None:
    with pytest.raises(StudyError, match="optimizer"):
        find_optimizer(reference)
