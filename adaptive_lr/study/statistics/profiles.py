"""Profiles over tasks: Dolan and Moré's performance profile, AlgoPerf's score of it, and the distribution of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from adaptive_lr.study.statistics.resampling import Array, Statistic

MAX_RATIO = 4.0
"""r_max: from this many times the best time on, a method counts as not having solved a task (AlgoPerf's rules)."""


def performance_ratios(times: ArrayLike) -> Array:
    """r: a method's time on a task over the best method's time there (Dolan & Moré 2002, equation 2.1).

    They are relative to the methods at hand: another method may change the order of the others.

    Args:
        times: shape (..., methods, tasks), > 0; inf where a target was missed.

    Returns:
        The same shape, >= 1; inf where a target was missed, also if all methods missed it.

    Raises:
        ValueError: a time that is NaN or not > 0.
    """
    measured = np.asarray(times, dtype=np.float64)
    if not (measured > 0.0).all():
        raise ValueError("times must be > 0, inf where a target was missed")
    best = measured.min(axis=-2, keepdims=True)
    ratios: Array = np.divide(measured, best, out=np.full_like(measured, np.inf), where=np.isfinite(measured))
    return ratios


def performance_profile(ratios: ArrayLike, taus: ArrayLike) -> Array:
    """ρ(τ): the share of tasks on which a method needs at most τ times the best time.

    Args:
        ratios: shape (..., methods, tasks); see `performance_ratios`.
        taus: shape (k,), >= 1.

    Returns:
        Shape (..., methods, k).
    """
    solved = np.asarray(ratios, dtype=np.float64)[..., None] <= np.asarray(taus, dtype=np.float64)
    profile: Array = solved.mean(axis=-2)
    return profile


def benchmark_score(ratios: ArrayLike, *, max_ratio: float = MAX_RATIO) -> Array:
    """B: the area under the performance profile from 1 to r_max, over r_max − 1 (Dahl et al. 2023, arXiv:2306.07179).

    The profile is a step function, so the integral is exactly the mean over tasks of max(0, r_max − r) / (r_max − 1).

    Args:
        ratios: shape (..., methods, tasks).
        max_ratio: r_max > 1.

    Returns:
        Shape (..., methods), in [0, 1]: 1 is the fastest on every task, 0 slower than r_max or missed everywhere.

    Raises:
        ValueError: r_max is not above 1.
    """
    if not max_ratio > 1.0:
        raise ValueError(f"max_ratio must be > 1, got {max_ratio}")
    score: Array = (np.maximum(0.0, max_ratio - np.asarray(ratios, dtype=np.float64)) / (max_ratio - 1.0)).mean(axis=-1)
    return score


def median_times(tasks: Sequence[Array]) -> Array:
    """Median time over seeds of every method on every task, misses (inf) among them; shape (..., methods, tasks)."""
    # Not numpy's median: halfway between a time and a miss it is a miss, between two misses NaN.
    ordered = [np.sort(task, axis=-1) for task in tasks]
    middles = [(task.shape[-1] - 1) // 2 for task in ordered]
    pairs = [(task[..., low], task[..., task.shape[-1] // 2]) for task, low in zip(ordered, middles, strict=True)]
    times: Array = np.stack([0.5 * low + 0.5 * high for low, high in pairs], axis=-1)
    return times


def profile_of_times(taus: ArrayLike) -> Statistic:
    """A statistic of times to target: the performance profile at `taus`, flattened to (..., methods × k)."""

    def statistic(tasks: Sequence[Array]) -> Array:
        profile = performance_profile(performance_ratios(median_times(tasks)), taus)
        return profile.reshape(*profile.shape[:-2], -1)

    return statistic


def score_of_times(tasks: Sequence[Array]) -> Array:
    """A statistic of times to target: the benchmark score, shape (..., methods)."""
    return benchmark_score(performance_ratios(median_times(tasks)))


def score_distribution(taus: ArrayLike) -> Statistic:
    """The share of runs that score above τ, tasks weighing the same (Agarwal et al. 2021, section 4.2).

    Args:
        taus: shape (k,).

    Returns:
        A statistic of scores, flattened to (..., methods × k).
    """
    thresholds = np.asarray(taus, dtype=np.float64)

    def statistic(tasks: Sequence[Array]) -> Array:
        shares = np.mean(np.stack([(task[..., None] > thresholds).mean(axis=-2) for task in tasks]), axis=0)
        flat: Array = shares.reshape(*shares.shape[:-2], -1)
        return flat

    return statistic
