"""The law `RangeTest`: how it sweeps, where it stops, what peak it sets, and what becomes of the run meanwhile."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import Adjustment, RangeTest
from adaptive_lr.controllers.range_test import START_SHARE
from adaptive_lr.statistics import Phase, Statistics
from laws import Script

START = Statistics(0, Phase.START)


def rows(losses: Any, ratios: Any = 1e-4) -> list[Statistics]:
    """The START row and one AFTER row for each loss."""
    ratios = np.broadcast_to(ratios, np.shape(losses)).tolist()
    values = zip(np.asarray(losses, dtype=float).tolist(), ratios, strict=True)
    return [
        START,
        *(
            Statistics(step, Phase.AFTER, {"loss": loss, "update_ratio": ratio})
            for step, (loss, ratio) in enumerate(values)
        ),
    ]


def levels(adjustments: list[Adjustment]) -> list[float]:
    return [adjustment.level for adjustment in adjustments if adjustment.level is not None]


def actions(adjustments: list[Adjustment]) -> list[str]:
    return [reason.action for adjustment in adjustments for reason in adjustment.reasons]


def peak(adjustments: list[Adjustment]) -> float:
    """The factor at the end; the law has let go."""
    assert adjustments[-1].level is None
    return adjustments[-1].factor


# ---------------------------------------------------------------- the law on rows


def test_the_sweep_is_geometric() -> None:
    """From `start`, `steps_per_decade` levels a decade, whatever the loss does, up to and including `end`."""
    law = RangeTest(start=1e-3, end=1.0, steps_per_decade=8, to_divergence=True)
    swept = levels(law.simulate(rows(np.full(30, 2.0))))[:25]
    np.testing.assert_allclose(swept, 1e-3 * 10 ** (np.arange(25) / 8), rtol=1e-12)


def test_two_trials_are_taken_back_and_the_sweep_starts_where_updates_are_small() -> None:
    """At a hundredth of the bar of 0.12: the first trial says about where, the second exactly where."""
    first, trial, again, second = RangeTest().simulate(rows([2.0, 2.0, 2.0], [0.05, 0.0015, 1e-3]))
    assert (first.level, first.snapshot) == (1.0, True)
    near = nearest_rung(1.2e-3 / 0.05)
    assert trial.level == pytest.approx(near)
    assert again.level == pytest.approx(nearest_rung(near * 1.2e-3 / 0.0015))
    assert all((a.rewind, a.reasons[0].action) == (True, "trial") for a in (trial, again))
    assert second.level == pytest.approx(again.level * 10 ** (1 / 12))


def nearest_rung(level: float) -> float:
    return float(10.0 ** (round(12 * math.log10(level)) / 12))


@given(
    lr=st.floats(1e-9, 1e6),
    ratio_of_lr=st.floats(1e-3, 1e3),
    rounding=st.floats(0.5, 2.0),
    steps_per_decade=st.sampled_from([4.0, 8.0, 12.0]),
)
def test_every_learning_rate_given_leads_to_the_same_ladder(
    lr: float, ratio_of_lr: float, rounding: float, steps_per_decade: float
) -> None:
    """The first trial may be off by a factor of two; the second puts the start on the rung nearest to the target."""
    law = RangeTest(steps_per_decade=steps_per_decade)
    state, _ = law.update(law.init(), Statistics(0, Phase.START, {"reference_lr": lr}))
    state, tried = law.update(
        state, Statistics(0, Phase.AFTER, {"loss": 2.0, "update_ratio": ratio_of_lr * lr * rounding})
    )
    assert tried.level is not None
    exact = ratio_of_lr * lr * tried.level
    state, started = law.update(state, Statistics(1, Phase.AFTER, {"loss": 2.0, "update_ratio": exact}))
    assert started.level is not None
    rungs = steps_per_decade * math.log10(started.level * lr)
    assert rungs == pytest.approx(round(rungs), abs=1e-6)
    ideal = steps_per_decade * math.log10(law.bar * START_SHARE / ratio_of_lr)
    assert abs(rungs - ideal) <= 0.5 + 1e-6


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_trial_that_is_not_finite_goes_down_not_up(bad: float) -> None:
    """By a factor of 1,000 each time, until an update tells something; each is taken back."""
    first, *after = RangeTest().simulate(rows([bad, bad, 2.0], [bad, bad, 0.12]))
    assert first.level == 1.0
    np.testing.assert_allclose(levels(after), [1e-3, 1e-6, 1e-8], rtol=1e-12)
    assert all(adjustment.rewind for adjustment in after)


def test_a_trial_that_changes_nothing_goes_up() -> None:
    """A learning rate so small that its update drowns in the rounding of the weights."""
    first, *after = RangeTest().simulate(rows([2.0, 2.0, 2.0], [0.0, 0.0, 0.12]))
    assert first.level == 1.0
    np.testing.assert_allclose(levels(after), [1e3, 1e6, 1e4], rtol=1e-12)


@pytest.mark.parametrize("ratio", [math.nan, 0.0])
def test_trials_that_never_tell_anything_end(ratio: float) -> None:
    """A dead model does not hold the run up for ever."""
    adjustments = RangeTest(total_steps=500).simulate(rows(np.full(80, 2.0), ratio))
    assert adjustments[-1].level is None
    assert adjustments[-1].factor > 0.0


def test_the_peak_is_where_the_ratio_meets_its_bar() -> None:
    """Ratio proportional to the level, nothing known of the optimizer: the very level of ratio 0.12."""
    law = RangeTest(start=1e-3)
    swept = 1e-3 * 10 ** (np.arange(40) / 12)
    adjustments = law.simulate(rows(np.linspace(2.0, 1.0, 40), 0.5 * swept))
    assert peak(adjustments) == pytest.approx(0.24, rel=1e-6)


def test_longer_runs_get_a_lower_peak() -> None:
    """By the square root of their length beyond 300 updates."""
    swept = 1e-3 * 10 ** (np.arange(60) / 12)
    given_rows = rows(np.linspace(2.0, 1.0, 60), 0.5 * swept)
    short, long = (peak(RangeTest(start=1e-3, total_steps=n, max_share=1.0).simulate(given_rows)) for n in (300, 900))
    assert long == pytest.approx(short / 3**0.5, rel=1e-6)


def test_what_is_usual_for_the_optimizer_enters_by_its_weight() -> None:
    """Measured 0.24 x the reference, usual 0.75 decades above: a half of the weight given in logarithms."""
    swept = 1e-3 * 10 ** (np.arange(40) / 12)
    given_rows = rows(np.linspace(2.0, 1.0, 40), 0.5 * swept)
    given_rows[0] = Statistics(0, Phase.START, {"usual_lr": 0.24 * 10**0.75 * 0.01, "reference_lr": 0.01})
    for weight in (0.0, 0.5, 1.0):
        law = RangeTest(start=1e-3, usual_weight=weight)
        assert peak(law.simulate(given_rows)) == pytest.approx(0.24 * 10 ** (0.375 * weight), rel=1e-6)


def rehearsed(losses: tuple[float, float, float], total_steps: int = 1200) -> list[Adjustment]:
    """A sweep up to the bar, then rehearsals that stand at these losses throughout, then the ramp."""
    law = RangeTest(start=1e-3, total_steps=total_steps)
    state, first = law.update(law.init(), START)
    adjustments = [first]
    for step in range(total_steps // 5):
        number = len(state.rehearsals.losses)
        loss = losses[number] if state.stage == "rehearse" else 2.0 - 0.01 * step
        values = {"loss": loss, "update_ratio": 0.5 * (first.level or 0.0) * 10 ** (step / 12)}
        state, adjustment = law.update(state, Statistics(step, Phase.AFTER, values))
        adjustments.append(adjustment)
    return adjustments


def test_long_runs_rehearse_and_move_the_peak_to_the_lowest_loss() -> None:
    """Half a decade down or up, or to the vertex between; the measured peak is 0.06 / 0.5 of the reference."""
    assert actions(rehearsed((1.0, 1.0, 1.0))) == [
        "sweep", "peak", "rehearse", *["rehearsed"] * 3, "confirm", "release"
    ]  # fmt: skip
    assert peak(rehearsed((1.0, 1.0, 1.0))) == pytest.approx(0.12, rel=1e-6)
    assert peak(rehearsed((1.0, 2.0, 3.0))) == pytest.approx(0.12 * 10**-0.5, rel=1e-6)
    assert peak(rehearsed((3.0, 2.0, math.inf))) == pytest.approx(0.12 * 10**-0.25, rel=1e-6)
    assert peak(rehearsed((3.0, 2.0, 1.5))) == pytest.approx(0.12 * 10**0.5, rel=1e-6)


@pytest.mark.parametrize("total_steps", [1000, 1200, 4000])
def test_rehearsals_and_sweep_together_stay_within_their_share(total_steps: int) -> None:
    """A tenth of the run; then from a tenth of the peak up to it."""
    adjustments = rehearsed((3.0, 2.0, 3.0), total_steps)
    confirmed = next(i for i, adjustment in enumerate(adjustments) if "confirm" in actions([adjustment]))
    assert confirmed <= total_steps // 10
    assert adjustments[confirmed].level == pytest.approx(0.1 * peak(adjustments))
    assert adjustments[confirmed].rewind


def test_each_rehearsal_is_taken_back_and_the_first_weights_are_never_replaced() -> None:
    """One rewind before each, one after the last, and no snapshot but the first."""
    adjustments = rehearsed((3.0, 2.0, 3.0))
    assert sum(adjustment.rewind for adjustment in adjustments) == 4
    assert [adjustment.snapshot for adjustment in adjustments] == [True] + [False] * (len(adjustments) - 1)


def test_short_runs_and_classic_curves_do_not_rehearse() -> None:
    assert "rehearse" not in actions(rehearsed((3.0, 2.0, 3.0), 999))
    assert not RangeTest(total_steps=5000, to_divergence=True).may_rehearse
    assert not RangeTest().may_rehearse


def test_without_losses_nothing_is_rehearsed() -> None:
    law = RangeTest(start=1e-3, total_steps=1200)
    ratios = [5e-4 * 10 ** (step / 12) for step in range(60)]
    rows_without = [START, *(Statistics(i, Phase.AFTER, {"update_ratio": ratio}) for i, ratio in enumerate(ratios))]
    assert actions(law.simulate(rows_without)) == ["sweep", "peak"]


FLAT = (2.3034, 2.3026, 2.3045, 2.3028, 2.3006, 2.3055, 2.3046, 2.3143, 2.2963, 2.3155, 2.3199, 2.3099, 2.3057, 2.3425)
"""Losses of the first updates of a network of seven plain layers: nothing happens, and the last is high by chance."""


def test_chance_is_not_taken_for_divergence_while_nothing_is_changed() -> None:
    """A flat loss somewhat above its start: the sweep goes on. Far above it, or with real updates: it ends."""
    assert actions(RangeTest(start=1e-3).simulate(rows(FLAT, 0.02))) == ["sweep"]
    assert "peak" in actions(RangeTest(start=1e-3).simulate(rows(FLAT, 0.1)))
    risen = [*FLAT, *np.linspace(2.4, 4.0, 5)]
    assert "peak" in actions(RangeTest(start=1e-3).simulate(rows(risen, 0.02)))


def test_a_peak_above_the_last_level_is_reached_at_the_pace_of_the_sweep() -> None:
    """A tenth of 200 updates end at a ratio of 0.03, a quarter of the bar: 12 levels a decade up to four times that."""
    swept = 1e-3 * 10 ** (np.arange(40) / 12)
    law = RangeTest(start=1e-3, total_steps=200)
    adjustments = law.simulate(rows(np.linspace(2.0, 1.0, 40), 0.03 * swept / swept[19]))
    assert actions(adjustments) == ["sweep", "peak", "release"]
    final = peak(adjustments)
    assert final == pytest.approx(4.0 * swept[19], rel=1e-6)
    held = levels(adjustments)
    np.testing.assert_allclose(np.diff(np.log10(held)), 1 / 12, rtol=1e-9)
    assert held[-1] < final <= held[-1] * 10 ** (1 / 12) * (1 + 1e-9)


def falling_then_rising(offset: float, scale: float = 1.0) -> np.ndarray:
    """Flat, a fall by 1, divergence; with a little noise."""
    curve = np.concatenate([np.full(20, 2.0), np.linspace(2.0, 1.0, 20), np.linspace(1.0, 30.0, 20)])
    return scale * (curve + np.random.default_rng(0).normal(0.0, 0.02, 60)) + offset


@pytest.mark.parametrize(("offset", "scale"), [(-5.0, 1.0), (-20.0, 1.0), (0.0, 1e-3), (0.0, 1e3), (0.0, 1.0)])
def test_divergence_is_seen_whatever_the_sign_and_scale_of_the_loss(offset: float, scale: float) -> None:
    """In the rise, not before; the peak lies below where it was seen, and the run goes back."""
    law = RangeTest(start=1e-3)
    adjustments = law.simulate(rows(falling_then_rising(offset * scale, scale)))
    at = next(step for step, adjustment in enumerate(adjustments) if "peak" in actions([adjustment]))
    assert 40 < at <= 50
    assert adjustments[at].rewind
    assert "the loss diverges" in adjustments[at].reasons[0].text


@pytest.mark.parametrize("level", [2.3, -2.3, 0.0])
def test_a_flat_noisy_loss_does_not_diverge(level: float) -> None:
    """In at least 98 of 100 sweeps of 96 updates with a noise of 0.3, of any sign."""
    law = RangeTest(start=1e-6, end=100.0, to_divergence=True)
    ended_early = 0
    for seed in range(100):
        losses = np.random.default_rng(seed).normal(level, 0.3, 96)
        ended_early += any("diverges" in r.text for a in law.simulate(rows(losses)) for r in a.reasons)
    assert ended_early <= 2


def test_a_loss_that_becomes_nan_ends_the_sweep_at_once_and_the_ramp_is_geometric() -> None:
    """Back to the snapshot, then from a tenth of the peak up to it at the pace of the sweep; then the factor stands."""
    adjustments = RangeTest(start=1e-3).simulate(rows([*np.linspace(2.0, 1.5, 20), math.nan, *np.full(15, 1.5)]))
    assert actions(adjustments) == ["sweep", "peak", "rewind", "release"]
    assert adjustments[21].rewind
    final = peak(adjustments)
    np.testing.assert_allclose(levels(adjustments)[21:], final * 10 ** (np.arange(12) / 12 - 1), rtol=1e-9)
    assert {adjustment.factor for adjustment in adjustments[33:]} == {final}
    assert 0.0 < final < 1e-3 * 10 ** (21 / 12)


def test_the_sweep_ends_when_its_share_of_the_run_is_spent() -> None:
    """A tenth of 200 updates, trials included; what was spent is on record."""
    adjustments = RangeTest(total_steps=200).simulate(rows(np.linspace(2.0, 1.9, 40)))
    reason = adjustments[20].reasons[0]
    assert (reason.action, actions(adjustments[:20])) == ("peak", ["sweep", "trial", "trial"])
    assert "20 updates are spent" in reason.text


def test_a_row_without_an_update_does_not_advance_it() -> None:
    """An overflow under GradScaler, and an evaluation: the same level stands, the state does not change."""
    law = RangeTest(start=1e-3)
    state, _ = law.update(law.init(), START)
    for row in rows(np.full(5, 2.0))[1:]:
        state, adjustment = law.update(state, row)
        for other in (
            Statistics(row.step, Phase.AFTER, {"loss": 2.0}, updated=False),
            Statistics(row.step, Phase.OBSERVATION, {"loss": math.nan}),
        ):
            assert law.update(state, other) == (state, Adjustment(level=adjustment.level))


def test_a_loss_that_is_not_finite_ends_the_sweep_even_where_no_update_follows_it() -> None:
    """Under GradScaler every such step is an overflow: waiting for an update would wait for ever."""
    law = RangeTest(start=1e-3)
    state, _ = law.update(law.init(), START)
    for row in rows(np.full(8, 2.0))[1:]:
        state, _ = law.update(state, row)
    _, adjustment = law.update(state, Statistics(9, Phase.AFTER, {"loss": math.nan}, updated=False))
    assert adjustment.rewind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "total_steps must be at least 1 or None, got 0"),
        ({"ratio": 0.0}, "ratio must be finite and > 0, got 0.0"),
        ({"steps_per_decade": math.inf}, "steps_per_decade must be finite and > 0, got inf"),
        ({"max_share": 1.5}, r"max_share must be in \(0, 1\], got 1.5"),
        ({"usual_weight": -0.1}, r"usual_weight must be in \[0, 1\], got -0.1"),
        ({"start": -1.0}, "start must be finite and > 0 or None, got -1.0"),
        ({"end": math.nan}, "end must be finite and > 0 or None, got nan"),
        ({"start": 1.0, "end": 1.0}, "end must be above start, got start=1.0, end=1.0"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RangeTest(**arguments)


# ---------------------------------------------------------------- the law in a run


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
