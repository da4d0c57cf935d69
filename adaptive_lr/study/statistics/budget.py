"""What tuning buys: the expected best of k settings, from one search."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from adaptive_lr.study.statistics.resampling import Array
from adaptive_lr.study.statistics.samples import CONFIDENCE, check_confidence, finite_sample


class TuningCurve(NamedTuple):
    """The expected least loss after 1, 2, ..., n settings, and a band around it, each of shape (n,)."""

    expected: Array
    low: Array
    high: Array


def expected_best(losses: ArrayLike) -> Array:
    """Expected least loss of k settings drawn from those of one search without replacement, for k = 1 to n.

    The i-th smallest of n is the least of k in C(n − i, k − 1) of the C(n, k) ways to choose them; the mean over all
    orders in which the same search could have been carried out (Sivaprasad et al. 2020, arXiv:1910.11758, shuffle).

    Args:
        losses: shape (n,), finite: one for each setting; clip those of diverged runs.

    Returns:
        Shape (n,), never rising; the first is the mean, the last the least.

    Raises:
        ValueError: no losses, or losses that are not finite.
    """
    ordered = np.sort(finite_sample("losses", losses))
    count = ordered.size
    expected = np.empty(count)
    weights = np.full(count, 1.0 / count)  # of the order statistics for k = 1
    for k in range(1, count + 1):
        expected[k - 1] = weights @ ordered
        if k < count:
            # C(n−i, k) / C(n, k+1) over C(n−i, k−1) / C(n, k) = (n−i−k+1)(k+1) / (k (n−k)); i from 1
            remaining = count - np.arange(1, count + 1) - k + 1
            weights = weights * np.maximum(remaining, 0) * (k + 1) / (k * (count - k))
    return expected


def tuning_curve(losses: ArrayLike, *, support: tuple[float, float], confidence: float = CONFIDENCE) -> TuningCurve:
    """The expected best of k of one search of n settings drawn at random, with a band that holds for all k at once.

    The band is exact for any distribution of losses: the distribution function lies within the Kolmogorov-Smirnov
    distance d of the empirical one with the confidence asked for, and the expected best of k settings, drawn from the
    distribution anew, is the integral of (1 − F)^k. It is wide (at 20 settings d is 0.29); a bootstrap of the search
    would be narrower and wrong, since it never draws a better loss than it has seen (Lourie et al. 2024,
    arXiv:2311.09480).

    Args:
        losses: shape (n,), finite, within the support.
        support: least and greatest loss possible, such as 0 and the loss at initialisation.
        confidence: in (0, 1).

    Raises:
        ValueError: no losses, a support whose bounds are not finite and ascending, losses outside it, or a confidence
            outside (0, 1).
    """
    check_confidence(confidence)
    ordered = np.sort(finite_sample("losses", losses))
    least, greatest = support
    if not (math.isfinite(least) and math.isfinite(greatest) and least <= greatest):
        raise ValueError(f"support must be two finite numbers, the least loss first, got {support}")
    if not least <= ordered[0] <= ordered[-1] <= greatest:
        raise ValueError(f"losses must lie within the support {support}, got {ordered[0]} to {ordered[-1]}")
    count = ordered.size
    distance = float(stats.kstwo.ppf(confidence, count))
    edges = np.concatenate([[least], ordered, [greatest]])
    empirical = np.arange(count + 1) / count
    powers = np.arange(1, count + 1)[:, None]

    def best(distribution: Array) -> Array:
        expected: Array = least + ((1.0 - distribution) ** powers) @ np.diff(edges)
        return expected

    low = best(np.minimum(1.0, empirical + distance))
    high = best(np.maximum(0.0, empirical - distance))
    return TuningCurve(expected_best(ordered), low, high)
