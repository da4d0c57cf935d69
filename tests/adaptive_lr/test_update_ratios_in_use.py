"""The update-to-weight ratio of each tensor as a user meets it: by name, in the trace, and of no effect on training."""

from __future__ import annotations

import gc
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adaptive_lr import AdaptiveLR, read_trace
from adaptive_lr.controllers import guarded
from adaptive_lr.statistics import Phase
from adaptive_lr.trace import Trace, explain
from adaptive_lr.update_ratio import WEIGHT_FLOOR
from laws import Reflex, Watch

NAMES = ("0.weight", "2.weight")
EXACT = Watch(("update_ratio",))


class Training:
    """A network whose first matrix is larger than a sample and whose second is not."""

    def __init__(self, make: Any = torch.optim.AdamW, controllers: Any = (), **options: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(40, 60), nn.Tanh(), nn.Linear(60, 4))
        self.optimizer = make(self.model.parameters(), lr=0.01)
        self.control = AdaptiveLR(self.optimizer, controllers, model=self.model, **options)

    def update(self, step: int) -> torch.Tensor:
        x = torch.randn(16, 40, generator=torch.Generator().manual_seed(step))

        def closure() -> torch.Tensor:
            self.optimizer.zero_grad()
            loss = (self.model(x) - x[:, :4]).square().mean()
            loss.backward()
            return loss

        return self.optimizer.step(closure) if isinstance(self.optimizer, torch.optim.LBFGS) else self.plain(closure)

    def plain(self, closure: Any) -> torch.Tensor:
        loss: torch.Tensor = closure()
        self.optimizer.step()
        return loss

    def step(self, step: int) -> dict[str, float]:
        """One step; the ratio of each matrix by the definition."""
        before = {name: p.detach().double().clone() for name, p in self.model.named_parameters()}
        self.control.step(self.update(step))
        ratios = {}
        for name, parameter in self.model.named_parameters():
            if name in NAMES:
                floor = WEIGHT_FLOOR * math.sqrt(parameter.shape[0])
                change = (parameter.detach().double() - before[name]).norm()
                ratios[name] = float(change / max(float(before[name].norm()), floor))
        return ratios


@pytest.mark.parametrize("controllers", [(), EXACT], ids=["sampled", "exact"])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, torch.optim.LBFGS, torch.optim.Rprop])
def test_they_are_those_of_any_optimizer(make: Any, controllers: Any) -> None:
    """Exactly with a law that reads the largest; else within six standard errors, and exactly for the small matrix."""
    training = Training(make, controllers, update_ratios_every=1)
    for step in range(5):
        expected = training.step(step)
        found = training.control.update_ratios
        assert found is not None
        assert found.step == step
        assert tuple(found.values) == NAMES
        assert found.values["2.weight"] == pytest.approx(expected["2.weight"], rel=1e-5)
        if controllers == EXACT:
            assert found.errors == {}
            assert found.values == pytest.approx(expected, rel=1e-5)
        else:
            assert found.errors["2.weight"] == 0.0
            error = found.errors["0.weight"]
            assert 0.0 < error < 0.2 * expected["0.weight"]
            assert abs(found.values["0.weight"] - expected["0.weight"]) < 6.0 * error


def test_they_change_nothing_and_no_law_sees_them(tmp_path: Path) -> None:
    """Same weights, same rows, same decisions, same random numbers, with and without them."""
    trainings = [
        Training(lambda p, lr: torch.optim.SGD(p, lr=30.0), guarded(), trace=tmp_path / str(every), **options)
        for every, options in ((0, {}), (3, {"update_ratios_every": 3}))
    ]
    states = []
    for training in trainings:
        torch.manual_seed(1)
        for step in range(40):
            training.step(step)
        states.append(torch.get_rng_state())
        training.control.detach()
    without, with_them = (read_trace(tmp_path / str(every)) for every in (0, 3))
    for first, second in zip(*(training.model.parameters() for training in trainings), strict=True):
        assert torch.equal(first, second)
    assert torch.equal(*states)
    assert repr(without.rows) == repr(with_them.rows)
    assert repr(without.updates) == repr(with_them.updates)
    assert repr(without.decisions) == repr(with_them.decisions)
    assert without.decisions
    assert (len(without.update_ratios), len(with_them.update_ratios)) == (0, 14)


def test_while_a_law_reads_the_largest_it_is_the_largest_of_them(tmp_path: Path) -> None:
    training = Training(controllers=EXACT, trace=tmp_path, update_ratios_every=2)
    for step in range(7):
        training.step(step)
    training.control.detach()
    record = read_trace(tmp_path)
    steps, largest = record.series("update_ratio")
    found = {ratios.step: max(ratios.values.values()) for ratios in record.update_ratios}
    assert found == {step: value for step, value in zip(steps.tolist(), largest.tolist(), strict=True) if step % 2 == 0}


def test_they_are_measured_every_so_many_updates_and_none_without_being_asked_for() -> None:
    training = Training(update_ratios_every=4)
    seen = []
    for step in range(10):
        training.step(step)
        assert training.control.update_ratios is not None
        seen.append(training.control.update_ratios.step)
    assert seen == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]
    watched = Training(controllers=EXACT)
    watched.step(0)
    assert watched.control.update_ratios is None


