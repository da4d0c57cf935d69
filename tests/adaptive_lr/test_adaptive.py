"""What a user sees of `AdaptiveLR`: reports in, levels, reasons and errors out."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import Adjustment, Composition, Controller, GradientSpike, Plateau, automatic
from adaptive_lr.statistics import Phase, Statistics
from laws import Count, Reflex, Script, Watch


def quadratic(lr: float = 0.1) -> tuple[torch.optim.Optimizer, torch.Tensor]:
    parameter = torch.ones(3, requires_grad=True)
    return torch.optim.SGD([parameter], lr=lr, momentum=0.9), parameter


def update(optimizer: torch.optim.Optimizer, parameter: torch.Tensor, scale: float = 1.0) -> None:
    parameter.grad = parameter.detach() * scale
    optimizer.step()


@pytest.mark.parametrize("lag", [None, 0, 1, 2, 5])
def test_a_row_acts_first_on_the_update_lag_plus_one_after_it(lag: int | None) -> None:
    optimizer, parameter = quadratic()
    factors = tuple(0.9**n for n in range(12))
    control = AdaptiveLR(optimizer, Script(factors), lag=lag)
    delay = lag or 0
    for step in range(10):
        # Row t (the START row is before update 0) says factors[t + 1]; update t uses what row t - 1 - lag said.
        expected = factors[max(step - delay, 0)] if step >= delay else 1.0
        assert control.factor == expected
        update(optimizer, parameter)
        control.step(0.0)
        assert control.get_last_lr() == [0.1 * expected]


def test_the_reflex_acts_in_the_same_step_whatever_the_lag() -> None:
    optimizer, parameter = quadratic()
    AdaptiveLR(optimizer, Reflex(skip_at=(0,)), lag=3)
    update(optimizer, parameter)
    assert parameter.tolist() == [1.0] * 3


def test_shadow_records_the_same_first_decision_and_reports_the_factor_it_would_use() -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer, Script((0.5, 0.25)), shadow=True)
    update(optimizer, parameter)
    control.step(1.0)
    assert control.factor == 0.25
    assert control.get_last_lr() == [0.1]
    assert [(d.step, d.factor_before, d.factor_after) for d in control.decisions] == [(0, 1.0, 0.5), (0, 0.5, 0.25)]


def test_each_observation_is_one_evaluation_and_is_decided_at_once() -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer, Plateau("val_loss", patience=1, factor=0.5))
    update(optimizer, parameter)
    control.step(1.0)
    for expected in (1.0, 1.0, 0.5):
        control.observe(val_loss=1.0)
        assert control.factor == expected
    decision = control.decisions[-1]
    assert (decision.phase, decision.controller, decision.step) == (Phase.OBSERVATION, "plateau", 1)


@pytest.mark.parametrize(
    "loss",
    [
        0.5,
        1,
        np.float32(0.5),
        np.array(0.5),
        torch.tensor(0.5),
        torch.tensor([0.5]),
        torch.tensor(0.5, requires_grad=True),
        {"loss": 0.5, "accuracy": torch.tensor(0.9)},
        None,
    ],
    ids=str,
)
def test_a_loss_may_be_a_number_a_tensor_or_a_mapping(loss: Any) -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer)
    update(optimizer, parameter)
    control.step(loss)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        ("0.5", TypeError, "loss must be a number"),
        (torch.ones(2), ValueError, r"shape \(2,\)"),
        (torch.tensor(1j), ValueError, "real tensor"),
        ({"grad_norm": 1.0}, ValueError, "'grad_norm' has the name of a statistic"),
        ({1: 1.0}, TypeError, "names of metrics must be strings, got 1"),
        ({"loss": [1.0]}, TypeError, "loss must be a number"),
        (True, TypeError, "loss must be a number or a tensor of one element, got True"),
        ({"": 1.0}, ValueError, "names of metrics must not be empty"),
    ],
)
def test_a_wrong_loss_is_refused_before_anything_is_changed(loss: Any, error: type[Exception], message: str) -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer)
    update(optimizer, parameter)
    before = control.state_dict()
    with pytest.raises(error, match=message):
        control.step(loss)
    assert control.state_dict() == before


def test_observe_without_a_metric_is_refused() -> None:
    optimizer, _ = quadratic()
    with pytest.raises(ValueError, match="at least one metric"):
        AdaptiveLR(optimizer).observe()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"lag": -1}, ValueError, "lag must be >= 0 updates, got -1"),
        ({"lag": 1.5}, TypeError, "lag must be a number of updates"),
        ({"lag": True}, TypeError, "lag must be a number of updates"),
        ({"controllers": 3}, TypeError, "controllers must be"),
        ({"controllers": ["plateau"]}, TypeError, "controllers must be Controller instances, got 'plateau'"),
        ({"controllers": Watch(("loudness",))}, ValueError, "requires \\['loudness'\\]"),
        ({"schedule": 0.1}, TypeError, "schedule must be"),
        ({"trace": 7}, TypeError, "trace"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_changed(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    optimizer, _ = quadratic()
    with pytest.raises(error, match=message):
        AdaptiveLR(optimizer, **arguments)
    assert not optimizer._optimizer_step_pre_hooks
    assert "initial_lr" not in optimizer.param_groups[0]


def test_only_an_optimizer_can_be_controlled_and_only_once() -> None:
    optimizer, _ = quadratic()
    with pytest.raises(TypeError, match=r"torch.optim.Optimizer, got list"):
        AdaptiveLR([])  # type: ignore[arg-type]
    control = AdaptiveLR(optimizer)
    with pytest.raises(ValueError, match="under control already"):
        AdaptiveLR(optimizer)
    control.detach()
    AdaptiveLR(optimizer)


def test_an_optimizer_inside_a_wrapper_is_found() -> None:
    class Accelerated:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

    optimizer, parameter = quadratic()
    control = AdaptiveLR(Accelerated(optimizer), Script((0.5,)))  # type: ignore[arg-type]
    update(optimizer, parameter)
    assert control.get_last_lr() == [0.05]


def test_a_scheduler_of_another_optimizer_is_refused() -> None:
    optimizer, _ = quadratic()
    other, _ = quadratic()
    with pytest.raises(ValueError, match="another optimizer"):
        AdaptiveLR(optimizer, schedule=torch.optim.lr_scheduler.StepLR(other, 3))


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, pickle.dumps])
def test_control_refuses_to_be_copied_with_a_sentence(copying: Any) -> None:
    optimizer, _ = quadratic()
    with pytest.raises(TypeError, match="save state_dict"):
        copying(AdaptiveLR(optimizer))


def test_decisions_are_bounded_and_counted() -> None:
    optimizer, parameter = quadratic(lr=0.0)
    control = AdaptiveLR(optimizer, Script(tuple(1.0 / n for n in range(1, 1200))))
    for _ in range(1100):
        update(optimizer, parameter)
        control.step()
    assert len(control.decisions) == 1000
    assert control.decisions.total == 1101
    assert control.decisions[-1].step == 1099
    assert [d.step for d in control.decisions[:2]] == [100, 101]


def test_bounds_apply_once_to_the_product_of_factors_and_the_lowest_momentum_wins() -> None:
    optimizer, parameter = quadratic()
    laws = (Script((0.1,), (0.5,)), Script((0.1,), (0.25,)), Script((4.0,)))
    control = AdaptiveLR(optimizer, Composition(laws, min_factor=0.2, max_factor=0.5))
    seen: list[float] = []
    optimizer.register_step_pre_hook(lambda o, a, k: seen.append(o.param_groups[0]["momentum"]))
    update(optimizer, parameter)
    assert control.factor == 0.2
    assert seen == [0.9 * 0.25]


def test_a_law_that_asks_for_the_impossible_is_named() -> None:
    optimizer, parameter = quadratic()

    class Broken(Controller[Count]):
        def init(self) -> Count:
            return Count()

        def update(self, state: Count, statistics: Statistics) -> tuple[Count, Adjustment]:
            return state, Adjustment(factor=1.0 if statistics.phase is Phase.START else float("nan"))

    control = AdaptiveLR(optimizer, Broken())
    update(optimizer, parameter)
    with pytest.raises(ValueError, match="controller broken asked for factor=nan"):
        control.step(1.0)


def test_should_stop_stays() -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer, Reflex(stop_at=1))
    stops = []
    for _ in range(4):
        update(optimizer, parameter)
        control.step()
        stops.append(control.should_stop)
    assert stops == [False, True, True, True]


def test_one_nan_gradient_skips_that_step_and_no_other() -> None:
    optimizer, parameter = quadratic(lr=0.01)
    control = AdaptiveLR(optimizer, GradientSpike())
    for step in range(40):
        before = parameter.detach().clone()
        update(optimizer, parameter, float("nan") if step == 20 else 1.0)
        assert torch.equal(parameter, before) == (step == 20)
        control.step(1.0)
    assert [(d.step, d.action) for d in control.decisions] == [(20, "skip")]


def test_one_nan_loss_skips_nothing() -> None:
    optimizer, parameter = quadratic(lr=0.01)
    control = AdaptiveLR(optimizer)
    for step in range(200):
        before = parameter.detach().clone()
        update(optimizer, parameter)
        assert not torch.equal(parameter, before)
        control.step(float("nan") if step == 90 else float((parameter.detach() ** 2).sum()))
    assert control.factor == 1.0


def test_only_what_is_asked_for_is_measured() -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer, Watch(("grad_max",)))
    rows: list[Statistics] = []
    consider = control._deliberation.consider
    control._deliberation.consider = lambda row, n: rows.append(row) or consider(row, n)  # type: ignore[method-assign, func-returns-value]
    update(optimizer, parameter)
    control.step({"loss": 1.0, "accuracy": 0.5})
    assert rows == [Statistics(0, Phase.AFTER, {"grad_max": 1.0, "loss": 1.0, "accuracy": 0.5})]


def test_before_any_update_the_last_learning_rate_is_the_base() -> None:
    optimizer, _ = quadratic()
    assert AdaptiveLR(optimizer, Script((0.5,))).get_last_lr() == [0.1]


class TooSoon(Controller[Count]):
    """Asks for the impossible before the first update."""

    def init(self) -> Count:
        return Count()

    def update(self, state: Count, statistics: Statistics) -> tuple[Count, Adjustment]:
        return state, Adjustment(factor=-1.0)


@pytest.mark.parametrize(
    "refused",
    [
        {"schedule": lambda step: None},
        {"schedule": lambda step: math.nan},
        {"schedule": "cosine"},
        {"controllers": TooSoon()},
        {"controllers": "guarded"},
        {"model": 3},
        {"lag": -1},
        {"shadow": "yes"},
        {"update_ratios_every": 0},
        {"process_group": "all"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_a_control_that_is_refused_leaves_its_folder_and_its_optimizer_as_they_were(
    tmp_path: Path, refused: dict[str, Any]
) -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer, trace=tmp_path)
    update(optimizer, parameter)
    control.step(1.0)
    control.detach()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    groups = repr(optimizer.param_groups)
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises((TypeError, ValueError)):
            AdaptiveLR(optimizer, trace=folder, **refused)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert repr(optimizer.param_groups) == groups
    AdaptiveLR(optimizer).detach()  # nor is it under control


def test_who_never_calls_step_is_told_once_and_what_cannot_act() -> None:
    optimizer, parameter = quadratic(lr=0.01)
    AdaptiveLR(optimizer)
    with pytest.warns(UserWarning, match=r"control\.step\(loss\) was not called .* rescue, loss_variance") as caught:
        for _ in range(60):
            update(optimizer, parameter)
    assert len(caught) == 1


def test_who_calls_step_or_only_observes_or_has_no_law_that_needs_it_is_not_told() -> None:
    for controllers in (None, Plateau("val_loss"), GradientSpike(), ()):
        optimizer, parameter = quadratic(lr=0.01)
        control = AdaptiveLR(optimizer, controllers)
        for step in range(60):
            update(optimizer, parameter)
            if controllers is None:
                control.step(1.0)
            elif step == 10 and isinstance(controllers, Plateau):
                control.observe(val_loss=1.0)


@pytest.mark.parametrize("lr", [math.nan, math.inf])
def test_a_learning_rate_that_is_not_finite_is_refused_with_its_group(lr: float) -> None:
    parameters = [torch.ones(2, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": lr}], lr=0.1)
    with pytest.raises(ValueError, match=f"finite learning rates, got lr={lr} in group 1"):
        AdaptiveLR(optimizer)


def test_a_sweep_needs_a_learning_rate_above_zero_in_some_group() -> None:
    optimizer, _ = quadratic(lr=0.0)
    with pytest.raises(ValueError, match=r"a learning rate > 0 in some group .* got \[0\.0\]"):
        AdaptiveLR(optimizer, automatic(total_steps=100))
    AdaptiveLR(optimizer)  # without a sweep nothing is multiplied but the base


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_schedule_that_gives_no_factor_is_refused_with_its_step_and_changes_no_group(value: float) -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer, schedule=lambda step: value if step == 2 else 1.0)
    update(optimizer, parameter)
    control.step(1.0)
    update(optimizer, parameter)
    with pytest.raises(ValueError, match=f"finite and >= 0, got {value} at step 2"):
        control.step(1.0)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_step_after_the_optimizer_is_gone_says_so() -> None:
    optimizer, parameter = quadratic()
    control = AdaptiveLR(optimizer)
    del optimizer, parameter
    with pytest.raises(RuntimeError, match="no longer exists"):
        control.step(1.0)
