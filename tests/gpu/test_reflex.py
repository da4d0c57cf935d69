"""Damping and skipping on a GPU: judged there, acting in the same step, exact where the optimizer lets it be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import GradientSpike
from adaptive_lr.scores import NORM_LAW
from gpu_waits import waits_raise

STEPS = 40
REFLEX = {"damp", "skip"}
FUSED = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=1e-2, fused=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, fused=True),
}
UNFUSED = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, foreach=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, foreach=True),
}


@pytest.fixture(autouse=True)
def fused_adagrad(request: pytest.FixtureRequest, device: torch.device) -> None:
    """Skips what needs the fused Adagrad where torch has it for CPUs alone, as in 2.11."""
    if "Adagrad" not in request.node.name:
        return
    parameter = torch.zeros(1, device=device, requires_grad=True)
    parameter.grad = torch.ones_like(parameter)
    try:
        FUSED["Adagrad"]([parameter]).step()
    except RuntimeError as error:
        if "supported devices" not in str(error):
            raise
        pytest.skip(f"torch {torch.__version__} has no fused Adagrad for GPUs")


class Run:
    """Parameters that are given gradients of a chosen size, step by step."""

    def __init__(self, make: Any, device: torch.device, lag: int) -> None:
        generator = torch.Generator(device).manual_seed(0)
        self.parameters = [
            nn.Parameter(torch.randn(shape, device=device, generator=generator)) for shape in ((65, 31), (31,), (1000,))
        ]
        self.directions = [torch.randn(p.shape, device=device, generator=generator) for p in self.parameters]
        self.optimizer = make(self.parameters)
        self.control = AdaptiveLR(self.optimizer, GradientSpike(), lag=lag)
        self.count = 0

    def step(self, size: float = 1.0) -> None:
        wobble = 1.0 + 0.02 * (self.count % 5)
        for parameter, direction in zip(self.parameters, self.directions, strict=True):
            parameter.grad = direction * (size * wobble)
        self.optimizer.step()
        self.control.step(1.0)
        self.count += 1

    def settled(self) -> Run:
        """The window of norms knows what is normal."""
        for _ in range(STEPS):
            self.step()
        return self

    def held(self) -> list[Tensor]:
        """Everything that an update changes."""
        state = [v for p in self.parameters for v in self.optimizer.state[p].values() if isinstance(v, Tensor)]
        return copy.deepcopy([p.detach() for p in self.parameters] + state)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("size", [1e4, float("inf"), float("nan")])
def test_a_fused_optimizer_is_left_out_to_the_last_bit(device: torch.device, name: str, size: float) -> None:
    run = Run(FUSED[name], device, lag=2).settled()
    before = run.held()
    run.step(size)
    for one, other in zip(before, run.held(), strict=True):
        assert torch.equal(one, other)
    run.step()
    assert not torch.equal(before[0], run.parameters[0])


@pytest.mark.parametrize("bad", [True, False])
def test_buffers_go_back_by_the_flag_on_the_device(device: torch.device, bad: bool) -> None:
    """The host neither waits nor knows: statistics of batch normalisation stay where the update is left out."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    control = AdaptiveLR(optimizer, GradientSpike(), lag=2, model=model)
    inputs = torch.randn(64, 16, device=device)
    for step in range(STEPS):
        before = [buffer.clone() for buffer in model.buffers()]
        scale = 1e6 if bad and step == STEPS - 1 else 1.0
        optimizer.zero_grad()
        ((model(inputs * scale) - 1.0).square().mean() * scale).backward()
        with waits_raise():
            optimizer.step()
        control.step()
    same = [torch.equal(one, other) for one, other in zip(before, model.buffers(), strict=True)]
    assert all(same) if bad else not any(same)


