"""The statistics of a comparison, on plain arrays: intervals, learning-rate sensitivity, paired tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

CONFIDENCE = 0.95
"""Level of every interval."""

EXACT_SIGN_FLIPS = 16
"""Up to this many pairs all 2^n sign flips are enumerated."""

RANDOM_SIGN_FLIPS = 100_000
"""Beyond it, this many are drawn."""


class Interval(NamedTuple):
    """A mean and its t-interval; `low` and `high` are NaN for fewer than two values."""

    mean: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """A mean difference over pairs of equal seed, its t-interval, and the p-value of the sign-flip test."""

    mean: float
    low: float
    high: float
    p_value: float


def mean_interval(values: ArrayLike, *, confidence: float = CONFIDENCE) -> Interval:
    """Student's t-interval of a mean.

    A t-interval, not a bootstrap: at five values the percentile bootstrap covers 85 % where 95 % is asked for.

    Args:
        values: shape (n,), finite.
        confidence: in (0, 1).

    Raises:
        ValueError: no values, values that are not finite, or a confidence outside (0, 1).
    """
    sample = _sample("values", values)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    mean = float(sample.mean())
    if sample.size < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1.0 + confidence) / 2.0, sample.size - 1) * sample.std(ddof=1) / math.sqrt(sample.size))
    return Interval(mean, mean - half, mean + half)


def clip_losses(losses: ArrayLike, initial: ArrayLike) -> NDArray[np.float64]:
    """min(loss, loss at initialisation); a loss that is NaN or infinite counts as the loss at initialisation.

    So a diverged run is as bad as one that never learned, and not infinitely worse (Wortsman et al. 2023,
    arXiv:2309.14322, section 2.2).
    """
    bound = np.asarray(initial, dtype=np.float64)
    values = np.asarray(losses, dtype=np.float64)
    return np.minimum(np.where(np.isfinite(values), values, bound), bound)


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
    if not losses or len(losses) != len(initial):
        raise ValueError(
            f"losses and initial must have one entry a learning rate, got {len(losses)} and {len(initial)}"
        )
    means = []
    for values, bounds in zip(losses, initial, strict=True):
        if np.shape(values) != np.shape(bounds):
            raise ValueError(
                f"losses and initial must have equal shapes, got {np.shape(values)} and {np.shape(bounds)}"
            )
        means.append(float(_sample("losses", clip_losses(values, bounds)).mean()))
    return float(np.mean(means)) - min(means)


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


def sign_flip_test(differences: ArrayLike) -> float:
    """Two-sided p-value of the paired sign-flip permutation test on the mean.

    If neither recipe is better, each difference is as likely as its negative. All 2^n sign patterns are enumerated
    for n <= `EXACT_SIGN_FLIPS`; the least p-value there is 2 / 2^n (0.0625 for five seeds).

    Raises:
        ValueError: no differences, or some that are not finite.
    """
    sample = _sample("differences", differences)
    if sample.size <= EXACT_SIGN_FLIPS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=sample.size)))
    else:
        draws = np.random.default_rng(0).integers(0, 2, size=(RANDOM_SIGN_FLIPS, sample.size))
        # The observed pattern belongs to the reference set (Phipson & Smyth 2010), or p could be 0.
        signs = np.vstack([np.ones(sample.size), 2.0 * draws - 1.0])
    observed = abs(float(sample.sum()))
    rounding = 1e-12 * float(np.abs(sample).sum())
    return float(np.mean(np.abs(signs @ sample) >= observed - rounding))


def paired_difference(treated: ArrayLike, control: ArrayLike) -> PairedDifference:
    """Treated − control over pairs of equal seed.

    Args:
        treated: shape (n,), finite.
        control: shape (n,), finite, in the same order of seeds.

    Raises:
        ValueError: shapes that differ, no pairs, or values that are not finite.
    """
    first, second = _sample("treated", treated), _sample("control", control)
    if first.shape != second.shape:
        raise ValueError(f"treated and control must be pairs, got {first.size} and {second.size} values")
    differences = first - second
    return PairedDifference(*mean_interval(differences), sign_flip_test(differences))


def _sample(name: str, values: ArrayLike) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"{name} must be a non-empty sequence of numbers, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"{name} must be finite, got {sample.tolist()}")
    return sample
