"""Rows that are read late give the training that rows read at once give with the same lag."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from adaptive_lr.controllers import Controller, GradientSpike, LossVariance, Plateau, RangeTest, Rescue, guarded
from adaptive_lr.meter import Meter
from adaptive_lr.statistics import LOSS_STATISTICS, Phase
from deferral import Make, Run, assert_same, assert_same_decisions
from laws import Hold, Script, Watch

pytestmark = pytest.mark.filterwarnings("ignore:the momentum is not changed")
LAGS = (0, 1, 2, 5)
FINITE = {20: 30.0, 24: 8.0, 33: 1e3, 34: 1e3, 35: 1e3, 36: 1e2, 50: 1e-3, 51: 0.0}
BROKEN = {**FINITE, 3: math.nan, 22: math.inf, 40: math.nan, 41: math.nan, 55: 1e30}


def damping() -> tuple[Controller[Any], ...]:
    """Laws that damp and never skip, and laws that lower the learning rate and the momentum."""
    return (
        GradientSpike(skip_above=1e9, clip=1.0),
        LossVariance(),
        Plateau("val_loss", patience=0, factor=0.7),
        Script((1.0, 0.95, 0.9, 1.05), (1.0, 0.8)),
    )


def skipping() -> tuple[Controller[Any], ...]:
    """Laws that skip and never damp."""
    return GradientSpike(damp_above=6.0, skip_above=6.0), LossVariance(), Script((1.0, 0.9, 0.8))


UNFUSED: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.005, momentum=0.9, weight_decay=0.01),
    "AdamW": lambda p: torch.optim.AdamW([{"params": p[:1]}, {"params": p[1:], "lr": 0.02}], lr=0.05),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
    "Adadelta": lambda p: torch.optim.Adadelta(p, lr=0.5),
}
FUSED: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.05, fused=True),
    "AdamW": lambda p: torch.optim.AdamW([{"params": p[:1]}, {"params": p[1:], "lr": 0.02}], lr=0.05, fused=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1, fused=True),
}


def pair(make: Make, lag: int | None, controllers: Any, **arguments: Any) -> tuple[Run, Run]:
    late, at_once = (Run(make, late, lag, controllers, **arguments) for late in (True, False))
    assert late.control._rows._device is not None
    assert at_once.control._rows._device is None
    return late, at_once


def compare(late: Run, at_once: Run, steps: range) -> None:
    for step in steps:
        assert_same(late.step(step), at_once.step(step))
        if step % 10 == 9:
            for run in (late, at_once):
                run.control.observe(val_loss=1.0 + 0.01 * step)
            assert_same(late.seen(), at_once.seen())


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("name", UNFUSED)
def test_damped_training_is_bit_identical(name: str, lag: int) -> None:
    losses = {12: math.nan, 30: 50.0}
    late, at_once = pair(UNFUSED[name], lag, damping, spikes=FINITE, losses=losses)
    compare(late, at_once, range(70))
    late.control.detach()
    assert_same_decisions(late.control, at_once.control)
    actions = {decision.action for decision in at_once.control.decisions}
    assert {"damp", "clip", "back off", "cut"} <= actions


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("name", FUSED)
def test_skipped_training_with_a_fused_optimizer_is_bit_identical(name: str, lag: int) -> None:
    late, at_once = pair(FUSED[name], lag, skipping, spikes=BROKEN)
    compare(late, at_once, range(70))
    late.control.detach()
    assert_same_decisions(late.control, at_once.control)
    assert sum(decision.action == "skip" for decision in at_once.control.decisions) >= 6


@pytest.mark.parametrize("lag", LAGS)
def test_skipped_training_with_plain_sgd_is_bit_identical(lag: int) -> None:
    """Where gradients of zero change nothing, the approximation of a skip is none."""
    late, at_once = pair(UNFUSED["SGD"], lag, lambda: GradientSpike(), spikes=BROKEN)
    compare(late, at_once, range(70))
    late.control.detach()
    assert_same_decisions(late.control, at_once.control)


@pytest.mark.parametrize("lag", [0, 2])
def test_a_far_too_large_peak_is_rewound_at_the_same_update(lag: int) -> None:
    late, at_once = pair(
        lambda p: torch.optim.SGD(p, lr=30.0), lag, lambda: (*guarded(), Plateau("val_loss", patience=0))
    )
    compare(late, at_once, range(60))
    late.control.detach()
    assert_same_decisions(late.control, at_once.control)
    assert any(decision.action == "rescue" for decision in at_once.control.decisions)


@pytest.mark.parametrize("lag", [1, 3])
def test_a_sweep_reads_at_once_and_goes_over_to_the_lag_when_it_lets_go(lag: int) -> None:
    def laws() -> Any:
        return RangeTest(total_steps=200), *guarded()

    late, at_once = pair(FUSED["AdamW"], lag, laws, spikes={45: 1e4, 60: math.nan})
    no_lag = Run(FUSED["AdamW"], False, 0, laws)
    stalls = []
    for step in range(70):
        assert_same(late.step(step), at_once.step(step))
        if step < 15:  # the sweep itself knows no lag
            assert_same(at_once.seen(), no_lag.step(step))
        stalls.append(late.control.stalls)
    late.control.detach()
    assert_same_decisions(late.control, at_once.control)
    actions = {decision.action: decision.step for decision in at_once.control.decisions}
    assert 10 <= actions["peak"] <= 25
    released = actions.get("release", actions["peak"])
    assert stalls == [min(step, released) + 1 for step in range(70)]


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("kinds", [(True, True), (True, False), (False, True)])
def test_a_run_stopped_anywhere_goes_on_bit_identically_wherever_it_is_read(lag: int, kinds: tuple[bool, bool]) -> None:
    """A checkpoint between any two calls, saved by either kind of run and loaded by either."""
    arguments: dict[str, Any] = {"spikes": BROKEN, "losses": {12: math.nan}}
    whole = Run(FUSED["Adam"], False, lag, skipping, **arguments)
    saving = Run(FUSED["Adam"], kinds[0], lag, skipping, **arguments)
    saved: dict[int, tuple[bytes, bytes, torch.Tensor]] = {}
    seen = []
    for step in range(60):
        loss = saving.update(step)
        if step % 7 == 0:
            half = saving.save()
        saving.control.step(loss)
        if step % 7 == 0:
            saved[step] = half, saving.save(), loss.detach()
        seen.append(whole.step(step))
        assert_same(saving.seen(), seen[-1])  # saving has changed nothing
    for step, (half, full, loss) in saved.items():
        for state in (half, full):
            resumed = Run(FUSED["Adam"], kinds[1], lag, skipping, **arguments)
            resumed.load(state)
            if state is half:
                resumed.control.step(loss)
            for following in range(step + 1, min(step + 8, 60)):
                assert_same(resumed.step(following), seen[following])


@pytest.mark.parametrize("lag", LAGS[1:])
def test_missing_calls_and_failing_steps_change_nothing(lag: int) -> None:
    class Fragile(torch.optim.SGD):
        fail = False

        def step(self, closure: Any = None) -> Any:
            if self.fail:
                raise RuntimeError("out of memory")
            return super().step(closure)

    late, at_once = pair(lambda p: Fragile(p, lr=0.05), lag, damping, spikes=FINITE)
    for step in range(60):
        for run in (late, at_once):
            loss = run.update(step)
            if step % 11 == 5:
                run.optimizer.fail = True  # type: ignore[attr-defined]
                with pytest.raises(RuntimeError, match="out of memory"):
                    run.optimizer.step()
                run.optimizer.fail = False  # type: ignore[attr-defined]
            if step % 5 not in (1, 2):
                run.control.step(loss)
            if step % 9 == 4:
                run.control.step({"loss": 3.0, "other": torch.tensor(2)})
        assert_same(late.seen(), at_once.seen())
    late.control.detach()
    assert_same_decisions(late.control, at_once.control)


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("unscaled", [False, True])
def test_overflows_under_a_grad_scaler_are_no_updates(lag: int, unscaled: bool) -> None:
    """The fused optimizer is called on an overflow too; only the row tells that it did nothing."""
    runs = pair(FUSED["AdamW"], lag, skipping)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=15) for _ in runs]
    for step in range(60):
        for run, scaler in zip(runs, scalers, strict=True):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(8, 3, generator=generator)
            loss = (torch.nn.functional.linear(x, *run.parameters) - x.sum(1, keepdim=True)).square().mean()
            run.optimizer.zero_grad()
            scaler.scale(loss).backward()
            factor = {7: math.inf, 8: math.nan, 30: math.inf, 40: 1e4, 41: 1e4, 42: 1e4}.get(step, 1.0)
            for parameter in run.parameters:
                parameter.grad.mul_(factor)  # type: ignore[union-attr]
            if unscaled:
                scaler.unscale_(run.optimizer)
            scaler.step(run.optimizer)
            scaler.update()
            run.control.step(loss)
            assert not hasattr(run.optimizer, "found_inf")
        (late, _, late_factor), (at_once, _, factor) = runs[0].seen(), runs[1].seen()
        assert all(torch.equal(a, b) for a, b in zip(late, at_once, strict=True))
        assert late_factor == factor
    runs[0].control.detach()
    assert_same_decisions(runs[0].control, runs[1].control)
    assert [run.control.state_dict()["rows"]["updates"] for run in runs] == [57, 57]
    assert sum(decision.action == "skip" for decision in runs[1].control.decisions) >= 1


def test_a_step_with_a_closure_is_read_at_once_and_exact() -> None:
    late, at_once = pair(lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2), 2, lambda: GradientSpike(skip_above=4.0))
    for step in range(30):
        for run in (late, at_once):
            target = 1e4 if step == 25 else 1.0

            def closure(run: Run = run, target: float = target) -> torch.Tensor:
                run.optimizer.zero_grad()
                loss = sum(((p - target) ** 2).sum() for p in run.parameters)
                loss.backward()
                return loss

            run.control.step(run.optimizer.step(closure))  # type: ignore[arg-type]
        assert_same(late.seen(), at_once.seen())
    assert late.control.stalls == 30
    assert [d.action for d in late.control.decisions] == [d.action for d in at_once.control.decisions] == ["skip"]


def test_the_record_of_a_run_is_the_same(tmp_path: Any) -> None:
    from adaptive_lr import read_trace

    def laws() -> Any:
        return *skipping(), Rescue(watch_steps=10, snapshots=False)

    late, at_once = (
        Run(FUSED["SGD"], late, 2, laws, BROKEN, options={"trace": tmp_path / str(late), "update_ratios_every": 3})
        for late in (True, False)
    )
    for step in range(50):
        late.step(step)
        at_once.step(step)
    records = []
    for run in (late, at_once):
        run.control.detach()
        records.append(read_trace(tmp_path / str(run.late)))
    first, second = records
    assert first.header.lag == second.header.lag == 2
    assert {update.stalls for update in second.updates} == {None}
    assert sum(update.stalls for update in first.updates) == late.control.stalls
    assert repr([replace(update, stalls=None) for update in first.updates]) == repr(list(second.updates))
    assert len(first.updates) == 50
    skipped = {update.step for update in first.updates if update.skipped}
    assert [ratios.step for ratios in first.update_ratios] == [step for step in range(0, 50, 3) if step not in skipped]
    assert repr(first.update_ratios) == repr(second.update_ratios)
    assert [bool(ratios.errors) for ratios in first.update_ratios][:2] == [False, False]
    assert first.update_ratios[-1].errors
    for a, b in zip(first.rows, second.rows, strict=True):
        assert (a.step, a.phase, a.updated, list(a.values)) == (b.step, b.phase, b.updated, list(b.values))
        for values, others in zip((a.values, *a.groups), (b.values, *b.groups), strict=True):
            assert list(values.values()) == pytest.approx(list(others.values()), rel=1e-12, nan_ok=True)


def test_in_shadow_nothing_acts_and_the_laws_see_the_same() -> None:
    late, at_once = (
        Run(UNFUSED["AdamW"], late, 2, damping, FINITE, options={"shadow": True}) for late in (True, False)
    )
    plain = Run(UNFUSED["AdamW"], False, 0, lambda: (), FINITE)
    compare(late, at_once, range(60))
    for step in range(60):
        plain.step(step)
    assert all(torch.equal(a, b) for a, b in zip(late.parameters, plain.parameters, strict=True))
    late.control.detach()
    assert_same_decisions(late.control, at_once.control)
    assert late.control.decisions.total > 0


def test_a_reflex_that_is_not_the_law_is_noticed() -> None:
    class Other(GradientSpike):
        reflex = GradientSpike(damp_above=1e-6).reflex

    run = Run(UNFUSED["SGD"], True, 1, Other)
    message = "a controller's reflex must be the law of its update: on the device it did damp=0.9\\d+, skip=False, "
    with pytest.raises(RuntimeError, match=message):
        list(map(run.step, range(40)))


def test_the_loss_is_scored_where_somebody_asks(tmp_path: Any) -> None:
    from adaptive_lr import read_trace
    from adaptive_lr.scores import LossPast, score_loss
    from adaptive_lr.trace import Trace

    for late in (False, True):
        trace = Trace(tmp_path / str(late), statistics=["loss_score"])
        run = Run(FUSED["SGD"], late, 2, LossVariance, losses={30: 1e3, 35: math.nan}, options={"trace": trace})
        losses = []
        for step in range(40):
            loss = run.update(step)
            losses.append(loss.item())
            run.control.step(loss)
        run.control.detach()
        past, expected = LossPast(), []
        for value in losses:
            past, scored = score_loss(past, value)
            expected.append(scored)
        rows = [row for row in read_trace(tmp_path / str(late)).rows if row.phase is Phase.AFTER]
        for row, scored in zip(rows, expected, strict=True):
            assert {name: row.values[name] for name in scored} == pytest.approx(scored, nan_ok=True)
        assert rows[30].values["loss_score"] > 10.0
        assert not any("loss_score" in row.values for row in read_trace(tmp_path / str(late)).rows if row not in rows)


def test_losses_are_scored_on_the_device_as_on_the_host(tmp_path: Any) -> None:
    """Tensors and numbers, with and without an update, across an observation, a checkpoint and the end of a sweep."""
    from adaptive_lr import read_trace

    def laws() -> Any:
        return GradientSpike(), Hold(first=30, last=35), Watch(("loss_score",))

    found = []
    for late in (True, False):
        folder = tmp_path / str(late)
        run = Run(UNFUSED["momentum"], late, 2, laws, losses={40: 1e3, 50: math.inf}, options={"trace": folder})
        with mock.patch.object(Meter, "loss", side_effect=AssertionError) if late else nullcontext():
            for step in range(70):
                loss = run.update(step)
                run.control.step(loss.item() if step % 3 == 0 else loss)
                if step % 9 == 4:
                    run.control.step({"loss": 2.0, "other": torch.tensor(1.0)})
                if step == 20:
                    run.control.observe(loss=1.5)
                if step == 45:
                    run.load(run.save())
            run.control.detach()
        rows = [row for row in read_trace(folder).rows if row.phase is Phase.AFTER]
        found.append([[row.values[name] for name in LOSS_STATISTICS] for row in rows])
    np.testing.assert_allclose(*found, rtol=1e-10, atol=1e-12)
    assert len(found[0]) == 78
    assert max(score for score, _, _ in found[0] if math.isfinite(score)) > 10.0


@pytest.mark.parametrize("lag", [1, 3])
def test_a_law_may_take_hold_of_the_learning_rate_in_the_middle_of_a_run(lag: int) -> None:
    """It is delayed like any decision; from then on rows are read at once, and letting go is not delayed."""
    late, at_once = pair(UNFUSED["SGD"], lag, lambda: (Hold(), GradientSpike()), spikes={32: 1e3, 33: 30.0, 50: 1e3})
    held = []
    for step in range(60):
        seen = [run.step(step) for run in (late, at_once)]
        assert seen[0][1:] == seen[1][1:]
        if step < 32:
            assert_same(*seen)
        if seen[0][1] == [0.025]:
            held.append(step)
    assert held == list(range(31 + lag, 36))
    assert late.control.stalls == len(held)
