"""Stopping at any step and going on from a checkpoint is the same as never having stopped."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LRScheduler, MultiStepLR, OneCycleLR

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import GradientSpike, LossVariance, Plateau
from laws import Reflex, Script

STEPS = 60
FOLLOWED = 3  # steps a resumed run is followed for
SPIKES = {25: 50.0, 31: 1e4, 33: 1e4, 34: 1e4, 35: float("nan"), 36: 1e4}


class Run:
    """A small noisy run with injected gradient spikes, that can be stopped and rebuilt anywhere."""

    def __init__(self, schedule: str, lag: int) -> None:
        self.parameter = torch.full((4,), 1.0, requires_grad=True)
        self.optimizer = torch.optim.AdamW([self.parameter], lr=0.02)
        owner: Any = {
            "none": lambda: None,
            "callable": lambda: lambda t: 1 / (1 + 0.1 * t),
            "cosine": lambda: CosineAnnealingLR(self.optimizer, STEPS),
            "one cycle": lambda: OneCycleLR(self.optimizer, 0.05, total_steps=STEPS + 1),
            "multi step": lambda: MultiStepLR(self.optimizer, [20, 40]),
            "cyclic": lambda: CyclicLR(self.optimizer, 0.001, 0.02, 7, cycle_momentum=False),
        }[schedule]()
        controllers = (
            GradientSpike(),
            LossVariance(),
            Plateau("val_loss", patience=1, factor=0.5),
            Script((1.0, 0.9, 0.8, 1.1), (1.0, 0.5)),
        )
        self.control = AdaptiveLR(self.optimizer, controllers, schedule=owner, lag=lag)
        self.owner = owner
        self.log: list[Any] = []

    def update(self, step: int) -> None:
        noise = torch.randn(4, generator=torch.Generator().manual_seed(step))
        self.parameter.grad = (self.parameter.detach() + 0.1 * noise) * SPIKES.get(step, 1.0)
        self.optimizer.step()

    def report(self, step: int) -> None:
        loss = float((self.parameter.detach() ** 2).sum()) + 0.01 * (step % 7)
        self.control.step(float("nan") if step == 12 else loss)
        if step % 5 == 4:
            self.control.observe(val_loss=1.0 + 0.001 * step)
        self.log.append((self.control.get_last_lr(), self.optimizer.param_groups[0]["betas"], self.control.factor))

    def save(self) -> bytes:
        buffer = io.BytesIO()
        torch.save(
            {
                "parameter": self.parameter.detach(),
                "optimizer": self.optimizer.state_dict(),
                "control": self.control.state_dict(),
            },
            buffer,
        )
        return buffer.getvalue()

    def load(self, saved: bytes) -> None:
        state = torch.load(io.BytesIO(saved))  # the default refuses anything but plain values and tensors
        with torch.no_grad():
            self.parameter.copy_(state["parameter"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.control.load_state_dict(state["control"])


@pytest.mark.parametrize("schedule", ["none", "callable", "cosine", "one cycle", "multi step", "cyclic"])
@pytest.mark.parametrize("lag", [0, 3])
# torch: the optimizer step of a half step that is resumed was before the checkpoint
@pytest.mark.filterwarnings("ignore:Detected call of")
def test_a_run_stopped_at_any_step_goes_on_bit_identically(schedule: str, lag: int) -> None:
    whole = Run(schedule, lag)
    saved: list[tuple[bytes, bytes]] = []  # before each step's update, and between its update and control.step
    for step in range(STEPS):
        before = whole.save()
        whole.update(step)
        saved.append((before, whole.save()))
        whole.report(step)
    saved.append((whole.save(), b""))
    states = [repr(torch.load(io.BytesIO(before))) for before, _ in saved]
    decisions = list(whole.control.decisions)
    assert {d.controller for d in decisions} >= {"gradient_spike", "plateau", "script"}
    for stop in range(STEPS):
        until = min(stop + FOLLOWED, STEPS)
        for between, state in enumerate(saved[stop]):
            resumed = Run(schedule, lag)
            resumed.load(state)
            for step in range(stop, until):
                if step > stop or not between:
                    resumed.update(step)
                resumed.report(step)
            assert resumed.log == whole.log[stop:until]
            # The whole state, decisions included, is the same again: so is all that follows from it.
            assert repr(torch.load(io.BytesIO(resumed.save()))) == states[until]


def test_the_keys_of_the_state_are_explicit() -> None:
    state = Run("cosine", 0).control.state_dict()
    assert set(state) == {"version", "layer", "rows", "meter", "deliberation", "schedule"}
    assert state["version"] == 9
    assert set(state["layer"]) == {"references", "snapshot", "aside", "last_lr"}
    assert set(state["rows"]) == {"updates", "calls", "latest"}
    assert set(state["meter"]) == {"norms", "group_norms", "losses"}
    assert set(state["deliberation"]) == {
        "controllers", "factors", "momenta", "levels", "in_force", "due", "requests", "should_stop", "rows",
        "decisions", "decisions_total",
    }  # fmt: skip


def attached(controllers: Any = (Script(),), schedule: Any = None) -> AdaptiveLR:
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    control = AdaptiveLR(optimizer, controllers, schedule=schedule)
    control._keep = optimizer  # type: ignore[attr-defined]
    return control


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "version": 99}, "version 99"),
        (lambda s: {k: v for k, v in s.items() if k != "meter"}, "keys"),
        (lambda s: attached((Reflex(),)).state_dict(), "controllers"),
        (lambda s: attached((Script(), Script())).state_dict(), "controllers"),
        (lambda s: attached(schedule=lambda t: 1.0).state_dict(), "schedule"),
        (
            lambda s: {**s, "deliberation": {**s["deliberation"], "controllers": [{"name": "script", "state": {}}]}},
            "rows",
        ),
        (lambda s: {**s, "layer": {}}, "layer"),
        (lambda s: {**s, "rows": {"updates": 0}}, "rows"),
        (lambda s: {**s, "meter": {"norms": []}}, "meter"),
        (lambda s: {**s, "deliberation": {}}, "deliberation"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_changed(change: Any, message: str) -> None:
    control = attached()
    before = control.state_dict()
    with pytest.raises(ValueError, match=message):
        control.load_state_dict(change(before))
    assert control.state_dict() == before


@pytest.mark.parametrize("other", [Plateau("b"), Plateau("a", mode="max")])
def test_a_state_of_a_law_that_judged_something_else_is_refused_and_nothing_is_changed(other: Plateau) -> None:
    control = attached(other)
    before = control.state_dict()
    with pytest.raises(ValueError, match=r"got that of plateau with (monitor=\"a\"|mode=\"min\") \(attached: "):
        control.load_state_dict(attached(Plateau("a")).state_dict())
    assert control.state_dict() == before


def test_a_changed_setting_is_named_when_a_state_is_loaded_and_the_run_goes_on_with_it() -> None:
    control = attached(Plateau("a", patience=7))
    state = attached(Plateau("a", patience=3)).state_dict()
    with pytest.warns(UserWarning, match=r"^plateau goes on with other settings .*: patience=3 \(attached: 7\)$"):
        control.load_state_dict(state)
    control.load_state_dict(control.state_dict())  # the same settings: no warning


def test_a_state_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(TypeError, match="mapping"):
        attached().load_state_dict([1, 2])  # type: ignore[arg-type]


def test_a_lambda_scheduler_given_as_schedule_is_saved_without_its_lambda() -> None:
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    scheduler: LRScheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t)
    control = AdaptiveLR(optimizer, (), schedule=scheduler)
    buffer = io.BytesIO()
    torch.save(control.state_dict(), buffer)
    buffer.seek(0)
    control.load_state_dict(torch.load(buffer))
