"""`Motion`: weights that hardly move any more for their learning rate, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers.motion import FIRST_UPDATES, MEMORY, SHARE, Motion


def moved(values: list[float]) -> Motion:
    motion = Motion()
    for value in values:
        motion = motion.add(value)
    return motion


def test_the_smoothed_ratio_is_the_exponential_mean_without_its_bias() -> None:
    values = np.random.default_rng(0).uniform(0.1, 2.0, 40)
    weights = MEMORY ** np.arange(len(values))[::-1]
    motion = moved(values.tolist())
    assert motion.smoothed / motion.weight == pytest.approx(np.average(values, weights=weights), rel=1e-12)


def test_it_has_ended_when_it_is_a_tenth_of_what_it_was() -> None:
    assert not moved([1.0] * 20 + [2 * SHARE] * 200).ended
    assert moved([1.0] * 20 + [0.5 * SHARE] * 60).ended
    assert moved([1.0] * 20 + [0.0] * 30).ended


def test_the_first_updates_are_no_measure() -> None:
    assert not moved([100.0] * FIRST_UPDATES).ended
    assert not moved([5.0] * FIRST_UPDATES + [1.0] * 200).ended


def test_nothing_has_ended_before_anything_moved() -> None:
    assert not Motion().ended
    assert not moved([0.0] * 50).ended


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=60), st.floats(1e-6, 1e6))
def test_the_verdict_does_not_depend_on_the_unit_of_the_learning_rate(values: list[float], unit: float) -> None:
    ratios = [0.5 + value % 1.0 for value in values]  # far from the bar, where rounding would decide
    assert moved(ratios).ended == moved([value * unit for value in ratios]).ended
