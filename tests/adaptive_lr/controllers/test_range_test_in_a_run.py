"""The law `RangeTest` in a run: what becomes of weights, schedule, other laws and a checkpoint meanwhile."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import RangeTest
from laws import Script


class Task:
    """Classify noisy points with a perceptron that has batch normalisation."""

    def __init__(self, lr: float = 0.1, make: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(400, 32, 8, generator=generator)
        self.y = (self.x @ torch.randn(8, 3, generator=generator)).argmax(-1)
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
        groups = [
            {"params": self.model[0].parameters(), "lr": lr / 4},
            {"params": [*self.model[1].parameters(), *self.model[3].parameters()], "lr": lr},
        ]
        self.optimizer = make(groups)

    def attach(self, *laws: Any, **arguments: Any) -> AdaptiveLR:
        return AdaptiveLR(self.optimizer, laws or (RangeTest(total_steps=400),), model=self.model, **arguments)

    def train(self, control: AdaptiveLR, first: int, last: int) -> Iterator[int]:
        for step in range(first, last):
            loss = F.cross_entropy(self.model(self.x[step]), self.y[step])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            control.step(loss)
            yield step

    def run(self, control: AdaptiveLR, steps: int = 60) -> list[list[float]]:
        """Effective learning rates of every update."""
        return [control.get_last_lr() for _ in self.train(control, 0, steps)]


def sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9)


@pytest.mark.parametrize("make", [torch.optim.AdamW, sgd], ids=["AdamW", "SGD"])
def test_the_run_does_not_depend_on_the_learning_rate_given(make: Callable[..., torch.optim.Optimizer]) -> None:
    """Over eight decades, from hopelessly small to destructive: the same weights, to the last bit."""
    runs = []
    for lr in (1e-6, 1e-3, 1.0, 1e2):
        task = Task(lr, make)
        control = task.attach(schedule=lambda step: 1.0 - step / 60)
        used = task.run(control)
        assert control.factor != 1.0
        runs.append((used[2:], weights(task)))
    for used, final in runs[1:]:
        np.testing.assert_allclose(used, runs[0][0], rtol=1e-12)
        assert all(torch.equal(a, b) for a, b in zip(final, runs[0][1], strict=True))


@pytest.mark.parametrize("make", [torch.optim.AdamW, sgd], ids=["AdamW", "SGD"])
def test_nor_does_a_run_that_rehearses(make: Callable[..., torch.optim.Optimizer]) -> None:
    """Of 1,000 updates, the first 130 of which have the sweep, the rehearsals and the ramp."""
    finals = []
    for lr in (1e-6, 1e-3, 1.0, 1e2):
        task = Task(lr, make)
        control = task.attach(RangeTest(total_steps=1000))
        task.run(control, 130)
        acts = [decision.action for decision in control.decisions]
        assert acts[acts.index("peak") :][:4] == ["peak", "rehearse", "rehearsed", "rehearsed"]
        assert acts[acts.index("confirm") - 1 :][:3] == ["rehearsed", "confirm", "release"]
        finals.append(weights(task))
    for final in finals[1:]:
        assert all(torch.equal(a, b) for a, b in zip(final, finals[0], strict=True))


def test_after_the_last_rehearsal_everything_is_as_before_the_first_update() -> None:
    """Weights, buffers, and an optimizer without state."""
    task = Task()
    control = task.attach(RangeTest(total_steps=1000))
    before = weights(task)
    next(step for step in task.train(control, 0, 130) if control.decisions[-1].action == "confirm")
    for now, then in zip(weights(task), before, strict=True):
        assert torch.equal(now, then)
    assert not any(task.optimizer.state.values())


def test_ratios_between_groups_are_kept() -> None:
    """Trial, sweep and what follows: four to one throughout."""
    task = Task()
    for small, large in task.run(task.attach()):
        assert large == pytest.approx(4.0 * small, rel=1e-12)


def test_when_it_is_done_the_factor_stands_and_the_base_was_never_touched() -> None:
    task = Task()
    control = task.attach()
    for _ in task.train(control, 0, 60):
        assert [group["lr"] for group in task.optimizer.param_groups] == [0.025, 0.1]
    used = control.get_last_lr()
    assert used == pytest.approx([0.025 * control.factor, 0.1 * control.factor], rel=1e-12)


def test_the_schedule_runs_on_while_its_value_is_not_used() -> None:
    """After the sweep the learning rate is base of that step x factor."""
    task = Task()
    schedule = torch.optim.lr_scheduler.LinearLR(task.optimizer, 1.0, 0.0, total_iters=100)
    control = task.attach(schedule=schedule)
    used = task.run(control, 80)
    assert schedule.last_epoch == 80
    assert used[-1][1] == pytest.approx(0.1 * (1.0 - 79 / 100) * control.factor, rel=1e-9)


def test_other_laws_rest_while_it_sweeps() -> None:
    """A law that would halve the learning rate at its first row has not seen one; it has after the release."""
    alone, together = Task(), Task()
    used_alone = alone.run(alone.attach())
    control = together.attach(RangeTest(total_steps=400), Script((1.0, 0.5)))
    used = together.run(control)
    released = next(i for i, (a, b) in enumerate(zip(used_alone, used, strict=True)) if a != b)
    assert used[:released] == used_alone[:released]
    assert released > 10
    assert used[released][1] == pytest.approx(0.5 * used_alone[released][1], rel=1e-9)


def weights(task: Task) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in task.model.state_dict().values()]


def test_the_trial_leaves_no_trace_in_weights_buffers_and_optimizer_state() -> None:
    """After a first update at a learning rate of 1e6 everything is as before it."""
    task = Task(1e6)
    control = task.attach()
    before = weights(task)
    next(task.train(control, 0, 1))
    for now, then in zip(weights(task), before, strict=True):
        assert torch.equal(now, then)
    assert not any(task.optimizer.state.values())


def test_divergence_is_rewound_to_the_last_good_snapshot() -> None:
    """Batch-normalisation buffers included; the optimizer's state is finite again, and the run learns."""
    task = Task(make=sgd)
    control = task.attach(RangeTest(start=1e-2, to_divergence=True, usual_weight=0.0))
    step = next(step for step in task.train(control, 0, 300) if control.decisions[-1].action == "rewind")
    healthy = weights(task)
    assert all(tensor.isfinite().all() for tensor in healthy)
    assert healthy[2].abs().max() < 10.0
    with torch.no_grad():
        rewound = float(F.cross_entropy(task.model(task.x[0]), task.y[0]))
    assert rewound < 1.2
    assert all(s["momentum_buffer"].isfinite().all() for s in task.optimizer.state.values())
    for _ in task.train(control, step + 1, step + 50):
        pass
    assert control.decisions[-1].action == "release"