def test_an_update_left_out_has_none() -> None:
    training = Training(controllers=(Reflex(skip_at=(0, 2)),), update_ratios_every=1)
    steps = []
    for step in range(4):
        training.step(step)
        found = training.control.update_ratios
        steps.append(None if found is None else found.step)
    assert steps == [None, 1, 1, 3]


def test_a_resumed_run_takes_the_same_samples(tmp_path: Path) -> None:
    whole, saving = (Training(trace=tmp_path / name, update_ratios_every=3) for name in ("whole", "halves"))
    for step in range(10):
        whole.step(step)
        if step < 5:
            saving.step(step)
    whole.control.detach()
    buffer = io.BytesIO()
    parts = {"model": saving.model, "optimizer": saving.optimizer, "control": saving.control}
    torch.save({name: part.state_dict() for name, part in parts.items()}, buffer)
    for step in (5, 6):
        saving.step(step)  # lost
    saving.control.detach()
    resumed = Training(trace=tmp_path / "halves", update_ratios_every=3)
    buffer.seek(0)
    state = torch.load(buffer)
    resumed.model.load_state_dict(state["model"])
    resumed.optimizer.load_state_dict(state["optimizer"])
    resumed.control.load_state_dict(state["control"])
    for step in range(5, 10):
        resumed.step(step)
    resumed.control.detach()
    first, second = (read_trace(tmp_path / name).update_ratios for name in ("whole", "halves"))
    assert repr(first) == repr(second)
    assert [ratios.step for ratios in second] == [0, 3, 6, 9]


def names_of(optimizer: torch.optim.Optimizer, model: nn.Module | None = None) -> list[str]:
    control = AdaptiveLR(optimizer, (), model=model, update_ratios_every=1)
    optimizer.step()
    control.detach()
    assert control.update_ratios is not None
    return list(control.update_ratios.values)


def test_a_parameter_has_its_name_in_the_model_else_the_optimizers_else_its_place() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    a, b = model.parameters()
    for parameter in (a, b):
        parameter.grad = torch.ones_like(parameter)
    sgd = torch.optim.SGD
    assert names_of(sgd([{"params": [a]}, {"params": [b]}], lr=0.1), model) == ["a.weight", "b.weight"]
    assert names_of(sgd([("first", a), ("second", b)], lr=0.1)) == ["first", "second"]
    assert names_of(sgd([("first", a), ("second", b)], lr=0.1), model["a"]) == ["weight", "second"]
    assert names_of(sgd([{"params": [a]}, {"params": [b]}], lr=0.1)) == ["0.0", "1.0"]
    assert names_of(sgd([("same", a), ("weight", b)], lr=0.1), model["a"]) == ["weight (0.0)", "weight (0.1)"]


def test_a_model_that_is_gone_leaves_places() -> None:
    model = nn.Linear(2, 2, bias=False)
    weight = model.weight
    weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    control = AdaptiveLR(optimizer, (), model=model, update_ratios_every=1)
    del model
    gc.collect()
    optimizer.step()
    assert control.update_ratios is not None
    assert list(control.update_ratios.values) == ["0.0"]


def test_the_record_has_them_by_name_and_tells_of_them(tmp_path: Path) -> None:
    training = Training(trace=tmp_path, update_ratios_every=5)
    expected = [training.step(step) for step in range(11)]
    training.control.detach()
    record = read_trace(tmp_path)
    steps, ratios = record.ratios("2.weight")
    assert steps.tolist() == [0, 5, 10]
    assert ratios.tolist() == pytest.approx([expected[step]["2.weight"] for step in (0, 5, 10)], rel=1e-5)
    with pytest.raises(ValueError, match=r"parameter must be one of \['0.weight', '2.weight'\], got '0.bias'"):
        record.ratios("0.bias")
    told = " ".join(explain(record).split())
    assert "The update-to-weight ratio of each tensor is on record for 3 updates; in update 10 it was largest" in told
    assert record.update_ratios[-1] == training.control.update_ratios
    assert not any("update_ratio" in row.values for row in record.rows if row.phase is Phase.AFTER)


@pytest.mark.parametrize("every", [1, 7])
def test_tensorboard_shows_each_of_them(tmp_path: Path, every: int) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = Training(trace=Trace(tmp_path, every=every), update_ratios_every=4)
    for step in range(9):
        training.step(step)
    training.control.detach()
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    for name in NAMES:
        steps, values = read_trace(tmp_path).ratios(name)
        points = [(event.step, event.value) for event in accumulator.Scalars(f"update_ratio/{name}")]
        assert points == [(step, pytest.approx(value)) for step, value in zip(steps.tolist(), values, strict=True)]
        assert len(points) == 3


@pytest.mark.parametrize(("every", "error"), [(0, ValueError), (-3, ValueError), (True, TypeError), (2.0, TypeError)])
def test_an_interval_that_is_none_is_refused(every: Any, error: type[Exception]) -> None:
    optimizer = torch.optim.SGD([torch.ones(2, 2, requires_grad=True)], lr=0.1)
    with pytest.raises(error, match="update_ratios_every must be .*got " + str(every)):
        AdaptiveLR(optimizer, update_ratios_every=every)
    AdaptiveLR(optimizer).detach()  # nothing was changed
