"""Time to a target, where runs that never reach it are censored and not left out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from adaptive_lr.study.statistics.samples import CONFIDENCE, check_confidence, finite_sample

Array = NDArray[np.float64]


class Survival(NamedTuple):
    """The Kaplan-Meier estimate: `share` of runs still short of the target after `steps`, each of shape (k,).

    A step function, continuous from the right: 1 before `steps[0]`, `share[i]` from `steps[i]` on.
    """

    steps: Array
    share: Array


class RestrictedMean(NamedTuple):
    """Mean steps to the target within a horizon, and its t-interval; NaN bounds for a single run."""

    mean: float
    low: float
    high: float


def steps_to_target(evaluations: Iterable[tuple[int, float]], target: float) -> float:
    """Steps after which a loss is at the target or below it for the first time; inf if it never is.

    Args:
        evaluations: (steps done, loss), in the order of steps; a loss may be NaN.
        target: the loss to reach.
    """
    return next((float(step) for step, loss in evaluations if loss <= target), math.inf)


def kaplan_meier(times: ArrayLike, reached: ArrayLike) -> Survival:
    """Share of runs that have not reached a target yet, over steps (Kaplan & Meier 1958).

    Args:
        times: shape (n,), finite, >= 0: steps to the target, or those that were watched in vain.
        reached: shape (n,), bool.

    Raises:
        ValueError: no times, times that are not finite or below 0, or shapes that differ.
    """
    sample, observed = _censored("times", times, reached)
    sf = stats.ecdf(_data(sample, observed)).sf
    return Survival(np.asarray(sf.quantiles, dtype=np.float64), np.asarray(sf.probabilities, dtype=np.float64))


def median_steps(survival: Survival) -> float:
    """The first step after which at most half of the runs are still short of the target; inf where there is none."""
    there = survival.steps[survival.share <= 0.5 + 1e-12]  # shares are products, and half is one to rounding
    return float(there[0]) if there.size else math.inf


def restricted_mean(
    times: ArrayLike, reached: ArrayLike, horizon: float, *, confidence: float = CONFIDENCE
) -> RestrictedMean:
    """Mean of min(steps to the target, horizon): the area under the Kaplan-Meier curve up to the horizon.

    The variance is Greenwood's, Σ A(tᵢ)² dᵢ / (nᵢ (nᵢ − dᵢ)), A(t) being the area from t to the horizon (Klein &
    Moeschberger 2003, equation 4.5.2), times n/(n − 1) and with Student's quantile: where no run is censored before
    the horizon, the interval is exactly the t-interval of min(steps, horizon).

    Args:
        times: as for `kaplan_meier`.
        reached: as for `kaplan_meier`.
        horizon: > 0, steps; runs censored before it lend their share to those that go on.
        confidence: in (0, 1).

    Raises:
        ValueError: as for `kaplan_meier`, or a setting out of range.
    """
    sample, observed = _censored("times", times, reached)
    check_confidence(confidence)
    if not (math.isfinite(horizon) and horizon > 0.0):
        raise ValueError(f"horizon must be finite and > 0, got {horizon}")
    observed = observed & (sample <= horizon)
    steps = np.unique(sample[observed])
    at_risk = (sample[None, :] >= steps[:, None]).sum(axis=1)
    deaths = ((sample[None, :] == steps[:, None]) & observed[None, :]).sum(axis=1)
    share = np.cumprod(1.0 - deaths / at_risk)
    edges = np.concatenate([[0.0], steps, [horizon]])
    areas = np.concatenate([[1.0], share]) * np.diff(edges)
    mean = float(areas.sum())
    if sample.size < 2:
        return RestrictedMean(mean, math.nan, math.nan)
    beyond = areas[::-1].cumsum()[::-1][1:]
    some_left = at_risk > deaths  # after the last one A is 0, and so is its term
    terms = beyond[some_left] ** 2 * deaths[some_left] / (at_risk[some_left] * (at_risk - deaths)[some_left])
    error = math.sqrt(float(terms.sum()) * sample.size / (sample.size - 1))
    half = float(stats.t.ppf((1.0 + confidence) / 2.0, sample.size - 1)) * error
    return RestrictedMean(mean, mean - half, mean + half)


def logrank_test(times: ArrayLike, reached: ArrayLike, other_times: ArrayLike, other_reached: ArrayLike) -> float:
    """Two-sided p-value of the log-rank test that two methods reach a target equally fast (Mantel 1966).

    It does not use that seeds are paired, and where no run of either reaches the target it is 1: nothing was seen. The
    test is asymptotic: of three runs each, all of one before all of the other, it gives 0.02 to 0.03, where every
    order of six runs gives 2/20.

    Raises:
        ValueError: as for `kaplan_meier`, for either.
    """
    first = _censored("times", times, reached)
    second = _censored("other_times", other_times, other_reached)
    if not (first[1].any() or second[1].any()):
        return 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        p_value = float(stats.logrank(_data(*first), _data(*second)).pvalue)
    return 1.0 if math.isnan(p_value) else p_value  # no variance: every run ended at the one step


def _censored(name: str, times: ArrayLike, reached: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    sample = finite_sample(name, times)
    if (sample < 0.0).any():
        raise ValueError(f"{name} must be >= 0, got {sample.tolist()}")
    observed = np.asarray(reached, dtype=bool)
    if observed.shape != sample.shape:
        raise ValueError(f"{name} and reached must have equal shapes, got {sample.shape} and {observed.shape}")
    return sample, observed


def _data(sample: Array, observed: NDArray[np.bool_]) -> stats.CensoredData:
    return stats.CensoredData(uncensored=sample[observed], right=sample[~observed])
