"""Buffers go back with an update that is left out."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_lr import AdaptiveLR
from adaptive_lr.buffers import Buffers
from adaptive_lr.controllers import GradientSpike, Plateau, RangeTest
from adaptive_lr.controllers.base import Adjustment, Controller
from adaptive_lr.statistics import Phase, Statistics
from laws import Count

SPIKE = 30


class Rewinding(Controller[Count]):
    """Keeps a snapshot after the second update and goes back to it after the fifth."""

    def init(self) -> Count:
        return Count()

    def needs_snapshot(self, state: Count) -> bool:
        return state.rows <= 5

    def update(self, state: Count, statistics: Statistics) -> tuple[Count, Adjustment]:
        rows = state.rows + (statistics.phase is not Phase.START)
        return Count(rows), Adjustment(snapshot=rows == 2, rewind=rows == 5)


class Net(nn.Module):
    """Batch normalisation, a buffer that is assigned anew by every forward pass, and a constant."""

    seen: Tensor
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mask", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + x.detach().abs().mean()
        y: Tensor = self.last(torch.tanh(self.norm(self.first(x))) * self.mask)
        return y


MAKES = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def batches(count: int, *, size: int = 16) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 6, generator=generator) for _ in range(count)]


def train(model: Net, optimizer: torch.optim.Optimizer, given: list[tuple[Tensor, float]], **arguments: Any) -> Any:
    """Train on batches, each with a factor of its gradient."""
    control = AdaptiveLR(optimizer, GradientSpike(min_factor=1.0), model=model, **arguments)
    for x, factor in given:
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        (loss * factor).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        control.step(loss)
    return control


def state_of(model: Net, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return [*(t.clone() for t in model.state_dict().values()), *(t.clone() for t in kept)]


@pytest.mark.parametrize("make", MAKES.values(), ids=list(MAKES))
@pytest.mark.parametrize("factor", [math.inf, math.nan, 1e3])
def test_a_skipped_update_leaves_the_run_as_one_without_its_batch(make: Any, factor: float) -> None:
    """To the last bit: parameters, optimizer state and buffers."""
    given = [(x, 1.0) for x in batches(60)]
    bad = torch.full((16, 6), 50.0) + torch.randn(16, 6)
    ends = []
    for disturbed in (True, False):
        model = Net()
        optimizer = make(model.parameters())
        control = train(model, optimizer, given[:SPIKE] + [(bad, factor)] * disturbed + given[SPIKE:])
        assert [d.action for d in control.decisions] == ["skip"] * disturbed
        ends.append(state_of(model, optimizer))
    assert all(map(torch.equal, *ends))


def test_without_the_model_the_forward_pass_leaves_its_mark() -> None:
    """So the test above is not empty."""
    given = [(x, 1.0) for x in batches(40)]
    bad = torch.full((16, 6), 50.0)
    means = []
    for known in (True, False):
        model = Net()
        optimizer = MAKES["SGD"](model.parameters())
        control = AdaptiveLR(optimizer, GradientSpike(), model=model if known else None)
        for x, factor in [*given, (bad, math.inf)]:
            optimizer.zero_grad()
            (model(x).mean() * factor).backward()
            optimizer.step()
            control.step()
        assert model.norm.running_mean is not None
        means.append(float(model.norm.running_mean.abs().max()))
    assert means[1] > 5.0 * means[0]


def test_all_forward_passes_of_an_update_go_back() -> None:
    model = Net()
    optimizer = MAKES["SGD"](model.parameters())
    control = AdaptiveLR(optimizer, GradientSpike(), model=model)
    for step, x in enumerate(batches(12)):
        if step == 10:
            before = state_of(model, optimizer)
        for part in x.chunk(2):  # gradients are accumulated
            (model(part).mean() * (math.inf if step == 10 else 1.0)).backward()
        optimizer.step()
        optimizer.zero_grad()
        control.step()
        if step == 10:
            assert all(map(torch.equal, before, state_of(model, optimizer)))


def test_an_overflow_that_a_fused_optimizer_is_told_of_takes_them_back() -> None:
    """As a GradScaler does: it sets `found_inf` and calls the step, which does nothing."""
    model = Net()
    optimizer: Any = torch.optim.AdamW(model.parameters(), fused=True)
    control = AdaptiveLR(optimizer, GradientSpike(), model=model)
    for x in batches(3):
        before = [buffer.clone() for buffer in model.buffers()]
        optimizer.zero_grad()
        model(x).mean().backward()
        optimizer.step()
        control.step()
    optimizer.found_inf = torch.ones(())
    before = [buffer.clone() for buffer in model.buffers()]
    model(batches(1)[0]).mean().backward()
    optimizer.step()
    assert all(map(torch.equal, before, model.buffers()))


def test_evaluations_of_a_closure_go_back_too() -> None:
    model = Net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    control = AdaptiveLR(optimizer, GradientSpike(), model=model)
    for step, x in enumerate(batches(5)):
        factor = math.inf if step == 3 else 1.0

        def closure(x: Tensor = x, factor: float = factor) -> Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean() * factor
            loss.backward()
            return loss

        before = [buffer.clone() for buffer in model.buffers()]
        optimizer.step(closure)
        control.step()
        same = all(map(torch.equal, before, model.buffers()))
        assert same == (step == 3)


def test_what_is_loaded_or_taken_back_is_where_a_skip_goes_back_to() -> None:
    model = Net()
    loaded = {name: torch.full_like(value, 3.0) for name, value in model.state_dict().items()}
    buffers = Buffers(model)
    model.load_state_dict(loaded)
    model(torch.randn(4, 6))
    buffers.put_back()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())


def test_a_rewind_is_where_a_skip_goes_back_to() -> None:
    """The law asks for a snapshot and for a rewind to it; then comes a gradient that is no number."""
    model = Net()
    optimizer = MAKES["SGD"](model.parameters())
    control = AdaptiveLR(optimizer, [GradientSpike(), Rewinding()], model=model)
    states = []
    for step, x in enumerate(batches(7)):
        optimizer.zero_grad()
        (model(x).mean() * (math.inf if step == 5 else 1.0)).backward()
        optimizer.step()
        control.step()
        states.append([buffer.clone() for buffer in model.buffers()])
    assert all(map(torch.equal, states[1], states[4]))
    assert not all(map(torch.equal, states[3], states[4]))
    assert all(map(torch.equal, states[4], states[5]))


@pytest.mark.parametrize("skipped", [True, False])
def test_the_device_decides_without_the_host(skipped: bool) -> None:
    """By a flag that is a tensor: kept contents where it is set, else what the forward pass made, NaN included."""
    model = Net()
    buffers = Buffers(model)
    for _ in range(2):
        model(torch.randn(4, 6))
        buffers.keep()
    before = [buffer.clone() for buffer in model.buffers()]
    model(torch.full((4, 6), math.nan))
    after = [buffer.clone() for buffer in model.buffers()]
    buffers.put_back(torch.tensor(float(skipped)))
    for now, expected in zip(model.buffers(), before if skipped else after, strict=True):
        torch.testing.assert_close(now, expected, rtol=0.0, atol=0.0, equal_nan=True)
    buffers.keep()
    model(torch.randn(4, 6))
    buffers.put_back()
    for now, expected in zip(model.buffers(), before if skipped else after, strict=True):
        torch.testing.assert_close(now, expected, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("skip", [None, torch.zeros(()), torch.ones(())])
def test_a_graph_that_is_still_to_be_gone_through_is_none_the_wiser(skip: Tensor | None) -> None:
    """Autograd refuses buffers whose version has changed since the forward pass.

    So it would where two losses share a network, and the step of one comes between the passes of the other.
    """
    model = Net()
    buffers = Buffers(model)
    x = torch.randn(4, 6)
    gradients = []
    for put_back in (False, True):
        model.zero_grad()
        loss = model(x).square().mean()
        if put_back:
            buffers.put_back(skip)
        loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
        buffers.keep()
    assert all(map(torch.equal, *gradients))


def test_constants_take_no_memory_after_the_first_update() -> None:
    model = Net()
    buffers = Buffers(model)
    model(torch.randn(4, 6))
    buffers.keep()
    held = {buffer.name for group in buffers._groups for buffer in group.buffers}
    assert held == {"running_mean", "running_var", "num_batches_tracked", "seen"}
    model.mask.mul_(2.0)  # from now on it is none
    buffers.keep()
    model.mask.zero_()
    buffers.put_back()
    assert torch.equal(model.mask, torch.full((8,), 2.0))
    copies = [group.kept for group in buffers._groups]
    model.norm(torch.randn(4, 8))
    buffers.keep()
    assert all(a is b.kept for a, b in zip(copies, buffers._groups, strict=True))


@pytest.mark.parametrize("skip", [None, torch.ones(())])
def test_a_buffer_of_another_form_is_left_alone_and_the_others_go_back(skip: Tensor | None) -> None:
    model = Net()
    buffers = Buffers(model)
    before = model.state_dict()
    mean = before["norm.running_mean"].clone()
    model(torch.randn(4, 6))
    model.seen, model.mask = torch.full((3,), 7.0), torch.ones(8, dtype=torch.float64)
    buffers.put_back(skip)
    assert torch.equal(model.seen, torch.full((3,), 7.0))
    assert model.mask.dtype is torch.float64
    assert torch.equal(model.state_dict()["norm.running_mean"], mean)
    buffers.keep()
    model.seen.zero_()
    buffers.put_back(skip)
    assert torch.equal(model.seen, torch.full((3,), 7.0))


@pytest.mark.parametrize(
    ("controllers", "shadow"), [(Plateau("loss"), False), (RangeTest(100), False), (GradientSpike(), True)]
)
def test_nothing_is_kept_where_no_update_can_be_left_out(controllers: Any, shadow: bool) -> None:
    model = Net()
    control = AdaptiveLR(MAKES["SGD"](model.parameters()), controllers, model=model, shadow=shadow)
    assert control._layer._buffers is None
    plain = nn.Linear(2, 2)
    control = AdaptiveLR(MAKES["SGD"](plain.parameters()), GradientSpike(), model=plain)
    assert control._layer._buffers is None


def test_nothing_stays_after_detaching_nor_keeps_the_model_alive() -> None:
    model = Net()
    optimizer = MAKES["SGD"](model.parameters())
    control = train(model, optimizer, [(x, 1.0) for x in batches(3)])
    assert len(model._load_state_dict_post_hooks) == 1
    control.detach()
    assert not model._load_state_dict_post_hooks
    control = train(model, optimizer, [(x, 1.0) for x in batches(3)])
    gone = weakref.ref(model)
    del model
    optimizer.param_groups.clear()
    optimizer.state.clear()
    gc.collect()
    assert gone() is None
    assert control._layer.model is None


def test_inference_tensors_are_left_alone() -> None:
    model = Net()
    with torch.inference_mode():
        model.mask = torch.ones(8)
    buffers = Buffers(model)
    with torch.inference_mode():
        model.seen = torch.ones(())
    buffers.put_back()
    assert float(model.seen) == 1.0
