"""The reflex on a fused optimizer where Triton runs: what `adaptive_lr.actuation` does on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adaptive_lr import actuation
from adaptive_lr.actuation import act
from adaptive_lr_kernels import Workspace
from fused import FUSED, judgement, made


@pytest.fixture(autouse=True)
def on_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are chosen on the CPU too."""
    monkeypatch.setattr(actuation, "selected", lambda *_: "triton")


@pytest.mark.parametrize("cls", FUSED)
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_damping_is_exact_with_and_without_a_grad_scaler(cls: Any, scale: float | None) -> None:
    parameter, optimizer = made(cls, fused=True)
    other, by_hand = made(cls, fused=True)
    other.grad = (parameter.grad.double() / 3.0).float()  # type: ignore[union-attr]
    if scale is not None:
        parameter.grad *= scale  # type: ignore[operator]
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)  # type: ignore[attr-defined]
    act(optimizer, judgement(damp=1.0 / 3.0), Workspace())
    optimizer.step()
    by_hand.step()
    torch.testing.assert_close(parameter, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("cls", FUSED)
def test_an_overflow_that_a_grad_scaler_found_is_left_out(cls: Any) -> None:
    parameter, optimizer = made(cls, fused=True)
    before = parameter.detach().clone()
    optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(1.0)  # type: ignore[attr-defined]
    act(optimizer, judgement(), Workspace())
    optimizer.step()
    assert torch.equal(parameter, before)


@pytest.mark.parametrize("cls", FUSED)
@pytest.mark.parametrize("scaler", [False, True])
def test_a_fused_optimizer_gets_a_grad_scale_only_from_a_grad_scaler(cls: Any, scaler: bool) -> None:
    """With one, torch's fused kernels write every gradient at every step."""
    _, optimizer = made(cls, fused=True)
    if scaler:  # as torch leaves them where gradients were unscaled before the step
        optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(0.0)  # type: ignore[attr-defined]
    flags = act(optimizer, judgement(damp=0.5), Workspace())
    assert getattr(optimizer, "grad_scale", None) is None
    flags.put_back(optimizer)  # type: ignore[union-attr]
    assert hasattr(optimizer, "grad_scale") == hasattr(optimizer, "found_inf") == scaler


SIGNALLING_NAN = 0x7F800001
"""Bits of a float32 that no arithmetic returns: even a quotient by 1 makes a quiet NaN of it."""


@pytest.mark.parametrize("cls", FUSED)
@pytest.mark.parametrize("skip", [0.0, 1.0])
def test_a_fused_optimizer_leaves_gradients_alone_where_nothing_is_to_be_scaled(cls: Any, skip: float) -> None:
    """Not even the same values are written back."""
    parameter, optimizer = made(cls, fused=True)
    gradient = parameter.grad
    assert gradient is not None
    bits = gradient.view(torch.int32).fill_(SIGNALLING_NAN)
    version = gradient._version
    act(optimizer, judgement(skip=skip), Workspace())
    optimizer.step()
    assert parameter.grad is gradient
    assert gradient._version == version
    assert set(bits.flatten().tolist()) == {SIGNALLING_NAN}


@pytest.mark.parametrize("cls", FUSED)
def test_a_grad_scale_has_every_gradient_written(cls: Any) -> None:
    """What the test above would see."""
    parameter, optimizer = made(cls, fused=True)
    bits = parameter.grad.view(torch.int32).fill_(SIGNALLING_NAN)  # type: ignore[union-attr]
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(1.0), torch.tensor(0.0)  # type: ignore[attr-defined]
    optimizer.step()
    assert SIGNALLING_NAN not in bits
