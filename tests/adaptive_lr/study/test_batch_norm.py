"""Running statistics at averaged weights: the means over some batches, and nothing of it left afterwards."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from adaptive_lr.study import Run, execute
from adaptive_lr.study.batch_norm import has_running_statistics, recomputed_statistics
from adaptive_lr.study.workload import load_workload

Make = Callable[..., Run]
TOLD = f"{Path(__file__).parent / 'my_recipes.py'}:TOLD"


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_statistics_are_the_plain_means_over_the_batches(tiny: Callable[[str], str]) -> None:
    """In float64, by hand: the mean of the batches' means, and of their unbiased variances."""
    workload = load_workload(tiny("Normalised"))
    torch.manual_seed(0)
    model = workload.build_model(0)
    batches = list(islice(workload.batches(1), 7))
    with torch.no_grad():
        hidden = torch.stack([model[0](batch[0]).double() for batch in batches])  # type: ignore[operator, index]
    with recomputed_statistics(model, workload, batches, seed=0):
        assert not any(module.training for module in model.modules())
        layer = model[1]  # type: ignore[index]
        torch.testing.assert_close(layer.running_mean.double(), hidden.mean(1).mean(0), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(layer.running_var.double(), hidden.var(1).mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_statistics_modes_and_random_state_are_as_before_afterwards(tiny: Callable[[str], str], fails: bool) -> None:
    """Also where judging raises, and where one layer was in another mode than the rest."""
    workload = load_workload(tiny("NormalisedAndDropped"))
    model = workload.build_model(0)
    batches = list(islice(workload.batches(1), 4))
    workload.loss(model, batches[0])
    model[2].eval()  # type: ignore[index]
    before, modes, random = state_of(model), [m.training for m in model.modules()], torch.get_rng_state()
    try:
        with recomputed_statistics(model, workload, batches, seed=0):
            assert not torch.equal(model[2].running_mean, before["2.running_mean"])  # type: ignore[index]
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    after = state_of(model)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [module.training for module in model.modules()] == modes
    assert model[2].momentum == 0.1  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), random)


def test_only_layers_with_running_statistics_count() -> None:
    assert has_running_statistics(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
    assert not has_running_statistics(nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1)))
    assert not has_running_statistics(nn.BatchNorm1d(3, track_running_stats=False))


def test_recomputing_statistics_does_not_alter_training(run_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, dropout included; only what is judged is another, and not the start, which all recipes share."""
    run = run_of(workload="NormalisedAndDropped", recipe=TOLD)
    recomputed = execute(run)
    assert execute(run).outcome() == recomputed.outcome()
    monkeypatch.setattr("adaptive_lr.study.judging.has_running_statistics", lambda model: False)
    plain = execute(run)
    assert recomputed.train_losses == plain.train_losses
    assert recomputed.initial == plain.initial == execute(run_of(workload="NormalisedAndDropped")).initial
    assert recomputed.validation != plain.validation


def test_an_average_is_judged_with_its_own_statistics(run_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedule-Free trains alike either way, to the rounding of its switch, and is judged otherwise."""
    pytest.importorskip("schedulefree")
    run = run_of(workload="Normalised", recipe="schedule-free", peak_lr=1.0, steps=60)
    recomputed = execute(run)
    monkeypatch.setattr("adaptive_lr.study.judging.has_running_statistics", lambda model: False)
    stale = execute(run)
    assert recomputed.train_losses == stale.train_losses
    assert recomputed.validation != stale.validation
