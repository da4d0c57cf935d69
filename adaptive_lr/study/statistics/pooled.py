"""Many tasks in one number: interquartile mean, median, win rate and probability of improvement.

All are `resampling.Statistic`s: they take tasks of shape (..., methods, seeds) with scores of which higher is better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adaptive_lr.study.statistics.resampling import Array, Statistic

TRIMMED = 0.25
"""Share that the interquartile mean leaves out at either end."""


def interquartile_mean(tasks: Sequence[Array]) -> Array:
    """Mean of the middle half of all runs of all tasks, for each method (Agarwal et al. 2021, arXiv:2108.13264).

    The lowest and the highest ⌊n/4⌋ of n runs are left out: more robust than a mean, less wasteful than a median.

    Returns:
        Shape (..., methods).

    Raises:
        ValueError: no tasks.
    """
    _refuse_none(tasks)
    runs = np.sort(np.concatenate(tasks, axis=-1), axis=-1)
    cut = int(TRIMMED * runs.shape[-1])
    trimmed: Array = runs[..., cut : runs.shape[-1] - cut].mean(axis=-1)
    return trimmed


def median(tasks: Sequence[Array]) -> Array:
    """Median over tasks of the mean over seeds, for each method; shape (..., methods).

    Raises:
        ValueError: no tasks.
    """
    _refuse_none(tasks)
    middle: Array = np.median(np.stack([task.mean(axis=-1) for task in tasks], axis=-1), axis=-1)
    return middle


def win_rates(baseline: int) -> Statistic:
    """Share of pairs (equal task, equal seed) in which a method beats the baseline; a tie is half a win.

    Args:
        baseline: index of that method.

    Returns:
        A statistic of shape (..., methods); the baseline's own is 0.5. Tasks weigh the same, however many seeds.
    """

    def statistic(tasks: Sequence[Array]) -> Array:
        _refuse_none(tasks)
        return _mean([_wins(task, task[..., baseline, None, :]).mean(axis=-1) for task in tasks])

    return statistic


def probability_of_improvement(baseline: int) -> Statistic:
    """Probability that a run of a method beats a run of the baseline, of any seeds, on a task drawn at random.

    The mean over tasks of the Mann-Whitney U over the number of pairs of runs (Agarwal et al. 2021, section 4.3).

    Args:
        baseline: index of that method.

    Returns:
        A statistic of shape (..., methods); the baseline's own is 0.5.
    """

    def statistic(tasks: Sequence[Array]) -> Array:
        _refuse_none(tasks)
        shares = [_wins(task[..., :, None], task[..., baseline, None, None, :]).mean(axis=(-1, -2)) for task in tasks]
        return _mean(shares)

    return statistic


def normalise(costs: Array, initial: float, reference: float) -> Array:
    """Scores of costs (losses or errors): 0 where nothing was learned, 1 at the reference.

    (initial − min(cost, initial)) / (initial − reference); a cost that is not finite counts as `initial`. Above 1 is
    better than the reference.

    Raises:
        ValueError: the reference is no better than the start, so that there is no scale.
    """
    if not reference < initial:
        raise ValueError(f"reference must be below initial, got {reference} and {initial}")
    clipped = np.minimum(np.where(np.isfinite(costs), costs, initial), initial)
    scores: Array = (initial - clipped) / (initial - reference)
    return scores


def _refuse_none(tasks: Sequence[Array]) -> None:
    if not len(tasks):
        raise ValueError(f"tasks must not be empty, got {tasks!r}")


def _wins(treated: Array, control: Array) -> Array:
    """1 for a win, ½ for a tie, 0 for a loss; by comparing, since a difference of two infinities is none."""
    wins: Array = ((treated > control) + 0.5 * (treated == control)).astype(np.float64)
    return wins


def _mean(values: Sequence[Array]) -> Array:
    mean: Array = np.mean(np.stack(values), axis=0)
    return mean
