"""What takes a backend gives the same with Triton as with torch, up to a whole run under control."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import GradientSpike, LossVariance, guarded
from adaptive_lr.scores import NORM_LAW
from adaptive_lr_kernels import Workspace, backends, measure, scaling
from adaptive_lr_kernels.measurer import Engine
from adaptive_lr_kernels.reflex import Past, ReflexSettings, Window, judge, scale_gradients, score_value
from deferral import Make, Run

LAW = NORM_LAW._replace(warmup=4, adopt_after=5)
SETTINGS = ReflexSettings(damp_above=4.0, skip_above=6.0, clip=3.0, norms=LAW)
UNBOUNDED = ReflexSettings(math.inf, math.inf, None, LAW)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Inside, "auto" is "triton"."""
    with mock.patch.object(backends, "_fuses", return_value=True):
        yield


def noisy(count: int) -> list[float]:
    values = torch.randn(count, generator=torch.Generator().manual_seed(0)).mul(0.5).exp().tolist()
    for place, value in ((9, 0.0), (12, 40.0), (13, math.inf), (17, math.nan), (25, 7.0), (30, 1e30)):
        values[place] = value
    return values


@pytest.mark.parametrize("settings", [SETTINGS, UNBOUNDED], ids=["law", "score alone"])
@pytest.mark.parametrize("scale", [None, 1024.0])
def test_norms_are_judged_alike(settings: ReflexSettings, scale: float | None) -> None:
    ours, theirs = (Past.empty("cpu") for _ in range(2))
    grad_scale = None if scale is None else torch.tensor(scale)
    for norm in noisy(60):
        level = scalar(norm * (scale or 1.0))
        fused = judge(ours, level, settings, grad_scale=grad_scale, backend="triton")
        reference = judge(theirs, level, settings, grad_scale=grad_scale, backend="torch")
        torch.testing.assert_close(fused.row, reference.row, rtol=1e-12, atol=1e-12, equal_nan=True)
        assert float(fused.damp) == float(fused.row[3])
        assert float(fused.skip) == float(reference.skip) == float(not math.isfinite(norm) or fused.row[4])
    torch.testing.assert_close(ours.values, theirs.values, rtol=1e-12, atol=1e-14)


def test_losses_are_scored_alike() -> None:
    ours, theirs = (Window.empty(20, "cpu") for _ in range(2))
    for loss in noisy(60):
        fused, reference = (
            score_value(window, scalar(-loss), warmup=4, relative_floor=1e-3, backend=backend)
            for window, backend in ((ours, "triton"), (theirs, "torch"))
        )
        torch.testing.assert_close(fused, reference, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize(("damp", "skip"), [(1.0, 0.0), (0.3, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("workspace", [None, Workspace()], ids=["shared", "own"])
def test_gradients_are_scaled_alike(damp: float, skip: float, workspace: Workspace | None) -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(shape, generator=generator) for shape in ((3, 5), (4099,), ())]
    for dtype in (torch.float32, torch.float16, torch.float64):
        ours, theirs = ([value.to(dtype) for value in drawn] for _ in range(2))
        ours, theirs = ([value.clone() for value in listed] for listed in (ours, theirs))
        scale_gradients(ours, scalar(damp), torch.tensor(skip), backend="triton", workspace=workspace)
        scale_gradients(theirs, scalar(damp), torch.tensor(skip), backend="torch")
        assert all(map(torch.equal, ours, theirs))


def test_only_torch_writes_gradients_where_there_is_nothing_to_do() -> None:
    gradient = torch.ones(40)
    version = gradient._version
    scale_gradients([gradient], scalar(1.0), torch.tensor(0.0), backend="torch")
    assert gradient._version > version
    # Kernels change no version; but reading and writing would quieten a signalling NaN.
    bits = torch.tensor([0x7F800001] * 40, dtype=torch.int32)
    scale_gradients([bits.view(torch.float32)], scalar(1.0), torch.tensor(0.0), backend="triton")
    assert bits.tolist() == [0x7F800001] * 40


def test_a_workspace_keeps_tables_and_writes_results_again() -> None:
    """Two results stay; those of callers without one stay for ever."""
    workspace = Workspace()
    with mock.patch("adaptive_lr_kernels.measurer.Engine", wraps=Engine) as made:
        kept = [
            measure([torch.full((3,), float(size))], statistics=("grad_max",), backend="triton", workspace=workspace)
            for size in range(4)
        ]
    assert made.call_count == 1
    assert [float(measured.overall["grad_max"]) for measured in kept] == [2.0, 3.0, 2.0, 3.0]
    alone = [measure([torch.full((3,), float(size))], statistics=("grad_max",), backend="triton") for size in range(4)]
    assert [float(measured.overall["grad_max"]) for measured in alone] == [0.0, 1.0, 2.0, 3.0]
    measure([torch.ones(3)], statistics=("grad_norm",), backend="triton", workspace=workspace)
    assert float(kept[3].overall["grad_max"]) == 3.0


RUNS: dict[str, tuple[Make, Callable[[], Any]]] = {
    "fused AdamW, two groups": (
        lambda p: torch.optim.AdamW([{"params": p[:1]}, {"params": p[1:], "lr": 0.02}], lr=0.05, fused=True),
        lambda: (GradientSpike(clip=20.0), LossVariance()),
    ),
    "fused SGD, guarded": (lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, fused=True), guarded),
    "SGD, damped": (lambda p: torch.optim.SGD(p, lr=0.02), lambda: GradientSpike(skip_above=1e9, clip=20.0)),
    "SGD, skipped": (lambda p: torch.optim.SGD(p, lr=0.02), GradientSpike),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_judged_by_the_kernels_is_that_of_the_host(name: str) -> None:
    """The same decisions, and the same weights within rounding."""
    make, laws = RUNS[name]
    spikes = {20: 30.0, 24: 3.5, 33: 1e3, 40: 1e30}
    if "damped" not in name:
        spikes[36] = math.nan
    late = Run(make, True, 2, laws, spikes)
    with (
        as_on_a_gpu(),
        mock.patch.object(scaling, "scale_measured", side_effect=scaling.scale_measured) as as_measured,
        mock.patch.object(scaling.GradientScaling, "scale") as listed_anew,
    ):
        for step in range(50):
            late.step(step)
        late.control.detach()
    assert not listed_anew.called
    # The host waits for the first step of fused SGD with momentum.
    assert as_measured.call_count == (49 if name == "fused SGD, guarded" else 50)
    host = Run(make, False, 2, laws, spikes)
    for step in range(50):
        host.step(step)
    host.control.detach()
    assert_alike(late.control, host.control)
    for ours, theirs in zip(late.parameters, host.parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def assert_alike(first: AdaptiveLR, second: AdaptiveLR) -> None:
    """The same decisions; norms differ by the order in which squares are added."""
    assert first.decisions.total == second.decisions.total > 0
    for one, other in zip(first.decisions, second.decisions, strict=True):
        assert (one.step, one.controller, one.action) == (other.step, other.controller, other.action)
        if math.isfinite(one.value):
            assert one.value == pytest.approx(other.value, rel=1e-4)
        assert one.factor_after == pytest.approx(other.factor_after, rel=1e-4)  # a rescue's follows from the norms
