"""A controlled step with lag 2 never makes the host wait for the GPU: seen in four ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import Composition, Rescue, guarded
from gpu_waits import Transfers, host_seconds, synchronizations, waits_raise
from laws import Watch

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "fused AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    "fused SGD": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, fused=True),
    "tensor learning rate": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-3, device="cuda"), fused=True),
    "foreach AdamW": lambda p: torch.optim.AdamW(p, lr=1e-3, foreach=True),
    "foreach SGD": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, foreach=True),
}
SETTLED = 40
SLEEP, RETURNS_WITHIN = 0.2, 0.02  # seconds


def at_rest_soon() -> Composition:
    """`guarded()` whose Rescue watches few updates: while it watches, snapshots are taken."""
    laws = guarded()
    return dataclasses.replace(
        laws,
        controllers=tuple(dataclasses.replace(law, watch_steps=4) if isinstance(law, Rescue) else law for law in laws),
    )


class Run:
    """A training run whose steps can be taken one at a time."""

    def __init__(
        self, make: Callable[[Any], torch.optim.Optimizer], device: torch.device, *laws: Any, **options: Any
    ) -> None:
        torch.manual_seed(0)
        layers = [layer for _ in range(8) for layer in (nn.Linear(256, 256), nn.GELU())]
        self.model = nn.Sequential(*layers, nn.Linear(256, 1)).to(device)
        self.inputs = torch.randn(64, 256, device=device)
        self.optimizer = make(self.model.parameters())
        self.control = AdaptiveLR(self.optimizer, [*at_rest_soon(), *laws], lag=2, **options)
        self.loss: Tensor | None = None

    def backward(self) -> None:
        self.optimizer.zero_grad()
        self.loss = (self.model(self.inputs) - self.inputs.sum(1, keepdim=True)).square().mean()
        self.loss.backward()

    def update(self) -> None:
        """The controlled step: everything that control does in it."""
        assert self.loss is not None
        self.optimizer.step()
        self.control.step({"loss": self.loss, "accuracy": 0.5 * self.loss.detach(), "epoch": 0.25})

    def step(self, spike: float = 1.0) -> None:
        self.backward()
        if spike != 1.0:
            for parameter in self.model.parameters():
                assert parameter.grad is not None
                parameter.grad.mul_(spike)
        self.update()


@pytest.fixture(params=OPTIMIZERS)
def run(request: pytest.FixtureRequest, device: torch.device) -> Run:
    made = Run(OPTIMIZERS[request.param], device)
    for _ in range(SETTLED):
        made.step()
    torch.cuda.synchronize(device)
    return made


def test_torch_sees_no_wait(run: Run) -> None:
    with waits_raise():
        for _ in range(3):
            run.step()
            torch.cuda._sleep(1000)


def test_torch_sees_no_wait_where_updates_are_damped_and_skipped(run: Run, device: torch.device) -> None:
    """And neither where the laws then read of it, and back off."""
    for spike in (1.0, 1e4, float("nan"), 1e4, 1.0, 1.0, 1.0):
        with waits_raise():
            run.step(spike)
        torch.cuda.synchronize(device)  # so that the row that is due has arrived
    run.control.detach()
    assert {"skip", "back off"} <= {decision.action for decision in run.control.decisions}


def test_samples_of_the_weights_and_scores_of_the_loss_make_no_wait(device: torch.device) -> None:
    made = Run(OPTIMIZERS["fused AdamW"], device, Watch(("loss_score",)), update_ratios_every=1)
    for _ in range(SETTLED):
        made.step()
    torch.cuda.synchronize(device)
    with waits_raise():
        made.step()
    with Transfers() as transfers:
        made.step()
    assert transfers.waiting == []
    made.control.detach()
    found = made.control.update_ratios
    assert found is not None
    assert found.step == SETTLED + 1
    assert len(found.errors) == 9  # one matrix of 256 elements is read whole
    assert sorted(found.errors.values())[0] == 0.0
    assert all(0.0 < error < 0.5 * max(found.values.values()) for error in sorted(found.errors.values())[1:])


def test_nothing_is_synchronized_by_name(run: Run, device: torch.device) -> None:
    """Each row has arrived when it is due: the steps are a little apart, as in training."""
    with synchronizations() as found:
        event = torch.cuda.Event()
        event.record()
        event.synchronize()
        assert found == ["event"]  # the trace sees what it should
        found.clear()
        run.step()
        run.step()
    assert found == []


def test_every_copy_is_of_pinned_memory_and_no_value_is_read(run: Run) -> None:
    with Transfers() as transfers:
        run.update()
    assert transfers.waiting == []
    assert transfers.copies > 0  # the row on its way to the host
    with Transfers() as transfers:
        assert run.loss is not None
        run.loss.item()
        run.loss.cpu()
    assert len(transfers.waiting) == 2  # it sees what it should


def test_a_busy_gpu_does_not_hold_up_the_host(run: Run, device: torch.device) -> None:
    run.backward()
    torch.cuda.synchronize(device)
    returned, done = host_seconds(run.update, device, behind=SLEEP)
    assert done > SLEEP
    assert returned < RETURNS_WITHIN


def test_a_reading_of_the_loss_does_hold_it_up(run: Run, device: torch.device) -> None:
    """The test above can fail."""
    assert run.loss is not None
    returned, _ = host_seconds(run.loss.item, device, behind=SLEEP)
    assert returned > SLEEP
