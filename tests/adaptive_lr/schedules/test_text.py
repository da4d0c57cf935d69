"""Schedules from text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr import schedules
from adaptive_lr.schedules import Schedule, from_text


@pytest.mark.parametrize("name", schedules.REGISTRY)
@pytest.mark.parametrize("total_steps", [4, 10, 1000, 12345])
def test_every_name_alone_makes_a_schedule_for_the_run(name: str, total_steps: int) -> None:
    schedule = from_text(name, total_steps=total_steps)
    assert np.isfinite(schedule(np.arange(total_steps))).all()
    assert getattr(schedules, name) is schedules.REGISTRY[name].build, "the name is the one in the package"


def test_every_concrete_schedule_is_in_the_table() -> None:
    concrete = {c for c in Schedule.__subclasses__() if c.__module__.startswith("adaptive_lr.schedules.")}
    compositions = {"Then", "Product", "Tempered"}
    built = {entry.build for entry in schedules.REGISTRY.values()}
    assert {c.__name__ for c in concrete if c not in built} == compositions


def test_values_by_name_and_by_place() -> None:
    assert from_text("cosine(T_max=100, eta_min=0.1)", total_steps=7) == schedules.cosine(100, 0.1)
    assert from_text(" cosine( 100 , 0.1 ) ", total_steps=7) == schedules.cosine(100, 0.1)
    assert from_text("cosine(eta_min=0.1)", total_steps=7) == schedules.cosine(7, 0.1)
    assert from_text("multi_step(milestones=[30, 60])", total_steps=7) == schedules.multi_step((30, 60))
    assert from_text("one_cycle(three_phase=True)", total_steps=50) == schedules.one_cycle(50, three_phase=True)


def test_chains() -> None:
    assert from_text("warmup(100).then(cosine)", total_steps=1000) == schedules.warmup(100).then(schedules.cosine(900))
    assert from_text("constant().then(cosine, after=600)", total_steps=1000) == (
        schedules.constant().then(schedules.cosine(400), after=600)
    )
    assert from_text("cosine().temperature(2.0)", total_steps=10) == (schedules.cosine(10).temperature(2.0))
    assert from_text("linear().times(0.5).times(warmup(3))", total_steps=10) == (
        schedules.linear(10, start_factor=1.0, end_factor=0.0) * 0.5 * schedules.warmup(3)
    )
    assert from_text("warmup.then(cosine)", total_steps=100) == schedules.warmup(10).then(schedules.cosine(90))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text must be like"),
        ("cosine(", "text must be like"),
        ("cosine\x00", "text must be like"),
        ("cosin", "the schedule must be one of .*got 'cosin'"),
        ("__import__('os')", "the schedule must be one of"),
        ("cosine(T_max=__import__('os'))", "a value must be a literal"),
        ("cosine(T_max=10 ** 9)", "a value must be a literal"),
        ("cosine(t_max=10)", "the arguments of cosine must be among T_max, eta_min, got 't_max'"),
        ("cosine(10, T_max=10)", "given once"),
        ("cosine(10, 0.1, 3)", "at most 2 arguments"),
        ("cosine(**{'T_max': 3})", "a schedule must be a name or a call"),
        ("cosine(*[3])", "a value must be a literal"),
        ("3", "a schedule must be a name or a call"),
        ("cosine + linear", "a schedule must be a name or a call"),
        ("cosine().__class__()", "what follows a schedule must be one of"),
        ("cosine().then()", "then must have one argument"),
        ("cosine().times(2, after=3)", "times must have one argument"),
        ("cosine().temperature(cosine)", "a value must be a literal"),
        ("constant().then(cosine)", "after must be given"),
        ("cosine(T_max=-3)", "T_max must be an integer >= 1, got -3"),
    ],
)
def test_text_of_another_form_is_a_value_error_that_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_text(text, total_steps=100)


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=30) | st.text(alphabet="cosine()warmup.then,=0123'*+[] ", max_size=40))
def test_any_text_makes_a_schedule_or_a_value_or_type_error(text: str) -> None:
    try:
        schedule = from_text(text, total_steps=100)
    except (ValueError, TypeError):
        return
    assert isinstance(schedule, Schedule)
