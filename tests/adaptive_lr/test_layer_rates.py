"""The learning rates that the layer finds and leaves: tensors, groups that come later, values written by others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adaptive_lr import AdaptiveLR
from laws import Script, Watch
from rows_seen import parameter


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
