"""Control among the other things a step meets: other hooks, interrupts, gradient modes, closures, odd groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adaptive_lr import AdaptiveLR, read_trace
from adaptive_lr.controllers import GradientSpike, LossVariance
from adaptive_lr.trace import explain
from laws import Reflex, Script, Watch
from scripts import Failing, Recorder, backward, model

# ---------------------------------------------------------------- other people's hooks, and steps inside steps


@pytest.mark.parametrize("when", ["before", "after", "global"])
def test_a_hook_of_someone_else_that_replaces_the_arguments_changes_nothing(when: str) -> None:
    module = model()
    optimizer = Recorder(module.parameters())

    def replacing(optimizer: Any, args: Any, kwargs: Any) -> Any:
        return args, dict(kwargs)

    handles = []
    if when == "before":
        handles.append(optimizer.register_step_pre_hook(replacing))
    control = AdaptiveLR(optimizer, Script((0.5,)))
    if when == "after":
        handles.append(optimizer.register_step_pre_hook(replacing))
    if when == "global":
        handles.append(register_optimizer_step_pre_hook(replacing))
    try:
        backward(module)
        optimizer.step()
        control.step(1.0)
    finally:
        for handle in handles:
            handle.remove()
    assert optimizer.used == [(0.5, 0)]
    assert control.get_last_lr() == [0.5]
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_step_that_calls_super_three_deep_is_scaled_once_and_counted_once() -> None:
    class Second(Recorder):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            self.used.append((self.param_groups[0]["lr"], 0))
            return result

    class Third(Second):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            self.used.append((self.param_groups[0]["lr"], 0))
            return result

    for cls in (torch.optim.SGD, Recorder, Second):  # from here on torch calls the hooks at every depth
        cls([torch.zeros(1, requires_grad=True)], lr=1.0)
    module = model()
    optimizer = Third(module.parameters())
    seen: list[Any] = []
    control = AdaptiveLR(optimizer, (Script((0.5,)), Watch(("grad_norm",))))
    for _ in range(3):
        backward(module)
        optimizer.step()
        seen.append(control.state_dict()["rows"]["updates"])
        control.step(1.0)
    assert set(optimizer.used) == {(0.5, 0)}
    assert seen == [1, 2, 3]


def test_a_step_that_survives_a_failed_super_step_is_one_update() -> None:
    class Surviving(Failing):
        def step(self, closure: Any = None) -> Any:
            try:
                return super().step(closure)
            except RuntimeError:
                return None

    module = model()
    Failing(module.parameters(), lr=1.0)
    optimizer = Surviving(module.parameters(), lr=1.0)
    control = AdaptiveLR(optimizer, Script((0.5,)))
    backward(module)
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert control.get_last_lr() == [0.5]
    assert control.state_dict()["rows"]["updates"] == 1


@pytest.mark.parametrize("make", [KeyboardInterrupt, lambda: ExceptionGroup("two", [ValueError(), TypeError()])])
def test_an_interrupted_step_leaves_base_and_gradients(make: Callable[[], BaseException]) -> None:
    class Interrupted(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise make()

    module = model()
    optimizer = Interrupted(module.parameters(), lr=1.0, momentum=0.9)
    control = AdaptiveLR(optimizer, (Script((0.5,), (0.5,)), Reflex(skip_at=(0,))))
    backward(module)
    gradients = [p.grad for p in module.parameters()]
    interrupted = False
    try:
        optimizer.step()
    except BaseException:  # pytest.raises would keep the exception, and with it the step, alive
        interrupted = True
    assert interrupted
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (1.0, 0.9)
    assert all(p.grad is g for p, g in zip(module.parameters(), gradients, strict=True))
    assert control.get_last_lr() == [1.0]


def test_a_warning_turned_into_an_error_leaves_base_and_gradients() -> None:
    module = model()
    optimizer = torch.optim.Adagrad(module.parameters(), lr=1.0)
    AdaptiveLR(optimizer, (Reflex(skip_at=(0,)), Script((0.5,), (0.5,))))  # a momentum that Adagrad does not have
    backward(module)
    with pytest.raises(UserWarning, match="Adagrad has none"):
        optimizer.step()
    assert module.weight.grad is not None
    assert optimizer.param_groups[0]["lr"] == 1.0


# ---------------------------------------------------------------- what a step is made of


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_step_in_any_gradient_mode_is_the_same(mode: Callable[[], Any]) -> None:
    weights = []
    for within in (mode, torch.no_grad):
        module = model()
        optimizer = torch.optim.Adam(module.parameters(), lr=torch.tensor(0.1))
        control = AdaptiveLR(optimizer, (GradientSpike(), LossVariance(), Script((0.5, 0.7))))
        for _ in range(20):
            backward(module)
            with within():
                optimizer.step()
            control.step(1.0)
        weights.append(module.weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.parametrize("lr", [1, np.float64(1.0), np.float32(1.0), np.array(1.0)], ids=lambda lr: type(lr).__name__)
def test_any_number_may_be_a_learning_rate_and_is_put_back_itself(lr: Any) -> None:
    module = model()
    optimizer = Recorder(module.parameters(), lr=lr)
    control = AdaptiveLR(optimizer, Script((0.5,)))
    backward(module)
    optimizer.step()
    control.step(1.0)
    assert optimizer.used == [(0.5, 0)]
    assert optimizer.param_groups[0]["lr"] is lr


def test_a_float32_learning_rate_tensor_holds_the_product_in_float32_and_its_base_exactly() -> None:
    module = model()
    base = torch.tensor(0.1)
    optimizer = torch.optim.Adam(module.parameters(), lr=base)
    control = AdaptiveLR(optimizer, Script((0.3,)))
    backward(module)
    optimizer.step()
    assert control.get_last_lr() == [float(torch.tensor(0.1) * 0.3)]
    assert optimizer.param_groups[0]["lr"] is base
    assert torch.equal(base, torch.tensor(0.1))


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.RMSprop])
def test_a_momentum_multiplier_of_zero_empties_the_buffer(cls: Any) -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = cls([weight], lr=1e-3, momentum=0.9)
    control = AdaptiveLR(optimizer, Script((1.0,), (1.0, 0.0, 1.0)))
    buffers = []
    for gradient in (1e4, 1.0, 0.0):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        control.step(1.0)
        buffers.append(float(optimizer.state[weight]["momentum_buffer"][0]))
    assert buffers[1] <= 1.0  # this gradient, and nothing of the one before
    assert buffers[2] == pytest.approx(0.9 * buffers[1])


def test_damping_holds_for_every_evaluation_of_a_line_search() -> None:
    x = nn.Parameter(torch.tensor([3.0, 2.0]))
    optimizer = torch.optim.LBFGS([x], max_iter=4, line_search_fn="strong_wolfe")
    AdaptiveLR(optimizer, Reflex(damp=0.5, damp_at=(0,)))
    gather = optimizer._gather_flat_grad
    ratios: list[float] = []

    def listening() -> torch.Tensor:
        gradient = gather()
        ratios.extend((gradient / (4 * x.detach() ** 3)).tolist())
        return gradient

    optimizer._gather_flat_grad = listening

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (x**4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert len(ratios) > 4
    assert ratios == pytest.approx([0.5] * len(ratios))


def test_a_gradient_shared_by_two_parameters_is_damped_once() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([first, second], lr=1.0)
    AdaptiveLR(optimizer, Reflex(damp=0.5, damp_at=(0,)))
    first.grad = second.grad = torch.ones(2)
    optimizer.step()
    assert first.tolist() == second.tolist() == [-0.5, -0.5]


def test_a_skipped_step_takes_back_plain_values_an_optimizer_keeps_beside_its_states() -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.state["steps"] = self.state.get("steps", 0) + 1
            return super().step(closure)

    module = model()
    optimizer = Counting(module.parameters(), lr=1.0)
    control = AdaptiveLR(optimizer, Reflex(skip_at=(0, 2)))
    counts = []
    for _ in range(4):
        backward(module)
        optimizer.step()
        control.step(1.0)
        counts.append(optimizer.state.get("steps", 0))
    assert counts == [0, 1, 1, 2]


def test_a_closure_may_return_none() -> None:
    module = model()
    optimizer = Recorder(module.parameters())
    control = AdaptiveLR(optimizer, (Script((0.5,)), GradientSpike()))
    assert optimizer.step(lambda: backward(module)) is None
    control.step(1.0)
    assert optimizer.used == [(0.5, 0)]


def test_groups_given_by_generators_and_by_names_are_controlled_and_traced_when_they_come_late(tmp_path: Path) -> None:
    early, late = model(), model()
    optimizer = torch.optim.Adam((p for p in early.parameters()), lr=0.1)
    control = AdaptiveLR(optimizer, (GradientSpike(),), trace=tmp_path)
    for step in range(4):
        if step == 2:
            optimizer.add_param_group({"params": (p for p in late.parameters()), "lr": 0.3, "name": "late"})
        backward(early)
        backward(late)
        optimizer.step()
        control.step(1.0)
    control.detach()
    record = read_trace(tmp_path)
    assert [update.lr for update in record.updates] == [(0.1,)] * 2 + [(0.1, 0.3)] * 2
    assert len(record.rows[-1].groups) == 2
    assert "Adam" in explain(record)
