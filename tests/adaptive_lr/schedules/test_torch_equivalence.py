"""Every schedule that torch has too gives torch's learning rate and momentum at every step.

Tolerance: torch's recursive forms multiply step by step, and a cosine near its end is a difference of two numbers
near 1, so after t steps its error is up to about 2 t epsilon of the peak: 4.4e-13 of it in 1000 steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as torch_schedulers

from adaptive_lr import schedules
from adaptive_lr.schedules import Schedule

PEAK = 0.3
TOLERANCE = 1e-12

Build = Callable[[torch.optim.Optimizer], torch_schedulers.LRScheduler]


def torch_run(build: Build, steps: int, optimizer_class: type[torch.optim.Optimizer]) -> tuple[Any, Any]:
    """Learning rate and momentum that torch's scheduler sets for each step."""
    arguments: dict[str, Any] = {"momentum": 0.9} if optimizer_class is torch.optim.SGD else {}
    optimizer = optimizer_class([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, **arguments)  # type: ignore[call-arg]
    scheduler = build(optimizer)
    rates, momenta = [], []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        rates.append(group["lr"])
        momenta.append(group["momentum"] if "momentum" in group else group["betas"][0])
        optimizer.step()
        scheduler.step()
    return np.array(rates), np.array(momenta)


CASES: list[tuple[str, Schedule, Build, int]] = [
    (
        f"constant {factor} {total}",
        schedules.constant(factor, total),
        lambda o, f=factor, t=total: torch_schedulers.ConstantLR(o, f, t),
        60,
    )
    for factor, total in [(1 / 3, 5), (0.5, 40), (1.0, 10)]
]
CASES += [
    (f"step {size} {g}", schedules.step(size, g), lambda o, s=size, g=g: torch_schedulers.StepLR(o, s, g), 200)
    for size, g in [(1, 0.9), (30, 0.1), (7, 0.5)]
]
CASES += [
    (
        f"multi_step {milestones} {g}",
        schedules.multi_step(milestones, g),
        lambda o, m=milestones, g=g: torch_schedulers.MultiStepLR(o, m, g),
        120,
    )
    for milestones, g in [((30, 80), 0.1), ((5, 5, 60), 0.5), ((50, 10), 0.2), ((), 0.1)]
]
CASES += [
    (f"exponential {g}", schedules.exponential(g), lambda o, g=g: torch_schedulers.ExponentialLR(o, g), 500)
    for g in (0.9, 0.99, 1.0)
]
CASES += [
    (
        f"linear {start} {end} {total}",
        schedules.linear(total, start_factor=start, end_factor=end),
        lambda o, s=start, e=end, t=total: torch_schedulers.LinearLR(o, s, e, t),
        150,
    )
    for start, end, total in [(1 / 3, 1.0, 5), (1.0, 0.0, 100), (0.1, 0.7, 33)]
]
CASES += [
    (
        f"polynomial {total} {power}",
        schedules.polynomial(total, power),
        lambda o, t=total, p=power: torch_schedulers.PolynomialLR(o, t, p),
        150,
    )
    for total, power in [(5, 1.0), (100, 2.0), (77, 0.5), (100, 0.9)]
]
# up to T_max: past it torch's goes up again
CASES += [
    (
        f"cosine {total} {floor}",
        schedules.cosine(total, floor),
        lambda o, t=total, f=floor: torch_schedulers.CosineAnnealingLR(o, t, eta_min=f * PEAK),
        total + 1,
    )
    for total, floor in [(100, 0.0), (1000, 0.1), (37, 0.5), (1, 0.2)]
]
CASES += [
    (
        f"cosine_warm_restarts {first} {mult} {floor}",
        schedules.cosine_warm_restarts(first, mult, eta_min=floor),
        lambda o, a=first, m=mult, f=floor: torch_schedulers.CosineAnnealingWarmRestarts(o, a, m, eta_min=f * PEAK),
        1000,
    )
    for first, mult, floor in [(10, 1, 0.0), (10, 2, 0.1), (3, 3, 0.0), (1, 2, 0.0), (7, 1, 0.3)]
]
CASES += [
    (
        f"cyclic {up} {down} {base} {mode} {g}",
        schedules.cyclic(up, down, base_factor=base, mode=mode, gamma=g),
        lambda o, u=up, d=down, b=base, m=mode, g=g: torch_schedulers.CyclicLR(o, b * PEAK, PEAK, u, d, m, g),
        700,
    )
    for up, down, base, mode, g in [
        (50, None, 0.1, "triangular", 1.0),
        (30, 70, 0.25, "triangular", 1.0),
        (1, 1, 0.0, "triangular", 1.0),
        (40, 13, 0.3, "triangular2", 1.0),
        (25, 60, 0.01, "exp_range", 0.995),
    ]
]
CASES += [
    (
        f"one_cycle {total} {kwargs}",
        schedules.one_cycle(total, **kwargs),
        lambda o, t=total, k=kwargs: torch_schedulers.OneCycleLR(o, PEAK, t, **k),
        total,
    )
    for total, kwargs in [
        (1000, {}),
        (1000, {"three_phase": True}),
        (997, {"anneal_strategy": "linear", "pct_start": 0.25}),
        (503, {"anneal_strategy": "linear", "three_phase": True, "pct_start": 0.45}),
        (100, {"div_factor": 10.0, "final_div_factor": 100.0, "base_momentum": 0.5, "max_momentum": 0.99}),
        (10, {"pct_start": 0.15}),
        (4, {}),
    ]
]


@pytest.mark.parametrize(("schedule", "build", "steps"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_equals_torch_at_every_step(schedule: Schedule, build: Build, steps: int) -> None:
    """The learning rate is torch's at every step, past the end of the schedule where torch's holds it too."""
    rates, momenta = torch_run(build, steps, torch.optim.SGD)
    np.testing.assert_allclose(PEAK * schedule(np.arange(steps)), rates, rtol=TOLERANCE, atol=TOLERANCE * PEAK)
    own = schedule.momentum(np.arange(steps))
    if own is not None:
        np.testing.assert_allclose(own, momenta, rtol=TOLERANCE)


def test_momentum_is_torchs_first_beta_with_adam() -> None:
    """With Adam the same momentum is torch's first beta, for one-cycle and cyclic."""
    for schedule, build in [
        (
            schedules.one_cycle(200, three_phase=True),
            lambda o: torch_schedulers.OneCycleLR(o, PEAK, 200, three_phase=True),
        ),
        (schedules.cyclic(30, base_factor=0.1), lambda o: torch_schedulers.CyclicLR(o, 0.1 * PEAK, PEAK, 30)),
    ]:
        _, momenta = torch_run(build, 200, torch.optim.Adam)
        np.testing.assert_allclose(schedule.momentum(np.arange(200)), momenta, rtol=TOLERANCE)


def test_cycle_momentum_false_has_no_momentum() -> None:
    """`cycle_momentum=False` means no momentum, as in torch; and schedules without one return None."""
    assert schedules.one_cycle(100, cycle_momentum=False).momentum(3) is None
    assert schedules.cyclic(10, cycle_momentum=False).momentum(np.arange(5)) is None
    assert schedules.cosine(10).momentum(3) is None


def test_then_equals_torchs_sequential() -> None:
    """`first.then(second)` is SequentialLR: the second one's clock starts at 0 at the milestone."""

    def build(optimizer: torch.optim.Optimizer) -> torch_schedulers.LRScheduler:
        parts = [
            torch_schedulers.LinearLR(optimizer, 0.1, 1.0, 20),
            torch_schedulers.StepLR(optimizer, 15, 0.5),
            torch_schedulers.ExponentialLR(optimizer, 0.9),
        ]
        return torch_schedulers.SequentialLR(optimizer, parts, milestones=[20, 60])

    schedule = (
        schedules.warmup(20, start_factor=0.1)
        .then(schedules.step(15, 0.5), after=20)
        .then(schedules.exponential(0.9), after=60)
    )
    rates, _ = torch_run(build, 120, torch.optim.SGD)
    np.testing.assert_allclose(PEAK * schedule(np.arange(120)), rates, rtol=TOLERANCE)


def test_product_equals_torchs_chained() -> None:
    """The product of two schedules is ChainedScheduler of the two."""

    def build(optimizer: torch.optim.Optimizer) -> torch_schedulers.LRScheduler:
        parts = [torch_schedulers.ConstantLR(optimizer, 0.1, 20), torch_schedulers.ExponentialLR(optimizer, 0.9)]
        return torch_schedulers.ChainedScheduler(parts, optimizer=optimizer)

    rates, _ = torch_run(build, 100, torch.optim.SGD)
    schedule = schedules.constant(0.1, 20) * schedules.exponential(0.9)
    np.testing.assert_allclose(PEAK * schedule(np.arange(100)), rates, rtol=TOLERANCE)


def test_lambda_lr_with_a_schedule_is_the_closed_form_to_the_last_bit() -> None:
    """A schedule is a LambdaLR lambda; LambdaLR's state survives a state_dict."""
    for text in schedules.REGISTRY:
        schedule = schedules.from_text(text, total_steps=50)
        rates, _ = torch_run(lambda o, s=schedule: torch_schedulers.LambdaLR(o, s), 80, torch.optim.SGD)
        assert rates.tolist() == [PEAK * schedule(step) for step in range(80)], text

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = torch_schedulers.LambdaLR(optimizer, schedules.cosine(10))
    other = torch_schedulers.LambdaLR(optimizer, schedules.cosine(99))
    other.load_state_dict(scheduler.state_dict())
    assert other.lr_lambdas[0] == schedules.cosine(10)