def test_the_snapshot_is_held_until_the_peak_is_set_and_no_longer() -> None:
    task = Task()
    control = task.attach()
    held = [control.state_dict()["layer"]["snapshot"] is not None]
    held += [control.state_dict()["layer"]["snapshot"] is not None for _ in task.train(control, 0, 60)]
    done = held.index(False)
    assert control.decisions[-1].step + 1 == done
    assert held == [True] * done + [False] * (61 - done)


def test_a_run_stopped_at_any_step_of_the_sweep_goes_on_bit_identically() -> None:
    """Saved with torch, loaded with its safe default, with trial, sweep and what follows in the range."""
    whole = Task()
    expected = whole.run(whole.attach(), 50)
    weights_expected = weights(whole)
    stopped = Task()
    control = stopped.attach()
    for step in stopped.train(control, 0, 49):
        saved = io.BytesIO()
        parts = (stopped.model, stopped.optimizer, control)
        torch.save([copy.deepcopy(part.state_dict()) for part in parts], saved)
        saved.seek(0)
        resumed = Task()
        again = resumed.attach()
        for part, state in zip((resumed.model, resumed.optimizer, again), torch.load(saved), strict=True):
            part.load_state_dict(state)
        remaining = [again.get_last_lr() for _ in resumed.train(again, step + 1, 50)]
        assert remaining == expected[step + 1 :]
        assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights_expected, strict=True))


@pytest.mark.parametrize("stop", [30, 31, 57, 90, 110])
def test_so_does_one_stopped_in_a_rehearsal(stop: int) -> None:
    """The losses so far are in the state."""
    whole = Task()
    expected = whole.run(whole.attach(RangeTest(total_steps=1000)), 130)
    stopped, resumed = Task(), Task()
    control = stopped.attach(RangeTest(total_steps=1000))
    stopped.run(control, stop)
    saved = io.BytesIO()
    torch.save([part.state_dict() for part in (stopped.model, stopped.optimizer, control)], saved)
    saved.seek(0)
    again = resumed.attach(RangeTest(total_steps=1000))
    for part, state in zip((resumed.model, resumed.optimizer, again), torch.load(saved), strict=True):
        part.load_state_dict(state)
    assert [again.get_last_lr() for _ in resumed.train(again, stop, 130)] == expected[stop:]
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(whole), strict=True))


def test_it_is_refused_where_it_cannot_work() -> None:
    """In shadow, twice, and on an optimizer that remembers its largest learning rate: one sentence each."""
    with pytest.raises(ValueError, match="shadow must be False with range_test"):
        Task().attach(shadow=True)
    with pytest.raises(ValueError, match="at most one that sweeps the learning rate, got"):
        Task().attach(RangeTest(), RangeTest())
    schedulefree = pytest.importorskip("schedulefree")
    optimizer = schedulefree.AdamWScheduleFree(nn.Linear(2, 2).parameters())
    optimizer.train()
    with pytest.raises(ValueError, match="must not include range_test for this optimizer: AdamWScheduleFree averages"):
        AdaptiveLR(optimizer, RangeTest())
