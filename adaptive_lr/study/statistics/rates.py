"""Shares of runs, such as of those that diverged, with exact binomial intervals."""

from __future__ import annotations

import operator
from typing import NamedTuple

from scipy import stats

from adaptive_lr.study.statistics.samples import CONFIDENCE, check_confidence


class Rate(NamedTuple):
    """A share of runs and its exact interval."""

    share: float
    low: float
    high: float


def binomial_rate(count: int, total: int, *, confidence: float = CONFIDENCE) -> Rate:
    """The share count / total and its interval of Clopper and Pearson (1934), which never covers less than it says.

    Args:
        count: 0 to `total`.
        total: >= 1.
        confidence: in (0, 1).

    Raises:
        TypeError: a count that is no integer.
        ValueError: something is out of range.
    """
    check_confidence(confidence)
    for name, number in (("count", count), ("total", total)):
        if isinstance(number, bool):
            raise TypeError(f"{name} must be an integer, got {number!r}")
        try:
            operator.index(number)
        except TypeError:
            raise TypeError(f"{name} must be an integer, got {number!r}") from None
    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"count must be from 0 to total, and total >= 1, got {count} and {total}")
    interval = stats.binomtest(count, total).proportion_ci(confidence, method="exact")
    return Rate(count / total, float(interval.low), float(interval.high))
