"""Rules on recorded sweeps and rehearsals: what they choose, and that recording repeats what a run would see."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from adaptive_lr.controllers import RangeTest
from experiments.recorded_sweep import Sweep
from experiments.rehearsed_rules import FIVE, HALF_DECADES, RULES, Recorded, by_rehearsal, by_sweep, recorded

STEPS = 1200
MEASURED = math.log10(RangeTest().size / 10.0 / 2.0)
"""Where the rule for the sweep alone finds the peak of a run of that length, but for what the size of an update of one
matrix is less than its ratio (4 % at most here)."""
ROWS = [{"lr": 1e-4 * 10 ** (k / 12), "loss": 2.0 - 0.01 * k, "ratios": [1e-3 * 10 ** (k / 12)]} for k in range(44)]


def seen(best: float, steps: int = STEPS) -> Recorded:
    """The ratio is ten times the learning rate, nothing is usual; rehearsals are best at that log10."""
    losses = {half: (half / 2 - best) ** 2 for half in HALF_DECADES}
    return Recorded(Sweep("muon", steps, ROWS), losses)


def test_the_sweep_alone_lowers_the_ratio_by_a_power_of_the_length() -> None:
    """Of what it is at 300 updates, at 1,200 a half and 0.7."""
    assert by_sweep()(seen(0.0)) == pytest.approx(MEASURED, abs=0.02)
    assert by_sweep(0.25)(seen(0.0)) == pytest.approx(MEASURED + math.log10(4**0.25), abs=0.02)


def test_rehearsals_move_it_to_their_best_less_the_drift() -> None:
    """By half a decade at most with three, by one with five, and half as much half way."""
    measured = by_sweep()(seen(0.0))
    drift = 0.25 * math.log10(40)
    at_middle = seen(measured + drift)
    assert by_rehearsal(0.25)(at_middle) == pytest.approx(measured, abs=0.05)
    far = seen(measured + drift + 2.0)
    assert by_rehearsal(0.25)(far) == pytest.approx(measured + 0.5)
    assert by_rehearsal(0.25, offsets=FIVE)(far) == pytest.approx(measured + 1.0)
    assert by_rehearsal(0.25, weight=0.5)(far) == pytest.approx(measured + 0.25)
    assert by_rehearsal(0.5)(seen(measured)) == pytest.approx(measured - 0.5)


def test_every_rule_names_a_peak() -> None:
    assert all(-6.0 < rule(seen(-2.0)) < 2.0 for rule in RULES.values())


def test_rehearsals_are_recorded_once_and_are_as_long_as_those_of_the_run(tmp_path: Path) -> None:
    """A 40th of it, at every half-decade; those that diverge count as a large loss."""
    first = recorded("quadratic", "sgd", 0, STEPS, tmp_path)
    (path,) = (tmp_path / "rehearsals").glob("*.json")
    losses = json.loads(path.read_text())
    assert [len(of_one) for of_one in losses] == [30] * len(HALF_DECADES)
    path.write_text(json.dumps([[1.0] * 30, *losses[1:]]))
    second = recorded("quadratic", "sgd", 0, STEPS, tmp_path)
    assert second.losses[HALF_DECADES[0]] == 1.0
    assert {**first.losses, HALF_DECADES[0]: 1.0} == second.losses
    assert first.sweep.steps == STEPS
