"""The layer in the places where hooks are known to go wrong."""

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
from adaptive_lr.controllers import GradientSpike
from adaptive_lr.statistics import Phase, Statistics
from laws import Reflex, Script, Watch


class Nested(torch.optim.SGD):
    """A subclass whose step calls super().step(), so that hooks may fire twice, and sees the learning rate after it."""

    def step(self, closure: Any = None) -> Any:
        before = self.param_groups[0]["lr"]
        result = super().step(closure)
        self.seen = (before, self.param_groups[0]["lr"])
        return result


class Fragile(torch.optim.SGD):
    """An optimizer that can be told to fail."""

    fail = False

    def step(self, closure: Any = None) -> Any:
        if self.fail:
            raise RuntimeError("out of memory")
        return super().step(closure)


def parameter(value: float = 1.0, gradient: float | None = 1.0) -> torch.Tensor:
    p = torch.full((3,), value, requires_grad=True)
    p.grad = None if gradient is None else torch.full((3,), gradient)
    return p


def rows(control: AdaptiveLR) -> list[Statistics]:
    """All rows that the laws of this control are given from now on."""
    seen: list[Statistics] = []
    consider = control._deliberation.consider

    def listen(row: Statistics, next_update: int) -> Any:
        seen.append(row)
        return consider(row, next_update)

    control._deliberation.consider = listen  # type: ignore[method-assign]
    return seen


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
    assert len(control.state_dict()["meter"]["norms"]) == 3


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


def test_an_exception_in_a_closure_leaves_the_base() -> None:
    p = parameter()
    optimizer = torch.optim.SGD([p], lr=1.0)
    AdaptiveLR(optimizer, Script((0.5,)))

    def closure() -> torch.Tensor:
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        optimizer.step(closure)
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert p.tolist() == [1.0] * 3


@pytest.mark.parametrize("keyword", [False, True])
def test_with_a_closure_the_gradients_are_measured_after_it(keyword: bool) -> None:
    p = parameter(gradient=None)
    optimizer = torch.optim.SGD([p], lr=0.1)
    control = AdaptiveLR(optimizer, (Watch(("grad_norm",)), Reflex(skip_at=(1,))))
    seen = rows(control)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    expected = []
    for step in range(3):
        weights = p.detach().clone()
        expected.append(float((2 * weights).norm()))
        loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
        assert loss.item() == pytest.approx(float((weights**2).sum()))
        assert torch.equal(p, weights) == (step == 1)
        control.step(loss)
    measured = [r.values["grad_norm"] for r in seen if r.phase is Phase.BEFORE]
    assert measured == pytest.approx(expected)
    assert [r.values.get("skipped") for r in seen if r.phase is Phase.AFTER] == [None, 1.0, None]


def test_lbfgs_is_measured_once_per_step_at_the_first_evaluation() -> None:
    p = parameter(gradient=None)
    optimizer = torch.optim.LBFGS([p], lr=0.5, max_iter=4, line_search_fn="strong_wolfe")
    control = AdaptiveLR(optimizer, (Script((0.5,)), Watch(("grad_norm",))))
    seen = rows(control)
    calls = 0

    def closure() -> torch.Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = ((p - 0.1) ** 4).sum()
        loss.backward()
        return loss

    for _ in range(3):
        expected = float((4 * (p.detach() - 0.1) ** 3).norm())
        control.step(optimizer.step(closure))
        assert seen[-1].values["grad_norm"] == pytest.approx(expected)
    assert calls > 3
    assert len(seen) == 3


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_under_grad_scaler_gradients_are_measured_unscaled_and_an_overflow_is_no_step(
    fused: bool, unscale: bool
) -> None:
    p = parameter(gradient=None)
    optimizer = torch.optim.AdamW([p], lr=0.1, fused=fused)
    scheduler = ExponentialLR(optimizer, 0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    control = AdaptiveLR(optimizer, (Script((0.5,)), Watch(("grad_norm", "grad_max", "grad_mean", "grad_variance"))))
    seen = rows(control)
    for step in range(4):
        optimizer.zero_grad()
        loss = (p * (float("inf") if step == 1 else 1.0)).sum()
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
        control.step(1.0)
    assert [(r.step, r.updated) for r in seen] == [(0, True), (1, False), (1, True), (2, True)]
    assert "grad_norm" not in seen[1].values
    for row in (seen[0], seen[2], seen[3]):
        assert row.values["grad_norm"] == pytest.approx(3**0.5, rel=1e-6)
        assert row.values["grad_max"] == row.values["grad_mean"] == 1.0
        assert row.values["grad_variance"] == 0.0
    assert control.get_last_lr() == [0.1 * 0.5**3 * 0.5]
    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.5**4


@pytest.mark.parametrize("fused", [False, True])
def test_under_grad_scaler_a_skip_and_a_damping_act_on_the_update(fused: bool) -> None:
    p = parameter(gradient=None)
    optimizer = torch.optim.SGD([p], lr=1.0, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    control = AdaptiveLR(optimizer, Reflex(damp=0.25, damp_at=(1,), skip_at=(0,)))
    for expected in (1.0, 0.75, -0.25):
        optimizer.zero_grad()
        scaler.scale(p.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        control.step()
        assert p.tolist() == [expected] * 3


def test_gradient_accumulation_is_one_row_per_update() -> None:
    p = parameter(gradient=None)
    optimizer = torch.optim.SGD([p], lr=0.1)
    control = AdaptiveLR(optimizer, Watch(("grad_norm",)))
    seen = rows(control)
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(4):
            (p.sum() / 4).backward()
        optimizer.step()
        control.step(1.0)
    assert [r.values["grad_norm"] for r in seen] == pytest.approx([3**0.5] * 3)


def test_groups_added_later_are_scaled_and_measured() -> None:
    first, second = parameter(), parameter()
    optimizer = torch.optim.SGD([first], lr=1.0)
    control = AdaptiveLR(optimizer, (Script((0.5,)), Watch(("grad_score", "momentum_norm"))))
    optimizer.step()
    control.step()
    optimizer.add_param_group({"params": [second], "lr": 0.1, "momentum": 0.9})
    optimizer.step()
    control.step()
    assert second.tolist() == pytest.approx([0.95] * 3)
    assert control.get_last_lr() == [0.5, 0.05]


def test_a_learning_rate_tensor_shared_by_groups_is_scaled_once_in_place() -> None:
    shared = torch.tensor(1.0)
    first, second = parameter(), parameter()
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second]}], lr=shared)
    control = AdaptiveLR(optimizer, Script((0.5,)))
    optimizer.step()
    control.step()
    assert first.tolist() == second.tolist() == [0.5] * 3
    assert optimizer.param_groups[0]["lr"] is optimizer.param_groups[1]["lr"]
    assert float(optimizer.param_groups[0]["lr"]) == 1.0
    assert control.get_last_lr() == [0.5, 0.5]


