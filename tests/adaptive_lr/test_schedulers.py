"""Control is exact over every torch scheduler: effective learning rate == schedule x factor, bit for bit."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim import lr_scheduler as ls

from adaptive_lr import AdaptiveLR
from laws import Script

STEPS = 24
FACTORS = (1.0, 0.5, 0.5, 0.125, 0.3, 1.0, 1.7)  # then 1.7 to the end

SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "StepLR": lambda o: ls.StepLR(o, 5, 0.5),
    "MultiStepLR": lambda o: ls.MultiStepLR(o, [3, 11], 0.1),
    "ExponentialLR": lambda o: ls.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: ls.CosineAnnealingLR(o, 20, 0.001),
    "LambdaLR": lambda o: ls.LambdaLR(o, lambda t: 1 / (1 + t)),
    "MultiplicativeLR": lambda o: ls.MultiplicativeLR(o, lambda t: 0.95),
    "LinearLR": lambda o: ls.LinearLR(o, 0.2, 1.0, 10),
    "ConstantLR": lambda o: ls.ConstantLR(o, 0.3, 7),
    "PolynomialLR": lambda o: ls.PolynomialLR(o, 20, 2.0),
    "OneCycleLR": lambda o: ls.OneCycleLR(o, 0.5, total_steps=STEPS + 1),
    "CyclicLR": lambda o: ls.CyclicLR(o, 0.01, 0.1, 4),
    "CosineAnnealingWarmRestarts": lambda o: ls.CosineAnnealingWarmRestarts(o, 5, 2),
    "SequentialLR": lambda o: ls.SequentialLR(o, [ls.LinearLR(o, 0.1, 1, 5), ls.CosineAnnealingLR(o, 15)], [5]),
    "ChainedScheduler": lambda o: ls.ChainedScheduler([ls.ConstantLR(o, 0.1, 4), ls.ExponentialLR(o, 0.9)]),
    "ReduceLROnPlateau": lambda o: ls.ReduceLROnPlateau(o, patience=2, factor=0.5),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01, 5),
}
UNNAMED = {"LRScheduler", "EPOCH_DEPRECATION_WARNING"}


def make(kind: str) -> tuple[Optimizer, list[torch.Tensor]]:
    parameters = [torch.ones(3, requires_grad=True), torch.full((2,), 2.0, requires_grad=True)]
    groups: list[dict[str, Any]] = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.04}]
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9), parameters
    if kind == "tensor":
        for group in groups:
            group["lr"] = torch.tensor(group.get("lr", 0.1), dtype=torch.float64)
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9), parameters
    if kind == "shared tensor":
        return torch.optim.SGD(
            [{"params": [p]} for p in parameters], lr=torch.tensor(0.1, dtype=torch.float64), momentum=0.9
        ), parameters
    return torch.optim.AdamW(groups, lr=0.1), parameters


def values(optimizer: Optimizer) -> list[tuple[float, float]]:
    return [
        (float(g["lr"]), float(g["momentum"]) if "momentum" in g else float(g["betas"][0]))
        for g in optimizer.param_groups
    ]


def trained(
    kind: str,
    scheduler: Callable[[Optimizer], Any],
    controllers: Any = None,
    *,
    order: str = "scheduler first",
) -> tuple[list[Any], list[Any], list[torch.Tensor]]:
    """Learning rates and momenta seen inside each step, the ones between steps, and the weights."""
    optimizer, parameters = make(kind)
    owner = scheduler(optimizer)
    given = owner if order == "given" else None
    control = None if controllers is None else AdaptiveLR(optimizer, controllers, schedule=given)
    inside: list[Any] = []
    between: list[Any] = []
    optimizer.register_step_pre_hook(lambda o, a, k: inside.append(values(o)))

    def advance() -> None:
        owner.step(1.0) if isinstance(owner, ls.ReduceLROnPlateau) else owner.step()

    for _ in range(STEPS):
        for parameter in parameters:
            parameter.grad = parameter.detach() - 0.3
        between.append(values(optimizer))
        optimizer.step()
        if control is not None and order == "control first":
            control.step(1.0)
        if order != "given":
            advance()
        if control is not None and order != "control first":
            control.step(1.0)
    return inside, between, parameters


def test_every_scheduler_of_torch_is_in_the_table() -> None:
    found = {
        name
        for name, c in vars(ls).items()
        if inspect.isclass(c) and issubclass(c, ls.LRScheduler) and not name.startswith("_")
    }
    assert found - UNNAMED <= SCHEDULERS.keys()


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("kind", ["sgd", "adamw", "tensor", "shared tensor"])
@pytest.mark.parametrize("order", ["scheduler first", "control first", "given"])
def test_effective_learning_rate_is_schedule_times_factor(name: str, kind: str, order: str) -> None:
    scheduler = SCHEDULERS[name]
    if order == "given" and name == "ReduceLROnPlateau":
        optimizer, _ = make(kind)
        with pytest.raises(ValueError, match="ReduceLROnPlateau"):
            AdaptiveLR(optimizer, (), schedule=scheduler(optimizer))
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The epoch parameter")  # SequentialLR warns about itself
        plain, _, _ = trained(kind, scheduler)
        momenta = (1.0, 0.5, 0.25)
        inside, between, _ = trained(kind, scheduler, Script(FACTORS, momenta), order=order)
    assert between == plain
    for step, (seen, base) in enumerate(zip(inside, plain, strict=True)):
        factor = FACTORS[min(step, len(FACTORS) - 1)]
        scale = momenta[min(step, len(momenta) - 1)]
        assert seen == [(lr * factor, momentum * scale) for lr, momentum in base]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_over_control_with_factor_one_trains_bit_identically(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The epoch parameter")
        _, _, plain = trained("sgd", SCHEDULERS[name])
        _, _, controlled = trained("sgd", SCHEDULERS[name], Script((1.0,)))
    assert all(torch.equal(a, b) for a, b in zip(plain, controlled, strict=True))


def test_a_scheduler_may_be_built_after_control_is_attached() -> None:
    optimizer, parameters = make("sgd")
    control = AdaptiveLR(optimizer, Script((0.5,)))
    scheduler = ls.ExponentialLR(optimizer, 0.5)
    for step in range(4):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        scheduler.step()
        control.step()
        assert control.get_last_lr() == [0.1 * 0.5**step * 0.5, 0.04 * 0.5**step * 0.5]


@pytest.mark.parametrize("kind", ["sgd", "tensor"])
def test_a_callable_schedule_is_the_same_as_torch_lambda_lr(kind: str) -> None:
    optimizer, parameters = make(kind)
    reference, _ = make(kind)
    scheduler = ls.LambdaLR(reference, lambda t: 1 / (1 + t))
    control = AdaptiveLR(optimizer, (), schedule=lambda t: 1 / (1 + t))
    for _ in range(STEPS):
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        assert values(optimizer) == values(reference)
        optimizer.step()
        control.step()
        reference.step()
        scheduler.step()
    control.detach()
    assert all("initial_lr" not in group for group in optimizer.param_groups)
