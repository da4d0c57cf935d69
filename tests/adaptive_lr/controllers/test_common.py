"""What holds for every controller. A new controller is one new row in `TABLE`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr import controllers
from adaptive_lr.controllers import (
    Adjustment,
    Controller,
    GradientSpike,
    LossVariance,
    Plateau,
    RangeTest,
    Rescue,
    compose,
)
from adaptive_lr.controllers.base import configuration
from adaptive_lr.plain import from_plain, to_plain
from adaptive_lr.scores import NormPast, score_norm
from adaptive_lr.statistics import MEASURED_STATISTICS, Phase, Statistics

START = Statistics(0, Phase.START)


def gradient_rows() -> list[Statistics]:
    """Healthy norms; single spikes, a burst, non-finite ones; and quiet to recover in."""
    norms = np.exp(np.random.default_rng(0).normal(0.0, 0.2, 400))
    norms[[60, 100]] *= 8.0
    norms[140:146] *= 20.0
    norms[250] = math.nan
    norms[300:322] = math.inf
    past, rows = NormPast(), [START]
    for step, norm in enumerate(norms.tolist()):
        past, scored = score_norm(past, norm)
        rows.append(Statistics(step, Phase.BEFORE, {"grad_norm": norm, **scored}))
    return rows


def loss_rows() -> list[Statistics]:
    """A loss that falls, jumps, stays, falls again and grows noisy, with a NaN and an infinity."""
    generator = np.random.default_rng(0)
    losses = np.concatenate([np.linspace(2.0, 1.0, 200), np.full(150, 10.0), np.linspace(10.0, 1.0, 300), np.ones(250)])
    losses += generator.normal(0.0, 0.05, losses.size) * np.where(np.arange(losses.size) > 750, 10.0, 1.0)
    losses[[30, 500]] = math.nan, math.inf
    return [START, *(Statistics(t, Phase.AFTER, {"loss": loss}) for t, loss in enumerate(losses.tolist()))]


def evaluation_rows() -> list[Statistics]:
    """An evaluation after every second step: improving, then not, then not finite."""
    values = [1.0, 0.9, 0.8, 0.85, 0.9, 0.81, 0.82, 0.7, math.nan, math.inf, math.nan, 0.6, 0.6, 0.6, 0.6, -math.inf]
    rows = [START]
    for step, value in enumerate(values):
        rows.append(Statistics(2 * step, Phase.AFTER, {"loss": 1.0}))
        rows.append(Statistics(2 * step + 1, Phase.AFTER, {"loss": 1.0}))
        rows.append(Statistics(2 * step + 2, Phase.OBSERVATION, {"val_loss": value}))
    return rows


def first_update_rows() -> list[Statistics]:
    """A warm-up that destroys the run, twice; then a run that learns, with a bad batch and an overflow."""
    generator = np.random.default_rng(0)
    losses = np.concatenate(
        [np.full(6, 2.3), [3.0, 9.0, 40.0], np.full(10, 2.3), [5.0, 20.0], np.linspace(2.3, 0.5, 120)]
    )
    losses = losses + generator.normal(0.0, 0.02, losses.size)
    losses[60] = math.nan
    rows = [START]
    for step, loss in enumerate(losses.tolist()):
        ratio = 0.02 + 0.01 * min(step, 10) + (math.inf if step == 18 else 0.0)
        values = {"loss": loss, "update_ratio": ratio, "base_lr": min(step, 30) / 30}
        rows.append(Statistics(step, Phase.AFTER, values, updated=step != 70))
    return rows


def sweep_rows() -> list[Statistics]:
    """A trial that is not finite and one that is, a fall with an overflow, divergence, and a run after it."""
    losses = np.concatenate([[math.nan], np.full(20, 2.3), np.linspace(2.3, 0.8, 8), [9.0, math.nan], np.full(60, 0.8)])
    losses[2:29] += np.random.default_rng(0).normal(0.0, 0.02, 27)
    rows = [Statistics(0, Phase.START, {"usual_lr": 0.02, "reference_lr": 0.1})]
    for step, loss in enumerate(losses.tolist()):
        values = {"loss": loss, "update_ratio": math.inf if step == 0 else 1e-3 * 10 ** (step / 20)}
        rows.append(Statistics(step, Phase.AFTER, values, updated=step != 15))
    return rows


def rehearsal_rows() -> list[Statistics]:
    """Trials, a sweep, rehearsals with a loss that is not finite and an overflow, and the ramp."""
    losses = np.concatenate([np.full(20, 2.3), np.linspace(2.3, 0.8, 130)])
    losses[70] = math.nan
    rows = [Statistics(0, Phase.START, {"usual_lr": 0.02, "reference_lr": 0.1})]
    for step, loss in enumerate(losses.tolist()):
        values = {"loss": loss, "update_ratio": 1e-3 * 10 ** (min(step, 40) / 20)}
        rows.append(Statistics(step, Phase.AFTER, values, updated=step not in (50, 70)))
    return rows


def suspicion_rows() -> list[Statistics]:
    """Updates that are suspected and cut, and a loss that falls slower after it."""
    losses = [*np.linspace(2.3, 1.0, 13).tolist(), *np.linspace(2.3, 2.0, 60).tolist()]
    rows = [START]
    for step, loss in enumerate(losses):
        values = {"loss": loss + 0.01 * (-1) ** step, "update_ratio": 0.5 if 1 < step < 14 else 0.05}
        values["base_lr"] = (step + 1) / 100
        rows.append(Statistics(step, Phase.AFTER, values, updated=step != 30))
    return rows


def probe_rows() -> list[Statistics]:
    """A sweep to the peak, a probe whose loss falls faster, the same updates at the peak, and a probe that destroys."""
    fall = np.linspace(2.3, 2.0, 26).tolist()
    losses = [2.3, 2.3, *fall, *np.linspace(2.0, 1.0, 10).tolist(), *np.linspace(2.0, 1.9, 12).tolist(), 90.0, 1.5, 1.4]
    rows = [Statistics(0, Phase.START, {"reference_lr": 0.1})]
    for step, loss in enumerate(losses):
        values = {"loss": loss, "update_ratio": 1e-3 * 10 ** (step / 12), "base_lr": 0.1}
        rows.append(Statistics(step, Phase.AFTER, values))
    return rows


@dataclass(frozen=True)
class Row:
    """A controller under test: how to make it, and rows that make it act."""

    name: str
    make: Callable[[], Controller[Any]]
    rows: Callable[[], list[Statistics]]


TABLE = [
    Row("range_test", lambda: RangeTest(total_steps=400), sweep_rows),
    Row("range_test that rehearses", lambda: RangeTest(total_steps=1000), rehearsal_rows),
    Row("range_test to divergence", lambda: RangeTest(start=0.01, end=2.0, to_divergence=True), sweep_rows),
    Row("range_test that probes", lambda: RangeTest(total_steps=400, start=1.0), probe_rows),
    Row("rescue", Rescue, first_update_rows),
    Row("rescue that suspects", Rescue, suspicion_rows),
    Row("rescue bounded, without snapshots", lambda: Rescue(min_factor=0.2, snapshots=False), first_update_rows),
    Row("gradient_spike", GradientSpike, gradient_rows),
    Row("gradient_spike with clip", lambda: GradientSpike(clip=1.2, min_factor=0.3), gradient_rows),
    Row("loss_variance", LossVariance, loss_rows),
    Row("loss_variance bounded", lambda: LossVariance(window=32, min_factor=0.4), loss_rows),
    Row("plateau on evaluations", lambda: Plateau("val_loss", patience=2, cooldown=1), evaluation_rows),
    Row("plateau per step", lambda: Plateau(patience=3, block_size=8, cooldown=1, min_factor=0.02), loss_rows),
    Row("plateau per step, max", lambda: Plateau(mode="max", patience=3, block_size=8), loss_rows),
]
each_controller = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


def trajectory(law: Controller[Any], rows: list[Statistics]) -> Iterator[tuple[Any, Statistics, Any, Adjustment]]:
    """State before, row, state after and adjustment, for every row that the law sees."""
    state = law.init()
    for row in rows:
        if law.sees(row):
            following, adjustment = law.update(state, row)
            yield state, row, following, adjustment
            state = following


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a state."""
    if isinstance(value, tuple):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield value


