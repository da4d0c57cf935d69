"""The layer in the places where hooks are known to go wrong: nesting, exceptions, lifetimes, compilation."""

from __future__ import annotations

import contextlib
import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR

from adaptive_lr import AdaptiveLR
from adaptive_lr.statistics import Phase
from laws import Reflex, Script, Watch
from rows_seen import parameter, rows


class Fragile(torch.optim.SGD):
    """An optimizer that can be told to fail."""

    fail = False

    def step(self, closure: Any = None) -> Any:
        if self.fail:
            raise RuntimeError("out of memory")
        return super().step(closure)


@pytest.mark.parametrize("parent_used_first", [False, True])
def test_a_subclass_calling_super_step_is_scaled_once_and_counted_once(parent_used_first: bool) -> None:
    class Parent(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    class Child(Parent):
        def step(self, closure: Any = None) -> Any:
            before = self.param_groups[0]["lr"]
            super().step(closure)
            self.seen = (before, self.param_groups[0]["lr"])

    if parent_used_first:
        torch.optim.SGD([parameter()], lr=1.0)
        Parent([parameter()], lr=1.0)
    p = parameter()
    optimizer = Child([p], lr=1.0)
    control = AdaptiveLR(optimizer, (Script((0.5,)), Watch(("grad_score",))))
    seen = rows(control)
    for _ in range(3):
        optimizer.step()
        assert optimizer.seen == (0.5, 0.5)
        assert optimizer.param_groups[0]["lr"] == 1.0
        control.step()
    assert p.tolist() == [1.0 - 3 * 0.5] * 3
    assert [(r.step, r.phase) for r in seen] == [(i, Phase.AFTER) for i in range(3)]
    assert control.state_dict()["meter"]["norms"][0] == 3  # how many were seen


def test_after_an_exception_in_step_the_base_is_back_and_recursive_schedules_stay_exact() -> None:
    p = parameter()
    optimizer = Fragile([p], lr=1.0, momentum=0.8)
    scheduler = ExponentialLR(optimizer, 0.5)
    control = AdaptiveLR(optimizer, Script((0.25,), (0.5,)))
    for fails in (True, False, True, False):
        base = optimizer.param_groups[0]["lr"]
        optimizer.fail = fails
        try:
            optimizer.step()
        except RuntimeError:
            assert fails
        assert optimizer.param_groups[0]["lr"] == base
        assert optimizer.param_groups[0]["momentum"] == 0.8
        scheduler.step()
        control.step()
        assert optimizer.param_groups[0]["lr"] == base * 0.5
    assert control.get_last_lr() == [0.125 * 0.25]


def test_a_step_after_a_kept_exception_is_scaled_once() -> None:
    optimizer = Fragile([parameter()], lr=1.0)
    control = AdaptiveLR(optimizer, Script((0.25,)))
    seen = rows(control)
    optimizer.fail = True
    with pytest.raises(RuntimeError, match="out of memory") as kept:
        optimizer.step()
    optimizer.fail = False
    optimizer.step()
    control.step()
    assert kept.value.__traceback__ is not None  # still held, with every frame of the failed step
    assert control.get_last_lr() == [0.25]
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert [r.step for r in seen] == [0]


def test_a_skip_undone_by_an_exception_gives_the_gradients_back() -> None:
    p = parameter(gradient=2.0)
    optimizer = Fragile([p], lr=1.0)
    AdaptiveLR(optimizer, Reflex(skip_at=(0,)))
    optimizer.fail = True
    with contextlib.suppress(RuntimeError):
        optimizer.step()
    assert p.grad is not None
    assert p.grad.tolist() == [2.0] * 3


def test_a_dropped_optimizer_is_freed_at_once() -> None:
    gc.disable()
    try:
        for schedule in (None, "torch", "callable"):
            p = parameter()
            optimizer = torch.optim.SGD([p], lr=1.0)
            given: Any = {None: None, "callable": lambda t: 1.0}.get(schedule)
            if schedule == "torch":
                given = CosineAnnealingLR(optimizer, 10)
            control = AdaptiveLR(optimizer, schedule=given)
            optimizer.step()
            control.step(1.0)
            alive = weakref.ref(optimizer)
            del optimizer, given
            if schedule == "torch":
                del control  # holds the scheduler, which holds the optimizer
            assert alive() is None
    finally:
        gc.enable()


def test_a_dropped_control_goes_on_acting() -> None:
    p = parameter()
    optimizer = torch.optim.SGD([p], lr=1.0)
    AdaptiveLR(optimizer, (Script((0.5,)), Reflex(skip_at=(1,))))
    gc.collect()
    optimizer.step()
    assert p.tolist() == [0.5] * 3
    optimizer.step()
    assert p.tolist() == [0.5] * 3


def test_detach_leaves_no_trace() -> None:
    p = parameter()
    optimizer = torch.optim.SGD([p], lr=1.0, momentum=0.9)
    before = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    attributes = set(vars(optimizer))
    control = AdaptiveLR(optimizer, Script((0.5,), (0.5,)), schedule=lambda t: 1.0)
    optimizer.step()
    control.step()
    control.detach()
    control.detach()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == before
    assert set(vars(optimizer)) == attributes
    with pytest.raises(RuntimeError, match="detached"):
        control.step()


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's compiler uses what torch deprecates
def test_a_module_trains_the_same_under_torch_compile_of_the_step() -> None:
    def train(compiled: bool) -> list[float]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        control = AdaptiveLR(optimizer, Script((0.5,)))
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for _ in range(3):
            optimizer.zero_grad()
            loss = (model(torch.ones(2, 3)) ** 2).mean()
            loss.backward()
            step()
            control.step(loss)
        return model.weight.flatten().tolist()

    assert train(compiled=True) == train(compiled=False)
