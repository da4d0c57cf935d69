"""Shares of runs: the interval's definition, by the binomial distribution itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaptive_lr.study.statistics import binomial_rate


def test_none_of_ten_and_all_of_ten() -> None:
    """The rule: 1 − 0.025^(1/10) = 0.308 is the upper bound of nothing in ten."""
    none, all_of_them = binomial_rate(0, 10), binomial_rate(10, 10)
    assert tuple(none) == pytest.approx((0.0, 0.0, 1 - 0.025**0.1))
    assert tuple(all_of_them) == pytest.approx((1.0, 0.025**0.1, 1.0))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.floats(0.02, 0.98))
def test_intervals_cover_at_least_as_often_as_they_say(total: int, chance: float) -> None:
    """Summed over all counts with their probabilities, without simulation."""
    covered = 0.0
    for count in range(total + 1):
        rate = binomial_rate(count, total)
        if rate.low <= chance <= rate.high:
            covered += stats.binom.pmf(count, total, chance)
    assert covered >= 0.95 - 1e-9


@pytest.mark.parametrize(("count", "total"), [(1, 0), (-1, 3), (4, 3)])
def test_counts_out_of_range_are_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="count must be from 0 to total"):
        binomial_rate(count, total)


@pytest.mark.parametrize(("count", "total", "name"), [(1.5, 3, "count"), (True, 3, "count"), (1, 3.0, "total")])
def test_counts_that_are_no_integers_are_refused(count: float, total: float, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer, got "):
        binomial_rate(count, total)  # type: ignore[arg-type]
