"""How much depends on the learning rate: Wortsman's sensitivity, and the width of the good stretch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from adaptive_lr.study.statistics.resampling import RESAMPLES, Array, bootstrap
from adaptive_lr.study.statistics.samples import CONFIDENCE, Interval, clip_losses, finite_sample


def lr_sensitivity(losses: Sequence[ArrayLike], initial: Sequence[ArrayLike]) -> float:
    """Learning-rate sensitivity: how much is lost, on average, by a peak that was not tuned.

    E over the grid of min(l(η), l₀) − l*, where l* is the least loss on the grid and l₀ the loss at initialisation
    (Wortsman et al. 2023, arXiv:2309.14322, section 2.2; their grid is seven points over three decades, uniform in
    log η). Over several seeds, l(η) is the mean of the clipped losses. It is blind to the level of the loss: a recipe
    that never learns scores 0, so read it beside the best loss.

    Args:
        losses: final validation losses, one sequence of seeds for each learning rate; NaN and inf allowed.
        initial: losses at initialisation, of the same shape.

    Raises:
        ValueError: nothing to average, or shapes that differ.
    """
    means = np.array([values.mean() for values in _clipped(losses, initial)])
    return float(np.mean(means - means.min()))  # of equal losses exactly 0


def lr_sensitivity_interval(
    losses: Sequence[ArrayLike],
    initial: Sequence[ArrayLike],
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Interval:
    """Learning-rate sensitivity with its bootstrap interval over seeds; `mean` is the sensitivity itself.

    Seeds are drawn for all learning rates at once, since runs of equal seed share their initial weights and batches.

    Args:
        losses: as for `lr_sensitivity`; the same seeds, in the same order, at every learning rate.
        initial: losses at initialisation, of the same shape.
        confidence: in (0, 1).
        resamples: >= 1.

    Raises:
        ValueError: as for `lr_sensitivity`, or numbers of seeds that differ.
    """
    values = _clipped(losses, initial)
    if len({len(of_one) for of_one in values}) != 1:
        raise ValueError(f"every learning rate must have the same seeds, got {[len(of_one) for of_one in values]}")

    def statistic(tasks: Sequence[Array]) -> Array:
        means = tasks[0].mean(axis=-1)
        sensitivity: Array = (means - means.min(axis=-1, keepdims=True)).mean(axis=-1)[..., None]
        return sensitivity

    estimates = bootstrap([np.stack(values)], statistic, confidence=confidence, resamples=resamples)
    return Interval(*(float(bound[0]) for bound in estimates))


def decades_within(learning_rates: ArrayLike, scores: ArrayLike, *, target: float, margin: float) -> float:
    """The widest stretch of neighbouring learning rates whose scores are at least target − margin, in decades.

    Args:
        learning_rates: shape (n,), ascending, > 0.
        scores: shape (n,); higher is better.
        target: the score to come near to.
        margin: how near.

    Returns:
        log10(highest / lowest) of the stretch: 0 if it is a single point, NaN if no point is near enough.
    """
    rates = np.asarray(learning_rates, dtype=np.float64)
    # One part in 10⁹ of slack, so that a score exactly at the margin is not lost to rounding.
    near = np.asarray(scores, dtype=np.float64) >= target - margin - 1e-9
    widest, start = math.nan, None
    for index, inside in enumerate(near):
        start = (index if start is None else start) if inside else None
        if start is not None:
            width = math.log10(rates[index] / rates[start])
            widest = width if math.isnan(widest) else max(widest, width)
    return widest


def _clipped(losses: Sequence[ArrayLike], initial: Sequence[ArrayLike]) -> list[Array]:
    if not losses or len(losses) != len(initial):
        raise ValueError(
            f"losses and initial must have one entry a learning rate, got {len(losses)} and {len(initial)}"
        )
    clipped = []
    for values, bounds in zip(losses, initial, strict=True):
        if np.shape(values) != np.shape(bounds):
            raise ValueError(
                f"losses and initial must have equal shapes, got {np.shape(values)} and {np.shape(bounds)}"
            )
        clipped.append(finite_sample("losses", clip_losses(values, bounds)))
    return clipped
