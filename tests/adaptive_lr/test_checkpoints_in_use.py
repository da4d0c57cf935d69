"""Control across checkpoints and traces of a training script, and what it refuses to load."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from adaptive_lr import AdaptiveLR, read_trace
from adaptive_lr.controllers import Adjustment, GradientSpike, LossVariance
from adaptive_lr.plain import from_plain, to_plain
from adaptive_lr.trace import replay
from laws import Script
from scripts import Recorder, backward, model, through_a_file

# ---------------------------------------------------------------- checkpoints and traces

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 3]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda _: 0.9),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=20),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, step_size_up=5, scale_fn=lambda _: 0.5),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 10)], milestones=[3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
    "SWALR": lambda o: SWALR(o, 0.05, anneal_epochs=5),
}


@pytest.mark.parametrize("kind", ["number", "tensor"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_given_as_schedule_goes_on_from_a_file_that_torch_load_accepts(name: str, kind: str) -> None:
    def start() -> tuple[nn.Module, Recorder, AdaptiveLR]:
        module = model()
        lr = torch.tensor(1.0) if kind == "tensor" else 1.0
        optimizer = Recorder(module.parameters(), lr=lr, momentum=0.9)
        laws = Script((0.5, 0.25, 1.0, 0.3), (1.0, 0.5))
        return module, optimizer, AdaptiveLR(optimizer, laws, schedule=SCHEDULERS[name](optimizer))

    def train(stop: int) -> tuple[list[tuple[float, float]], torch.Tensor]:
        module, optimizer, control = start()
        used: list[tuple[float, float]] = []
        for step in range(9):
            if step == stop:
                parts = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
                state = through_a_file({**parts, "control": control.state_dict()})
                used += optimizer.used
                module, optimizer, control = start()
                module.load_state_dict(state["module"])
                optimizer.load_state_dict(state["optimizer"])
                control.load_state_dict(state["control"])
            backward(module)
            optimizer.step()
            control.step(1.0)
        return used + optimizer.used, module.weight.detach()

    straight, resumed = train(-1), train(4)
    assert resumed[0] == straight[0]
    assert torch.equal(resumed[1], straight[1])


@pytest.mark.parametrize("place", ["after backward", "after the update"])
def test_a_checkpoint_may_be_taken_in_the_middle_of_a_step(place: str) -> None:
    def train(place: str) -> tuple[Any, ...]:
        module = model()
        optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
        control = AdaptiveLR(optimizer, (GradientSpike(), Script((0.5, 0.7, 0.9))))

        def rebuild() -> None:
            nonlocal module, optimizer, control
            gradients = [p.grad for p in module.parameters()]
            state = through_a_file([module.state_dict(), optimizer.state_dict(), control.state_dict()])
            module = model()
            optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
            control = AdaptiveLR(optimizer, (GradientSpike(), Script((0.5, 0.7, 0.9))))
            for part, saved in zip((module, optimizer, control), state, strict=True):
                part.load_state_dict(saved)
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter.grad = gradient

        for step in range(30):
            backward(module, scale=1e5 if step in (20, 22, 23) else 1.0)
            if place == "after backward":
                rebuild()
            optimizer.step()
            if place == "after the update":
                rebuild()
            control.step(1.0)
        return module.weight.detach(), control.get_last_lr(), control.factor, repr(control.decisions)

    straight, rebuilt = train("nowhere"), train(place)
    assert torch.equal(rebuilt[0], straight[0])
    assert rebuilt[1:] == straight[1:]


def test_a_summary_writer_shows_an_overflow_as_no_update_and_the_trace_replays(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    module = model()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with tensorboard.SummaryWriter(tmp_path) as writer:
        control = AdaptiveLR(optimizer, (GradientSpike(), LossVariance()), trace=writer)
        for step in range(40):
            optimizer.zero_grad()
            loss = module(torch.randn(4, 3)).square().mean()
            scaler.scale(loss).backward()
            if step in (3, 20):
                module.weight.grad[0] = math.inf
            elif step in (30, 32, 33):
                module.weight.grad *= 1e6
            scaler.step(optimizer)
            scaler.update()
            control.step(loss)
        control.detach()
    record = read_trace(tmp_path)
    assert [update.step for update in record.updates] == list(range(38))
    assert sum(not row.updated for row in record.rows) == 2
    assert len(record.decisions) >= 3
    assert repr(record.decisions) == repr(tuple(control.decisions)) == repr(replay(record))


def test_a_trace_of_a_run_that_went_back_to_a_checkpoint_replays_to_its_decisions(tmp_path: Path) -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer, AdaptiveLR]:
        module = model()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
        return module, optimizer, AdaptiveLR(optimizer, (GradientSpike(), LossVariance()), trace=tmp_path)

    def train(run: Any, first: int, last: int) -> Any:
        module, optimizer, control = run
        for step in range(first, last):
            backward(module, scale=1e6 if step > 20 and step % 5 == 0 else 1.0)
            optimizer.step()
            control.step(1.0 + step)
            if step == 35:
                return through_a_file([module.state_dict(), optimizer.state_dict(), control.state_dict()])
        return None

    first = start()
    state = train(first, 0, 60)
    train(first, 36, 50)  # lost
    second = start()
    for part, saved in zip(second, state, strict=True):
        part.load_state_dict(saved)
    train(second, 36, 60)
    second[2].detach()
    record = read_trace(tmp_path)
    assert [update.step for update in record.updates] == list(range(60))
    assert len(record.decisions) > 5
    assert repr(record.decisions) == repr(tuple(second[2].decisions)) == repr(replay(record))


# ---------------------------------------------------------------- refusals


def test_a_law_that_fails_at_the_start_leaves_the_optimizer_as_it_was() -> None:
    class Broken(Script):
        def update(self, state: Any, statistics: Any) -> tuple[Any, Adjustment]:
            raise RuntimeError("broken")

    optimizer = torch.optim.SGD(model().parameters(), lr=1.0)
    before = dict(optimizer.param_groups[0])
    with pytest.raises(RuntimeError, match="broken"):
        AdaptiveLR(optimizer, Broken(), schedule=lambda _: 0.5)
    assert optimizer.param_groups[0] == before
    AdaptiveLR(optimizer, ())  # and free for another


def test_a_state_of_another_version_is_refused_as_such_whatever_its_keys() -> None:
    control = AdaptiveLR(torch.optim.SGD(model().parameters(), lr=1.0), ())
    with pytest.raises(ValueError, match="must be of version 9, got version 99"):
        control.load_state_dict({"version": 99, "everything": "else"})


def test_a_state_of_more_groups_than_the_optimizer_has_is_refused() -> None:
    module = model()
    optimizer = torch.optim.SGD([{"params": [module.weight]}, {"params": [module.bias]}], lr=1.0)
    control = AdaptiveLR(optimizer, GradientSpike())
    backward(module)
    optimizer.step()
    control.step(1.0)
    smaller = torch.optim.SGD(model().parameters(), lr=1.0)
    other = AdaptiveLR(smaller, GradientSpike())
    before = other.state_dict()
    with pytest.raises(ValueError, match="it has 2 parameter groups, the optimizer has 1"):
        other.load_state_dict(control.state_dict())
    assert other.state_dict() == before


def test_a_state_with_a_tuple_that_the_first_state_lacks_is_refused_rather_than_loaded_as_a_dict() -> None:
    class Inner(NamedTuple):
        value: float = 0.0

    class State(NamedTuple):
        inner: Inner | None = None

    with pytest.raises(ValueError, match="from `init` on"):
        from_plain(State(), to_plain(State(Inner(1.0))))
    assert from_plain(State(Inner()), to_plain(State(Inner(1.0)))) == State(Inner(1.0))


@pytest.mark.parametrize("loss", [np.array([1.0, 2.0]), 10**400], ids=["array", "integer"])
def test_a_loss_that_is_no_number_is_refused_with_its_name(loss: Any) -> None:
    optimizer = torch.optim.SGD(model().parameters(), lr=1.0)
    control = AdaptiveLR(optimizer, ())
    with pytest.raises(TypeError, match="loss must be a number or a tensor of one element, got"):
        control.step(loss)
