"""A setting that is no number, or none that the law can work with, is refused by its name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers import (
    Composition,
    Controller,
    GradientSpike,
    LossVariance,
    Plateau,
    RangeTest,
    automatic,
    compose,
    guarded,
)
from adaptive_lr.controllers.arguments import check_count, check_flag, check_number

LAWS: tuple[type[Controller[Any]], ...] = (GradientSpike, LossVariance, Plateau, RangeTest)
SETTINGS = [(law, field) for law in LAWS for field in dataclasses.fields(law)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("law", "field"), SETTINGS, ids=lambda value: getattr(value, "__name__", None) or value.name)
@pytest.mark.parametrize("value", ["x", math.nan, None, -1, True, [1.0], 1j], ids=repr)
def test_no_setting_of_a_law_takes_what_it_cannot_use(law: type[Any], field: Any, value: Any) -> None:
    if value is None and field.default is None:
        law(**{field.name: None})
    elif (field.name == "monitor" and value == "x") or (value is True and field.default is False):
        law(**{field.name: value})
    else:
        with pytest.raises((TypeError, ValueError), match=rf"^{field.name} must.*got"):
            law(**{field.name: value})


@pytest.mark.parametrize("total_steps", [2.5, True, math.nan, "100", None, 0, -5])
def test_automatic_needs_a_whole_number_of_steps(total_steps: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"total_steps must be .*got {total_steps!r}"):
        automatic(total_steps=total_steps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: guarded(snapshots="no"), "snapshots must be True or False, got 'no'"),  # type: ignore[arg-type]
        (lambda: RangeTest(to_divergence=1), "to_divergence must be True or False, got 1"),  # type: ignore[arg-type]
        (lambda: Plateau(3), r"monitor must be the name of a metric \(str\), got 3"),  # type: ignore[arg-type]
        (lambda: compose("guarded"), "controllers must be a Controller or an iterable of them, got 'guarded'"),  # type: ignore[arg-type]
        (lambda: Composition((), "1"), r"min_factor must be a number, >= 0, got '1'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_of_another_kind_is_a_type_error(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_a_plateau_may_monitor_a_statistic_that_is_measured() -> None:
    assert Plateau("grad_norm").monitor == "grad_norm"


def test_numbers_of_numpy_are_numbers() -> None:
    assert RangeTest(total_steps=np.int64(100), size=np.float32(0.5)).total_steps == 100  # type: ignore[arg-type]


@given(st.floats() | st.integers(), st.floats(-9, 9), st.floats(-9, 9), st.sampled_from("(["), st.sampled_from(")]"))
def test_an_interval_holds_what_it_says(value: float, a: float, b: float, left: str, right: str) -> None:
    low, high = sorted((a, b))
    above = value > low if left == "(" else value >= low
    below = value < high if right == ")" else value <= high
    interval = f"{left}{low!r}, {high!r}{right}"
    if above and below:
        check_number("x", value, interval)
    else:
        with pytest.raises(ValueError, match=r"^x must be in .*, got"):
            check_number("x", value, interval)


def test_an_interval_without_an_upper_bound_may_or_may_not_include_infinity() -> None:
    check_number("x", math.inf, "(0, inf]")
    with pytest.raises(ValueError, match=r"^x must be finite and > 0, got inf$"):
        check_number("x", math.inf, "(0, inf)")
    with pytest.raises(ValueError, match=r"^x must be finite and >= 0 or None, got nan$"):
        check_number("x", math.nan, "[0, inf)", optional=True)
    check_number("x", None, "[0, inf)", optional=True)


def test_a_count_and_a_flag_are_what_they_say() -> None:
    check_count("n", 3, 3)
    check_count("n", None, optional=True)
    check_flag("f", False)
    with pytest.raises(ValueError, match=r"^n must be at least 3, got 2$"):
        check_count("n", 2, 3)
    with pytest.raises(TypeError, match=r"^n must be a whole number >= 1, got 2\.0$"):
        check_count("n", 2.0)
    with pytest.raises(TypeError, match=r"^f must be True or False, got None$"):
        check_flag("f", None)