def test_every_exported_controller_is_in_the_table():
    """No controller escapes the shared suite."""
    exported = {
        value
        for value in vars(controllers).values()
        if isinstance(value, type) and issubclass(value, Controller) and value is not Controller
    }
    assert exported == {type(row.make()) for row in TABLE}


@each_controller
def test_its_rows_make_it_act(row):
    """The table's rows exercise the law: it acts, and before any row it changes nothing but the level it holds."""
    law = row.make()
    steps = list(trajectory(law, row.rows()))
    assert any(adjustment.reasons for *_, adjustment in steps)
    first = law.update(law.init(), START)[1]
    assert (first.factor, first.momentum, first.damp, first.skip, first.stop) == (1.0, 1.0, 1.0, False, False)


@each_controller
def test_the_configuration_is_frozen_plain_and_documented(row):
    """A law cannot be changed after the fact, can be recorded as JSON, and every argument is described."""
    law = row.make()
    name = fields(law)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(law, name, 0.0)
    assert json.loads(json.dumps(configuration(law))) == configuration(law)
    for field in fields(law):
        assert f"{field.name}:" in type(law).__doc__


@each_controller
def test_update_is_pure(row):
    """The same state and row give the same result, whatever happened in between, and a state never changes."""
    law, rows = row.make(), row.rows()
    steps = list(trajectory(law, rows))
    snapshots = [repr(to_plain(state)) for state, *_ in steps]
    for state, seen, following, adjustment in reversed(steps):
        # repr tells every bit of a float, and NaN from nothing else
        assert repr(law.update(state, seen)) == repr((following, adjustment))
    assert [repr(to_plain(state)) for state, *_ in steps] == snapshots


