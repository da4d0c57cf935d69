"""`update_size`: one number for how far an update moves a network of several matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers.update_size import update_size
from adaptive_lr.statistics import RATIO_STATISTICS, Statistics
from adaptive_lr.update_ratio import DEPTH, Ratios


def size_of(ratios: list[float]) -> float:
    """Through the row that the ratios of these matrices make."""
    summary = Ratios(torch.tensor(ratios, dtype=torch.float64), None).summary.tolist()
    size = update_size(Statistics(0, values=dict(zip(RATIO_STATISTICS, summary, strict=True))))
    assert size is not None
    return size


@pytest.mark.parametrize("matrices", [1, 4, DEPTH])
def test_matrices_that_move_alike_count_with_the_root_of_their_number(matrices: int) -> None:
    assert size_of([1e-4] * matrices) == pytest.approx(1e-4 * matrices**0.5, rel=1e-4)


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=2 * DEPTH))
def test_it_is_what_its_definition_says(ratios: list[float]) -> None:
    """In float64, from the ratios themselves."""
    deepest = np.sort(np.array(ratios))[-DEPTH:]
    assert size_of(ratios) == pytest.approx(math.sqrt(max(ratios) * np.log1p(deepest).sum()), rel=1e-9, abs=1e-150)


def test_what_is_not_finite_stays_so() -> None:
    assert size_of([0.1, math.inf]) == math.inf
    assert math.isnan(size_of([0.1, math.nan]))


def test_a_row_without_ratios_has_none_and_one_made_by_hand_the_largest() -> None:
    assert update_size(Statistics(0, values={"loss": 1.0})) is None
    assert update_size(Statistics(0, values={"update_ratio": 0.3})) == 0.3
