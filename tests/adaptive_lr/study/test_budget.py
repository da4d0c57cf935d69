"""Budgets: as many settings for every recipe, readable, spread over the range, and marked at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from adaptive_lr.study import RECIPES, StudyError
from adaptive_lr.study.budget import DECADES, Budget, Point, at_edge, centre_of


@pytest.mark.parametrize("text", ["default", "grid-7", "search-20", "grid-3", "search-64"])
def test_a_budget_has_the_size_it_says_for_every_recipe(text: str) -> None:
    budget = Budget.parse(text)
    assert str(budget) == text
    for recipe in RECIPES.values():
        points = budget.points(recipe, 0.1)
        assert len(points) == len(set(points)) == budget.size


@pytest.mark.parametrize("text", ["", "grid", "grid-1", "grid-x", "search--2", "random-20", "Default", "grid-7 ", 7])
def test_what_is_no_budget_is_refused(text: object) -> None:
    with pytest.raises(StudyError, match="a budget is one of default, grid-7, search-20"):
        Budget.parse(text)  # type: ignore[arg-type]


def test_seven_points_are_half_decades_around_the_centre() -> None:
    rates = [point.peak_lr for point in Budget.parse("grid-7").points(RECIPES["cosine"], 0.1)]
    assert rates == [0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16]
    assert Budget.parse("default").points(RECIPES["wsd"], 0.02) == [Point(0.02)]


def test_a_grid_of_ones_own_is_taken_ascending() -> None:
    assert Budget.parse("grid-3").points(RECIPES["step"], 1.0, [3.0, 1.0, 2.0]) == [Point(1.0), Point(2.0), Point(3.0)]


@settings(max_examples=30, deadline=None)
@given(centre=st.floats(1e-6, 1e3), size=st.integers(2, 40), recipe=st.sampled_from(sorted(RECIPES)))
def test_a_search_stays_in_its_range_and_repeats(centre: float, size: int, recipe: str) -> None:
    """Rounding to three digits may cross a limit by half a per cent."""
    budget = Budget("search", size)
    points = budget.points(RECIPES[recipe], centre)
    assert points == budget.points(RECIPES[recipe], centre)
    for point in points:
        assert abs(math.log10(point.peak_lr / centre)) <= DECADES + 0.005
        assert dict(point.settings).keys() == RECIPES[recipe].settings.keys()
        for name, value in point.settings:
            declared = RECIPES[recipe].settings[name]
            assert declared.low * 0.994 <= value <= declared.high * 1.006


def test_a_search_is_evener_than_chance_and_its_settings_are_not_tied_to_the_learning_rate() -> None:
    """In the unit square its discrepancy is below that of nearly all random samples of the size."""
    declared = RECIPES["cosine"].settings["warmup_share"]
    points = Budget.parse("search-20").points(RECIPES["cosine"], 1.0)
    low, high = math.log(declared.low), math.log(declared.high)
    rates = [(math.log10(point.peak_lr) / DECADES + 1) / 2 for point in points]
    shares = [(math.log(dict(point.settings)["warmup_share"]) - low) / (high - low) for point in points]
    unit = np.array([rates, shares]).T.clip(0, 1)
    generator = np.random.default_rng(0)
    chance = [qmc.discrepancy(generator.random((20, 2))) for _ in range(200)]
    assert qmc.discrepancy(unit) < np.quantile(chance, 0.05)


def test_all_recipes_are_given_the_same_learning_rates() -> None:
    for text in ("grid-7", "search-20"):
        tried = {tuple(p.peak_lr for p in Budget.parse(text).points(recipe, 0.1)) for recipe in RECIPES.values()}
        assert len(tried) == 1


def test_a_choice_at_the_edge_is_named() -> None:
    points = [Point(rate, (("share", share),)) for rate, share in [(1.0, 0.1), (2.0, 0.3), (3.0, 0.2)]]
    assert at_edge(points[0], points) == ("learning rate", "share")
    assert at_edge(points[1], points) == ("share",)
    assert at_edge(points[2], points) == ("learning rate",)
    assert at_edge(Point(2.0), [Point(1.0), Point(2.0), Point(3.0)]) == ()
    assert at_edge(Point(2.0), [Point(2.0)]) == ()


def test_the_centre_is_the_workloads_or_the_optimizers_in_the_recipes_measure() -> None:
    from dataclasses import replace

    plain = RECIPES["cosine"]
    tenfold = replace(plain, default_lrs={"sgd": 1.0})
    assert centre_of(plain, "sgd", 0.1, {}) == 0.1
    assert centre_of(tenfold, "sgd", 0.1, {}) == 1.0
    assert centre_of(plain, "sgd", 0.1, {"sgd": 0.03}) == 0.03
    assert centre_of(tenfold, "sgd", 0.1, {"sgd": 0.03}) == 0.3