@each_controller
def test_a_run_resumes_exactly_at_every_step(row):
    """The state survives JSON at every step, and the next step from the copy is the next step."""
    law = row.make()
    for state, seen, following, adjustment in trajectory(law, row.rows()):
        restored = from_plain(law.init(), json.loads(json.dumps(to_plain(state))))
        assert restored == state
        assert repr(row.make().update(restored, seen)) == repr((following, adjustment))


@each_controller
def test_a_state_is_numbers_in_named_tuples(row):
    """Nothing else is in a state: numbers, bools, strings, None, and flat tuples of numbers."""

    def check(value: Any) -> None:
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            for item in value:
                check(item)
        elif isinstance(value, tuple):
            assert all(type(item) in (int, float) for item in value)
        else:
            assert value is None or type(value) in (int, float, bool, str)

    law = row.make()
    for _, _, following, _ in trajectory(law, row.rows()):
        check(following)


class Recorder(Mapping[str, float]):
    """Values that remember which of them were read."""

    def __init__(self, values: Mapping[str, float], read: set[str]) -> None:
        self._values, self._read = values, read

    def __getitem__(self, name: str) -> float:
        self._read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@each_controller
def test_it_reads_nothing_but_what_it_declares(row):
    """A law reads the statistics it requires and its metric: never a learning rate, so shadow decides as live does.

    A law that holds the learning rate itself, which shadow refuses, is told at the start where it stands.
    """
    law, read = row.make(), set()
    rows = [Statistics(r.step, r.phase, Recorder(r.values, read), r.groups, r.updated) for r in row.rows()]
    list(trajectory(law, rows))
    allowed = set(law.requires) | {getattr(law, "monitor", "loss")}
    if "grad_score" in law.requires:
        allowed |= {"grad_typical", "grad_spread"}
    if law.holds_lr:
        allowed |= {"usual_lr", "reference_lr"}
    assert read <= allowed
    assert law.requires <= MEASURED_STATISTICS


@each_controller
def test_its_requests_stay_in_bounds(row):
    """Factor in [min_factor, 1], momentum in [0, 1], damping in (0, 1]; skip and damp only before the update.

    Only a law that sets the peak may ask for more than the base, and for a level.
    """
    law = row.make()
    for _, seen, _, adjustment in trajectory(law, row.rows()):
        if law.holds_lr:
            assert 0.0 < adjustment.factor < math.inf
            assert adjustment.level is None or 0.0 < adjustment.level < math.inf
        else:
            assert max(law.min_factor, 1e-9) <= adjustment.factor <= 1.0
            assert adjustment.level is None
        assert 0.0 <= adjustment.momentum <= 1.0
        assert 0.0 < adjustment.damp <= 1.0
        if seen.phase is not Phase.BEFORE:
            assert adjustment.damp == 1.0
            assert not adjustment.skip