@pytest.mark.parametrize("make", [*FUSED.values(), *UNFUSED.values()], ids=[*FUSED, *(f"{n} foreach" for n in UNFUSED)])
def test_damping_on_the_device_is_the_damping_of_the_host(device: torch.device, make: Any) -> None:
    """At six times the usual norm the score is between damping and skipping; lag 0 lets the host do it."""
    deferred, direct = (Run(make, device, lag).settled() for lag in (2, 0))
    for run in (deferred, direct):
        run.step(6.0)
    for one, other in zip(deferred.held(), direct.held(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    for run in (deferred, direct):
        for _ in range(4):  # the row is read with the lag
            run.step()
        assert [decision.action for decision in run.control.decisions] == ["damp"]


@pytest.mark.parametrize("name", FUSED)
def test_the_laws_decide_as_on_rows_read_at_once(device: torch.device, name: str) -> None:
    """Damped, skipped and healthy steps in any order: the same decisions, and the same weights within rounding.

    Without a lag the same kernels measure, and the host judges.
    """
    sizes = {25: 1e4, 26: float("nan"), 30: 6.0, 33: 1e3, 40: 30.0}
    deferred, direct = (Run(FUSED[name], device, lag) for lag in (2, 0))
    for run in (deferred, direct):
        for step in range(60):
            run.step(sizes.get(step, 1.0))
        run.control.detach()
    first, second = (
        [(d.step, d.action) for d in run.control.decisions if d.action in REFLEX] for run in (deferred, direct)
    )
    assert first == second
    assert {action for _, action in first} == REFLEX


def test_an_optimizer_that_is_not_fused_gets_zeros_and_forgets_one_step(device: torch.device) -> None:
    run = Run(UNFUSED["SGD"], device, lag=2).settled()
    parameters = [p.detach().clone() for p in run.parameters]
    buffers = [run.optimizer.state[p]["momentum_buffer"].clone() for p in run.parameters]
    run.step(float("nan"))
    for parameter, before, buffer in zip(run.parameters, parameters, buffers, strict=True):
        torch.testing.assert_close(parameter.detach(), before - 1e-2 * 0.9 * buffer, rtol=1e-6, atol=1e-7)


def test_the_fused_judgement_is_that_of_the_reference(device: torch.device) -> None:
    from adaptive_lr_kernels.fused_reflex import judge_fused
    from adaptive_lr_kernels.reflex import Past, ReflexSettings, judge

    settings = ReflexSettings(damp_above=4.0, skip_above=6.0, clip=3.0, norms=NORM_LAW)
    fused, reference = (Past.empty(device) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    norms = torch.randn(400, generator=generator).mul(0.5).exp().tolist()
    norms[60], norms[90], norms[120], norms[150] = 40.0, float("inf"), float("nan"), 0.0
    for norm in norms:
        value = torch.tensor(norm, dtype=torch.float64, device=device)
        ours, theirs = judge_fused(fused, value, settings), judge(reference, value, settings, backend="torch")
        torch.testing.assert_close(ours.row, theirs.row, rtol=1e-12, atol=1e-12, equal_nan=True)
        assert float(ours.skip) == float(theirs.skip)
    torch.testing.assert_close(fused.values, reference.values, rtol=1e-14, atol=0.0)


def test_scaling_multiplies_zeroes_or_writes_nothing(device: torch.device) -> None:
    from adaptive_lr_kernels.scaling import GradientScaling

    scaling = GradientScaling()
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    for damp, skip in ((1.0, 0.0), (0.37, 0.0), (1.0, 1.0)):
        gradients = [torch.randn(1001, device=device).to(dtype) for dtype in dtypes]
        if skip:
            gradients[0][5] = float("nan")
        before = [gradient.clone() for gradient in gradients]
        versions = (torch.tensor(damp, dtype=torch.float64), torch.tensor(skip))
        scaling.scale(gradients, *(version.to(device) for version in versions))
        for gradient, old in zip(gradients, before, strict=True):
            expected = torch.zeros_like(old) if skip else (old.float() * damp).to(old.dtype)
            assert torch.equal(gradient, expected)


def test_a_captured_reflex_follows_new_gradients(device: torch.device) -> None:
    """Measure, judge and scale in one CUDA graph: the past is kept across replays."""
    from adaptive_lr_kernels.fused_reflex import judge_fused
    from adaptive_lr_kernels.measurer import Measurer
    from adaptive_lr_kernels.reflex import Past, ReflexSettings
    from adaptive_lr_kernels.scaling import GradientScaling

    settings = ReflexSettings(damp_above=4.0, skip_above=6.0, clip=None, norms=NORM_LAW)
    past = Past.empty(device)
    gradients = [torch.randn(1001, device=device), torch.randn(65, 33, device=device)]
    measurer, scaling = Measurer(("grad_norm",)), GradientScaling()

    def reflex() -> None:
        judgement = judge_fused(past, measurer.measure(gradients).overall["grad_norm"], settings)
        scaling.scale(gradients, judgement.damp, judgement.skip)

    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        reflex()
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        reflex()
    for step in range(30):
        spike = step == 25
        fresh = [torch.randn_like(gradient) * (1e3 if spike else 1.0) for gradient in gradients]
        for gradient, values in zip(gradients, fresh, strict=True):
            gradient.copy_(values)
        graph.replay()
        torch.cuda.synchronize(device)
        for gradient, values in zip(gradients, fresh, strict=True):
            assert torch.equal(gradient, torch.zeros_like(values) if spike else values)
