"""How a judgement that the host does not know reaches the update."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from adaptive_lr import AdaptiveLR
from adaptive_lr.actuation import act, can_act, is_fused
from adaptive_lr.controllers import GradientSpike
from adaptive_lr_kernels import Workspace
from deferral import Run, deferred
from fused import FUSED, judgement, made


@pytest.mark.parametrize("cls", FUSED)
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_a_fused_optimizer_damps_to_the_rounding_of_a_quotient(cls: Any, scale: float | None) -> None:
    parameter, optimizer = made(cls, fused=True)
    other, by_hand = made(cls, fused=True)
    assert is_fused(optimizer)
    other.grad = (parameter.grad.double() / 3.0).float()  # type: ignore[union-attr]
    if scale is not None:
        parameter.grad *= scale  # type: ignore[operator]
        optimizer.grad_scale = torch.tensor(scale)  # type: ignore[attr-defined]
        optimizer.found_inf = torch.tensor(0.0)  # type: ignore[attr-defined]
    flags = act(optimizer, judgement(damp=1.0 / 3.0), Workspace())
    optimizer.step()
    by_hand.step()
    torch.testing.assert_close(parameter, other, rtol=1e-6, atol=1e-7)
    assert flags is not None
    flags.put_back(optimizer)
    if scale is None:
        assert not hasattr(optimizer, "grad_scale")
        assert not hasattr(optimizer, "found_inf")
    else:
        assert optimizer.grad_scale.item() == scale  # type: ignore[attr-defined]
        assert optimizer.found_inf.item() == 0.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("cls", FUSED)
@pytest.mark.parametrize(("found", "skip"), [(None, 1.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (2.0, 0.0)])
def test_a_fused_optimizer_leaves_out_what_either_finds(cls: Any, found: float | None, skip: float) -> None:
    options = {"momentum": 0.9} if cls is torch.optim.SGD else {}
    parameter, optimizer = made(cls, fused=True, **options)
    optimizer.step()
    before = parameter.detach().clone()
    state = {k: v.clone() for k, v in optimizer.state[parameter].items() if isinstance(v, torch.Tensor)}
    parameter.grad = torch.full_like(parameter, math.nan)
    if found is not None:
        optimizer.found_inf = torch.tensor(found)  # type: ignore[attr-defined]
    act(optimizer, judgement(skip=skip), Workspace())
    optimizer.step()
    assert torch.equal(parameter, before)
    assert all(torch.equal(optimizer.state[parameter][name], value) for name, value in state.items())


def test_another_optimizer_gets_zeros_and_decays_one_step() -> None:
    parameter, optimizer = made(torch.optim.SGD, momentum=0.9)
    optimizer.step()
    momentum = optimizer.state[parameter]["momentum_buffer"].clone()
    parameter.grad = torch.full_like(parameter, math.nan)
    assert act(optimizer, judgement(skip=1.0), Workspace()) is None
    optimizer.step()
    torch.testing.assert_close(optimizer.state[parameter]["momentum_buffer"], 0.9 * momentum)


def test_a_gradient_that_two_parameters_share_is_damped_once() -> None:
    first, second = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    first.grad = second.grad = torch.ones(2)
    act(torch.optim.SGD([first, second], lr=1.0), judgement(damp=0.5), Workspace())
    assert first.grad.tolist() == [0.5, 0.5]


def test_what_the_host_must_do_itself_is_left_to_it() -> None:
    parameter, optimizer = made(torch.optim.SGD, momentum=0.9, fused=True)
    assert not can_act(optimizer)  # torch makes the first momentum buffers without values
    optimizer.step()
    assert can_act(optimizer)
    parameter, optimizer = made(torch.optim.SGD)
    assert can_act(optimizer)
    parameter.grad = parameter.grad.to_sparse()  # type: ignore[union-attr]
    assert not can_act(optimizer)
    parameter.grad = (parameter * 2.0).detach().requires_grad_()
    assert not can_act(optimizer)
    parameter.grad = None
    assert not can_act(optimizer)


def test_the_first_step_of_fused_sgd_is_skipped_exactly() -> None:
    """Its momentum buffers would hold whatever was in memory."""
    run = Run(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True), True, 2, GradientSpike, {0: math.nan})
    before = [parameter.detach().clone() for parameter in run.parameters]
    run.step(0)
    assert all(torch.equal(a, b) for a, b in zip(run.parameters, before, strict=True))
    assert run.control.stalls == 1
    for step in range(1, 5):
        run.step(step)
    assert run.control.stalls <= 2


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_clip_is_clip_grad_norm(late: bool, fused: bool) -> None:
    parameters, others = ([torch.zeros(s, requires_grad=True) for s in [(40, 30), (30,), ()]] for _ in range(2))
    optimizer = torch.optim.SGD(parameters, lr=1.0, fused=fused)
    with deferred(late):
        AdaptiveLR(optimizer, GradientSpike(damp_above=1e9, skip_above=1e9, clip=2.0), lag=2)
    generator = torch.Generator().manual_seed(0)
    for step in range(12):
        for p, q in zip(parameters, others, strict=True):
            p.grad = torch.randn(p.shape, generator=generator) * (0.01 if step % 3 == 0 else 1.0)
            q.grad = p.grad.clone()
        versions = [p.grad._version for p in parameters]  # type: ignore[union-attr]
        total = torch.nn.utils.clip_grad_norm_(others, 2.0)
        optimizer.step()
        for p, q in zip(parameters, others, strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=3e-7, atol=0.0)
        if total < 2.0:
            assert all(torch.equal(p.grad, q.grad) for p, q in zip(parameters, others, strict=True))  # type: ignore[arg-type]
            if not late:
                assert [p.grad._version for p in parameters] == versions  # type: ignore[union-attr]