@each_controller
def test_every_change_has_a_reason_and_every_reason_a_change(row):
    """Each change of a level, each damping, skip, stop and rewind is explained, in words; nothing else is.

    Of a learning rate that is held, the beginning and the end are explained and where it jumps, not each step.
    """
    law = row.make()
    factor, momentum, held, level = 1.0, 1.0, False, 1.0
    for _, _, _, adjustment in trajectory(law, row.rows()):
        changed = (
            (adjustment.factor, adjustment.momentum) != (factor, momentum)
            or adjustment.damp != 1.0
            or adjustment.skip
            or adjustment.stop
            or adjustment.rewind
            or (adjustment.level is not None) != held
            or (adjustment.level is not None and adjustment.level > 5.0 * level)
        )
        level = adjustment.level or math.inf
        assert bool(adjustment.reasons) == changed
        for reason in adjustment.reasons:
            assert reason.action
            assert reason.statistic or law.holds_lr
            assert len(reason.text) > 20
        factor, momentum, held = adjustment.factor, adjustment.momentum, adjustment.level is not None


@each_controller
def test_simulate_is_update_folded_by_hand(row):
    """Simulating rows gives the adjustments of `update`, and the standing levels for rows the law does not see."""
    law, rows = row.make(), row.rows()
    state, standing, expected = law.init(), Adjustment(), []
    for seen in rows:
        if law.sees(seen):
            state, standing = law.update(state, seen)
            expected.append(standing)
        else:
            expected.append(Adjustment(standing.factor, standing.momentum, level=standing.level))
    assert repr(law.simulate(rows)) == repr(expected)
    if not rows[0].values:
        assert repr(law.simulate(rows[1:])) == repr(expected[1:])  # the START row is supplied


@each_controller
def test_in_a_composition_it_decides_as_alone(row):
    """Replaying the rows through a composition gives the law's levels and one decision per reason."""
    law, rows = row.make(), row.rows()
    composition = compose([row.make()])
    state = composition.init()
    for seen, alone in zip(rows, law.simulate(rows), strict=True):
        state, outcome = composition.update(state, seen)
        assert (outcome.factor, outcome.momentum) == (alone.factor, alone.momentum)
        if law.sees(seen):
            assert (outcome.damp, outcome.skip, outcome.stop) == (alone.damp, alone.skip, alone.stop)
            assert [decision.text for decision in outcome.decisions] == [reason.text for reason in alone.reasons]


ANY = st.floats(allow_nan=True, allow_infinity=True, width=64)
LIKELY = st.one_of(ANY, st.floats(0.5, 2.0), st.sampled_from([0.0, math.nan, math.inf, -math.inf, 1e308, 1e-320]))


@each_controller
@given(values=st.lists(LIKELY, min_size=1, max_size=150), observe=st.booleans())
@settings(deadline=None, max_examples=40)
def test_no_input_poisons_the_state(row, values, observe):
    """Whatever floats come, requests stay in bounds, states stay finite, and both are reached without an error."""
    law = row.make()
    composition = compose(law)  # checks the ranges of every adjustment
    state = composition.init()
    metric = getattr(law, "monitor", "loss")
    for step, value in enumerate(values * 3):
        if law.phase is Phase.BEFORE:
            values_of_row = {"grad_norm": abs(value), "grad_score": value, "grad_spread": 0.25 + min(abs(value), 1e3)}
            seen = Statistics(step, Phase.BEFORE, values_of_row)
        else:
            seen = Statistics(step, Phase.OBSERVATION if observe else Phase.AFTER, {metric: value})
        state, outcome = composition.update(state, seen)
        assert 0.0 < outcome.factor < math.inf
        assert outcome.factor <= 1.0 or law.holds_lr
        assert all(math.isfinite(number) for number in numbers(state.states))
