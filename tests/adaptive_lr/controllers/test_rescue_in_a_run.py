"""`Rescue` in a run: what a rewind puts back, what is set aside, and where a run that is stopped goes on."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import Composition, Rescue
from laws import Detour


class Network:
    """A small classification problem that a large learning rate destroys for good."""

    def __init__(self, lr: float, controllers: Any, **arguments: Any) -> None:
        torch.manual_seed(0)
        self.inputs = torch.randn(256, 16)
        self.labels = (self.inputs @ torch.randn(16, 4)).argmax(1)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(16, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 4)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
        self.control = AdaptiveLR(self.optimizer, controllers, model=self.model, **arguments)

    def step(self, step: int) -> float:
        batch = torch.randint(0, 256, (32,), generator=torch.Generator().manual_seed(step))
        loss = torch.nn.functional.cross_entropy(self.model(self.inputs[batch]), self.labels[batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.control.step(loss)
        return loss.item()


def test_a_rewind_puts_back_parameters_buffers_and_optimizer_state() -> None:
    network = Network(1e4, Rescue())
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    network.step(0)
    assert network.control.decisions[-1].action == "rescue"
    after = network.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not network.optimizer.state  # as before the first update
    assert network.optimizer.param_groups[0]["lr"] == 1e4  # the base is its owner's


@pytest.mark.parametrize("lr", [1.0, 30.0, 1e3, 1e6])
def test_a_network_that_a_fixed_rate_destroys_is_rescued(lr: float) -> None:
    losses = [Network(lr, ()), Network(lr, Rescue())]
    fixed, rescued = (np.mean([n.step(t) for t in range(150)][-20:]) for n in losses)
    assert rescued < 0.7
    assert lr == 1.0 or not fixed < 1.0


def test_in_shadow_nothing_is_rewound() -> None:
    shadow, plain = Network(10.0, Rescue(), shadow=True), Network(10.0, ())
    for step in range(20):
        assert repr(shadow.step(step)) == repr(plain.step(step))
    assert shadow.control.decisions.total > 0


@pytest.mark.parametrize("lag", [1, 2])
def test_with_a_lag_the_rewind_comes_lag_updates_later(lag: int) -> None:
    network = Network(1e4, Rescue(), lag=lag)
    before = network.model.state_dict()["0.weight"].clone()
    for step in range(lag):
        network.step(step)
        assert not torch.equal(network.model.state_dict()["0.weight"], before)
    network.step(lag)
    assert torch.equal(network.model.state_dict()["0.weight"], before)


def test_the_snapshot_is_dropped_when_nothing_watches_any_more() -> None:
    network = Network(0.05, Composition((Rescue(watch_steps=20),)))
    assert network.control._layer.snapshot is not None
    for step in range(40):
        network.step(step)
    assert network.control._layer.snapshot is None


def test_a_run_stopped_while_watching_goes_on_bit_identically() -> None:
    whole = Network(30.0, Rescue())
    saved: list[Any] = []
    for step in range(40):
        state = {"model": whole.model.state_dict(), "optimizer": whole.optimizer.state_dict()}
        saved.append(torch.utils._pytree.tree_map(
            lambda v: v.clone() if isinstance(v, torch.Tensor) else v, {**state, "control": whole.control.state_dict()}
        ))  # fmt: skip
        whole.step(step)
    for stop in (0, 1, 3, 12, 25):
        resumed = Network(30.0, Rescue())
        resumed.model.load_state_dict(saved[stop]["model"])
        resumed.optimizer.load_state_dict(saved[stop]["optimizer"])
        resumed.control.load_state_dict(saved[stop]["control"])
        for step in range(stop, 40):
            resumed.step(step)
        assert all(
            torch.equal(a, b)
            for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
        )
        assert repr(resumed.control.decisions) == repr(whole.control.decisions)


def test_a_run_goes_to_what_was_set_aside_and_on_as_if_it_had_never_left() -> None:
    """Parameters, buffers and momentum; also where it is stopped and loaded while it is away."""
    straight, detour = Network(0.05, ()), Network(0.05, Detour(leave=5, back=9))
    for step in range(6):
        straight.step(step)
    for step in range(8):
        detour.step(step)
    loaded = Network(0.05, Detour(leave=5, back=9))
    loaded.model.load_state_dict(detour.model.state_dict())
    loaded.optimizer.load_state_dict(copy.deepcopy(detour.optimizer.state_dict()))
    loaded.control.load_state_dict(copy.deepcopy(detour.control.state_dict()))
    for network in (detour, loaded):
        assert network.control._layer.aside is not None
        for step in range(8, 10):
            network.step(step)
        assert network.control._layer.aside is None
        for name, value in straight.model.state_dict().items():
            assert torch.equal(network.model.state_dict()[name], value), name
        for ours, own in zip(network.model.parameters(), straight.model.parameters(), strict=True):
            momenta = (n.optimizer.state[p]["momentum_buffer"] for n, p in ((network, ours), (straight, own)))
            assert torch.equal(*momenta)


@pytest.mark.parametrize("lag", [0, 2])
def test_data_that_change_again_and_again_leave_the_learning_rate_as_it_was(lag: int) -> None:
    """Labels are permuted at three times: no learning rate keeps the loss from rising, and a cut would only delay."""
    network = Network(0.1, Rescue(watch_steps=40), lag=lag)
    for step in range(600):
        if step in (150, 300, 450):
            network.labels = (network.labels + 1) % 4
        network.step(step)
    actions = [decision.action for decision in network.control.decisions]
    assert actions.count("suspect") == actions.count("clear") == 2
    assert network.control.get_last_lr() == [0.1]
    assert network.control._layer.snapshot is None
