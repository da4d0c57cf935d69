"""What the layer measures of a step, and when: closures, loss scaling, accumulation, steps nobody reports."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import GradientSpike
from adaptive_lr.statistics import Phase
from adaptive_lr.update_ratio import DEPTH
from laws import Reflex, Script, Watch
from rows_seen import parameter, rows


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
    assert seen[-1].values["compound_ratio"] == pytest.approx((1 + 1e-4 / 0.05) * (1 + 1e-4 / 3.0) - 1, rel=1e-4)


@pytest.mark.parametrize("number", [1, 3, DEPTH, DEPTH + 5])
def test_the_compound_ratio_is_of_the_sixteen_largest_and_may_be_asked_for_alone(number: int) -> None:
    ratios = [0.01 * (k + 1) for k in range(number)]
    parameters = [torch.ones(3, 2, requires_grad=True) for _ in ratios]
    for p, ratio in zip(parameters, ratios, strict=True):
        p.grad = torch.full_like(p, ratio)
    optimizer = torch.optim.SGD(parameters, lr=1.0)
    control = AdaptiveLR(optimizer, Watch(("compound_ratio",)))
    seen = rows(control)
    optimizer.step()
    control.step()
    wanted = math.prod(1.0 + ratio for ratio in ratios[-DEPTH:]) - 1.0
    assert seen[-1].values["compound_ratio"] == pytest.approx(wanted, rel=1e-5)
