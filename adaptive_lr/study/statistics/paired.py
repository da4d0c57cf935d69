"""Pairs of runs that share a seed: differences, wins, the exact sign-flip test, and Holm's correction."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive_lr.study.statistics.samples import finite_sample, mean_interval

EXACT_SIGN_FLIPS = 16
"""Up to this many pairs all 2^n sign flips are enumerated."""

RANDOM_SIGN_FLIPS = 100_000
"""Beyond it, this many are drawn."""


class PairedDifference(NamedTuple):
    """A mean difference over pairs of equal seed, its t-interval, and the p-value of the sign-flip test."""

    mean: float
    low: float
    high: float
    p_value: float


def paired_difference(treated: ArrayLike, control: ArrayLike) -> PairedDifference:
    """Treated − control over pairs of equal seed.

    Args:
        treated: shape (n,), finite.
        control: shape (n,), finite, in the same order of seeds.

    Raises:
        ValueError: shapes that differ, no pairs, or values that are not finite.
    """
    differences = _differences(treated, control)
    return PairedDifference(*mean_interval(differences), sign_flip_test(differences))


def win_rate(treated: ArrayLike, control: ArrayLike) -> float:
    """Share of pairs in which the treated value is the higher one; a tie is half a win.

    Args:
        treated: shape (n,), finite; higher is better.
        control: shape (n,), finite, in the same order of seeds.

    Raises:
        ValueError: shapes that differ, no pairs, or values that are not finite.
    """
    return float(np.mean((np.sign(_differences(treated, control)) + 1.0) / 2.0))


def sign_flip_test(differences: ArrayLike) -> float:
    """Two-sided p-value of the paired sign-flip permutation test on the mean.

    If neither recipe is better, each difference is as likely as its negative. All 2^n sign patterns are enumerated
    for n <= `EXACT_SIGN_FLIPS`; the least p-value there is 2 / 2^n (0.0625 for five seeds).

    Raises:
        ValueError: no differences, or some that are not finite.
    """
    sample = finite_sample("differences", differences)
    if sample.size <= EXACT_SIGN_FLIPS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=sample.size)))
    else:
        draws = np.random.default_rng(0).integers(0, 2, size=(RANDOM_SIGN_FLIPS, sample.size))
        # The observed pattern belongs to the reference set (Phipson & Smyth 2010), or p could be 0.
        signs = np.vstack([np.ones(sample.size), 2.0 * draws - 1.0])
    observed = abs(float(sample.sum()))
    rounding = 1e-12 * float(np.abs(sample).sum())
    return float(np.mean(np.abs(signs @ sample) >= observed - rounding))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment (1979): rejecting where adjusted p <= α keeps the family's error rate at most α.

    The i-th smallest of m p-values is multiplied by m − i + 1; adjusted values never fall, and none is above 1.

    Args:
        p_values: shape (m,), in [0, 1]; of one family, stated beforehand. May be empty.

    Returns:
        The adjusted values in the order given.

    Raises:
        ValueError: not a sequence, or a value outside [0, 1].
    """
    family = np.asarray(p_values, dtype=np.float64)
    if family.ndim != 1 or not ((family >= 0.0) & (family <= 1.0)).all():
        raise ValueError(f"p_values must be a sequence of numbers in [0, 1], got {family.tolist()}")
    order = np.argsort(family, kind="stable")
    adjusted = np.empty_like(family)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(family[order] * np.arange(family.size, 0, -1)))
    return adjusted


def _differences(treated: ArrayLike, control: ArrayLike) -> NDArray[np.float64]:
    first, second = finite_sample("treated", treated), finite_sample("control", control)
    if first.shape != second.shape:
        raise ValueError(f"treated and control must be pairs, got {first.size} and {second.size} values")
    return first - second