def test_a_learning_rate_that_is_differentiated_through_gets_the_gradient_of_the_product() -> None:
    lr = torch.tensor(0.1, requires_grad=True)
    p = torch.ones(3, requires_grad=True)
    moving = p.clone()
    optimizer = torch.optim.SGD([moving], lr=lr, differentiable=True)
    AdaptiveLR(optimizer, Script((0.5,)))
    moving.grad = torch.full((3,), 2.0)
    optimizer.step()
    moving.sum().backward()
    assert optimizer.param_groups[0]["lr"] is lr
    assert float(lr.grad) == pytest.approx(-3 * 2.0 * 0.5)


def test_load_state_dict_of_the_optimizer_keeps_control_and_its_base() -> None:
    p = parameter()
    optimizer = torch.optim.AdamW([p], lr=1.0)
    control = AdaptiveLR(optimizer, Script((0.5,)))
    optimizer.step()
    control.step()
    saved = optimizer.state_dict()
    saved["param_groups"][0]["lr"] = 0.25
    optimizer.load_state_dict(saved)
    optimizer.step()
    control.step()
    assert control.get_last_lr() == [0.125]
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_a_learning_rate_set_by_hand_between_steps_is_the_new_base() -> None:
    optimizer = torch.optim.SGD([parameter()], lr=1.0)
    control = AdaptiveLR(optimizer, Script((0.5,)))
    for lr in (1.0, 0.3, 7.0):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        control.step()
        assert control.get_last_lr() == [lr * 0.5]
        assert optimizer.param_groups[0]["lr"] == lr


def test_a_learning_rate_written_inside_a_step_is_left_as_written() -> None:
    p = parameter()
    optimizer = torch.optim.SGD([p], lr=1.0)
    AdaptiveLR(optimizer, Script((0.5,)))

    def closure() -> torch.Tensor:
        optimizer.param_groups[0]["lr"] = 0.125
        return p.sum()

    optimizer.step(closure)
    assert optimizer.param_groups[0]["lr"] == 0.125


def test_an_optimizer_without_a_learning_rate_is_left_alone() -> None:
    class Relative(torch.optim.SGD):
        """Adafactor with relative steps keeps None as its learning rate."""

        def step(self, closure: Any = None) -> None:
            assert self.param_groups[0]["lr"] is None

    optimizer = Relative([parameter()], lr=1.0)
    optimizer.param_groups[0]["lr"] = None
    control = AdaptiveLR(optimizer, Script((0.5,)))
    optimizer.step()
    control.step()
    assert control.get_last_lr() != control.get_last_lr()  # NaN


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


def test_optimizer_steps_without_control_steps_run_the_laws_that_act_before_the_update() -> None:
    p = parameter()
    optimizer = torch.optim.SGD([p], lr=0.1)
    control = AdaptiveLR(optimizer, GradientSpike())
    seen = rows(control)
    for step in range(40):
        p.grad = torch.full((3,), 1000.0 if step == 30 else 1.0)
        optimizer.step()
    assert {r.phase for r in seen} == {Phase.BEFORE}
    assert [(d.step, d.action) for d in control.decisions] == [(30, "skip")]


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


def test_measuring_leaves_gradients_and_random_numbers_alone() -> None:
    p = parameter(gradient=2.0)
    optimizer = torch.optim.SGD([p], lr=0.0)
    control = AdaptiveLR(optimizer, Watch(("grad_score", "grad_max", "param_norm", "update_ratio")))
    state = torch.get_rng_state()
    optimizer.step()
    control.step(1.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert p.grad is not None
    assert p.grad.tolist() == [2.0] * 3


def test_update_to_weight_ratio_is_the_largest_over_matrices() -> None:
    matrix = torch.full((2, 2), 3.0, requires_grad=True)
    zero = torch.zeros(4, 4, requires_grad=True)
    vector = torch.full((2,), 1e-6, requires_grad=True)
    for p in (matrix, zero, vector):
        p.grad = torch.ones_like(p)
    optimizer = torch.optim.SGD([matrix, zero, vector], lr=1e-4)
    control = AdaptiveLR(optimizer, Watch(("update_ratio",)))
    seen = rows(control)
    optimizer.step()
    control.step()
    # ‖u‖ = 1e-4 x sqrt(n); the tensor at zero, with a fan-in of 4, counts with a root-mean-square of 0.1 / sqrt(4).
    assert seen[-1].values["update_ratio"] == pytest.approx(1e-4 / 0.05, rel=1e-6)


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
