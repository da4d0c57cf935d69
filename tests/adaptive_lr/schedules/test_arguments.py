"""Bad arguments fail at construction, with the name, the rule and the value received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from adaptive_lr import schedules

S: Any = schedules

BAD_VALUES: list[tuple[str, Callable[[], object]]] = [
    ("factor", lambda: S.constant(-0.1)),
    ("factor", lambda: S.constant(float("inf"))),
    ("total_iters", lambda: S.constant(0.5, -1)),
    ("step_size", lambda: S.step(0)),
    ("gamma", lambda: S.step(10, 1.1)),
    ("gamma", lambda: S.step(10, float("nan"))),
    ("milestones", lambda: S.multi_step((3, -1))),
    ("gamma", lambda: S.multi_step((3,), -0.1)),
    ("gamma", lambda: S.exponential(2.0)),
    ("decay_steps", lambda: S.exponential(0.9, decay_steps=0)),
    ("total_iters", lambda: S.polynomial(0)),
    ("power", lambda: S.polynomial(10, 0.0)),
    ("end_factor", lambda: S.polynomial(10, end_factor=2.0)),
    ("total_iters", lambda: S.linear(0, start_factor=1.0, end_factor=0.0)),
    ("start_factor", lambda: S.linear(10, start_factor=-1.0, end_factor=0.0)),
    ("end_factor", lambda: S.linear(10, start_factor=1.0, end_factor=-1.0)),
    ("T_max", lambda: S.cosine(0)),
    ("T_max", lambda: S.cosine(2**53 + 1)),
    ("eta_min", lambda: S.cosine(10, 1.5)),
    ("eta_min", lambda: S.cosine(10, 10**400)),
    ("timescale", lambda: S.inverse_sqrt(0)),
    ("T_0", lambda: S.cosine_warm_restarts(0)),
    ("T_mult", lambda: S.cosine_warm_restarts(5, 0)),
    ("eta_min", lambda: S.cosine_warm_restarts(5, eta_min=-1.0)),
    ("cycle_decay", lambda: S.cosine_warm_restarts(5, cycle_decay=0.0)),
    ("step_size_up", lambda: S.cyclic(0)),
    ("step_size_down", lambda: S.cyclic(5, 0)),
    ("base_factor", lambda: S.cyclic(5, base_factor=1.5)),
    ("mode", lambda: S.cyclic(5, mode="square")),
    ("gamma", lambda: S.cyclic(5, gamma=1.5)),
    ("max_momentum", lambda: S.cyclic(5, base_momentum=0.9, max_momentum=0.8)),
    ("max_momentum", lambda: S.cyclic(5, max_momentum=1.0)),
    ("total_steps", lambda: S.one_cycle(1)),
    ("pct_start", lambda: S.one_cycle(100, pct_start=1.5)),
    ("pct_start", lambda: S.one_cycle(100, pct_start=0.01)),
    ("pct_start", lambda: S.one_cycle(100, pct_start=1.0)),
    ("pct_start", lambda: S.one_cycle(100, pct_start=0.6, three_phase=True)),
    ("anneal_strategy", lambda: S.one_cycle(100, anneal_strategy="cosine")),
    ("base_momentum", lambda: S.one_cycle(100, base_momentum=-0.1)),
    ("div_factor", lambda: S.one_cycle(100, div_factor=0.5)),
    ("final_div_factor", lambda: S.one_cycle(100, final_div_factor=0.0)),
    ("steps", lambda: S.warmup(-1)),
    ("start_factor", lambda: S.warmup(10, start_factor=2.0)),
    ("shape", lambda: S.warmup(10, shape="cubic")),
    ("start_factor", lambda: S.warmup(10, shape="exponential")),
    ("total_steps", lambda: S.warmup_stable_decay(0)),
    ("warmup_steps", lambda: S.warmup_stable_decay(10, warmup_steps=-1)),
    ("decay_steps", lambda: S.warmup_stable_decay(10, decay_steps=-1)),
    ("decay_shape", lambda: S.warmup_stable_decay(10, decay_shape="cubic")),
    ("end_factor", lambda: S.warmup_stable_decay(10, decay_shape="exponential")),
    (r"warmup_steps \+ decay_steps", lambda: S.warmup_stable_decay(10, warmup_steps=6, decay_steps=5)),
    ("total_steps", lambda: S.constant_with_decay(0)),
    ("decay_fraction", lambda: S.constant_with_decay(10, decay_fraction=0.0)),
    ("T_max", lambda: S.cosine_decay(0)),
    ("after", lambda: S.constant().then(S.cosine(10))),
    ("after", lambda: S.cosine(10).then(S.cosine(10), after=-1)),
    ("other", lambda: S.cosine(10).times(-1.0)),
    ("temperature", lambda: S.cosine(10).temperature(0.0)),
    ("lr", lambda: S.scale_lr(0.0, 8, 4)),
    ("batch_size", lambda: S.scale_lr(0.1, 0, 4)),
    ("reference_batch_size", lambda: S.scale_lr(0.1, 8, 0)),
    ("rule", lambda: S.scale_lr(0.1, 8, 4, rule="cubic")),
]
BAD_TYPES: list[tuple[str, Callable[[], object]]] = [
    ("factor", lambda: S.constant("1")),
    ("step_size", lambda: S.step(10.0)),
    ("step_size", lambda: S.step(True)),
    ("milestones", lambda: S.multi_step(30)),
    ("milestones", lambda: S.multi_step((3.5,))),
    ("gamma", lambda: S.exponential(None)),
    ("staircase", lambda: S.exponential(0.9, staircase=1)),
    ("T_max", lambda: S.cosine("10")),
    ("T_mult", lambda: S.cosine_warm_restarts(5, 1.5)),
    ("cycle_momentum", lambda: S.cyclic(5, cycle_momentum=None)),
    ("three_phase", lambda: S.one_cycle(100, three_phase="yes")),
    ("following", lambda: S.cosine(10).then(0.5)),
    ("other", lambda: S.cosine(10) * "2"),
    ("temperature", lambda: S.cosine(10).temperature("hot")),
    ("batch_size", lambda: S.scale_lr(0.1, 8.0, 4)),
]


@pytest.mark.parametrize(("name", "build"), BAD_VALUES)
def test_a_value_out_of_range_is_a_value_error_that_names_it(name: str, build: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=rf"^(each of |pct_start|){name}.* must .*got"):
        build()


@pytest.mark.parametrize(("name", "build"), BAD_TYPES)
def test_a_value_of_a_wrong_type_is_a_type_error_that_names_it(name: str, build: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=rf"^(each of )?{name} must .*got"):
        build()


def test_a_schedule_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        S.cosine(10).T_max = 20


def test_numpy_numbers_are_numbers() -> None:
    assert S.cosine(np.int64(10), np.float64(0.5)) == S.cosine(10, 0.5)
    assert repr(S.cosine(np.int64(10), np.float64(0.5))) == "cosine(T_max=10, eta_min=0.5)"
    assert repr(S.multi_step(np.array([20, 10]))) == "multi_step(milestones=(10, 20), gamma=0.1)"


def test_the_square_root_and_linear_rules_of_the_batch_size() -> None:
    """Eight times the batch: √8 times the rate by one rule, 8 times by the other; and back again."""
    assert schedules.scale_lr(0.1, 32, 8) == 0.2
    assert schedules.scale_lr(0.1, 32, 8, rule="linear") == pytest.approx(0.4, rel=1e-15)
    for rule in ("sqrt", "linear"):
        there = schedules.scale_lr(3e-4, 1024, 256, rule=rule)
        assert schedules.scale_lr(there, 256, 1024, rule=rule) == pytest.approx(3e-4, rel=1e-15)
