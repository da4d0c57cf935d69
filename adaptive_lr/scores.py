"""Scores of a gradient norm and of a loss: how far each stands from what its past lets expect, in its own noise."""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple

from adaptive_lr_kernels.norm_law import LARGEST_LOG, NormLaw, squares_within

NORM_WARMUP = 16
"""Norms, or losses, to see before one is judged."""

NORM_SPREAD_FLOOR = 0.35
"""Least standard deviation of log-norms: norms that hardly vary (0.2 on a language model) still bring single batches of
three to four times the usual norm, which do no harm. With it no norm is damped below four times what was expected, and
none skipped below eight times."""

NORM_LAW = NormLaw(
    warmup=NORM_WARMUP,
    spread_floor=NORM_SPREAD_FLOOR,
    bound=2.0,
    least_memory=8.0,
    level_memory=32.0,
    level_share=12.0,
    scale_memory=256.0,
    scale_share=3.0,
    trend=1.0 / 64.0,
    adopt_after=16,
)
"""What a norm is judged by. Chosen on the recorded norms of eleven workloads and on log-normal ones
(`experiments/results/comparison_notes.md`, "What a norm is judged against"); none of them matters much:

- `bound`: with errors cut at two standard deviations, spikes in up to a fifth of the steps cannot hide one another.
- `least_memory`, `level_memory`, `level_share`: the level follows the last twelfth of the steps so far, from 8 to 32 of
  them: norms fall fast at the start of a run and slowly later.
- `scale_memory`, `scale_share`: the scale is that of the last third of the steps so far, at most of 256: it forgets the
  start, and later is known within 4 %, so that of norms of spread 0.5 those ten times the median pass a score of 4.
- `trend`: the slope follows over 64 memories of the level, slow enough to add nothing to the noise of the level.
- `adopt_after`: this many norms in a row beyond the bound on one side are a new level, not spikes: the past counts as
  little as after the warm-up, and the new level is adopted within ten further steps.
"""

LOSS_WINDOW = 128
"""Losses against which one is judged."""

LOSS_SPREAD_FLOOR = 1e-3
"""Least standard deviation of losses, as a share of their median: a loss that stands still has none of its own."""

_NORMAL_IQR = 1.3489795003921634  # interquartile range of the standard normal distribution
_WITHIN = squares_within(NORM_LAW.bound)


class NormPast(NamedTuple):
    """What a gradient norm is judged against: the log-norm to expect, and the spread of the errors of expecting it.

    Log, because norms are close to log-normal, so that heavy right tails are not taken for spikes. The expectation
    follows a slope, because norms fall through most of training, by a factor of a hundred in some runs, and what they
    fall by is not what they vary by. Each error counts up to a bound, so that one spike can neither hide the next nor
    move the expectation far. Norms that are 0 or not finite never enter.
    """

    known: int = 0  # norms that memory reaches back over at most
    expected: float = 0.0  # log-norm of the next step
    slope: float = 0.0  # change of the log-norm per step
    variance: float = 0.0  # of the errors
    streak: int = 0  # errors in a row beyond the bound; below 0 where they are below it

    @classmethod
    def of(cls, values: Sequence[float]) -> NormPast:
        """From plain numbers, in the order of the fields.

        Raises:
            ValueError: they are not as many as there are fields.
        """
        if len(values) != len(cls._fields):
            raise ValueError(f"norms must be {len(cls._fields)} numbers ({', '.join(cls._fields)}), got {values}")
        known, expected, slope, variance, streak = values
        return cls(int(known), expected, slope, variance, int(streak))


def score_norm(past: NormPast, norm: float) -> tuple[NormPast, dict[str, float]]:
    """Score a gradient norm against the ones before it, then take it in.

    The law is stated in `adaptive_lr_kernels.reflex`, which has it for a device.

    Args:
        past: the norms before.
        norm: an L2 norm; may be 0, inf or NaN.

    Returns:
        The next past, and `grad_score` (robust standard deviations of the log-norm above the one expected; +inf for a
        non-finite norm, 0 while fewer than `NORM_WARMUP` norms are known and for a zero norm), `grad_typical` (the norm
        expected) and `grad_spread` (the spread of log-norms about it, at least `NORM_SPREAD_FLOOR`, larger while few
        norms are known).
    """
    known, expected, _, variance, _ = past
    deviation = max(math.sqrt(variance), NORM_SPREAD_FLOOR)
    judged = known >= NORM_WARMUP
    spread = deviation * (1.0 + 2.0 / known) if judged else NORM_SPREAD_FLOOR
    typical = math.exp(min(expected, LARGEST_LOG)) if judged else norm
    if not math.isfinite(norm):
        typical = typical if judged else math.nan
        return past, {"grad_score": math.inf, "grad_typical": typical, "grad_spread": spread}
    score = 0.0
    if norm > 0.0:
        value = math.log(norm)
        if judged:
            score = (value - expected) / spread
        past = _taken_in(past, value, deviation)
    return past, {"grad_score": score, "grad_typical": typical, "grad_spread": spread}


def _taken_in(past: NormPast, value: float, deviation: float) -> NormPast:
    """The past with one log-norm more."""
    known, expected, slope, variance, streak = past
    if known == 0:
        return NormPast(1, value, slope, variance, streak)
    known += 1
    bound = NORM_LAW.bound * deviation
    error = min(max(value - expected, -bound), bound)
    side = (error >= bound) - (error <= -bound)
    streak = streak + side if streak * side > 0 else side
    step = error / min(known, max(NORM_LAW.least_memory, min(known / NORM_LAW.level_share, NORM_LAW.level_memory)))
    slope += NORM_LAW.trend * step
    variance += (error * error / _WITHIN - variance) / max(
        1.0, min(known / NORM_LAW.scale_share, NORM_LAW.scale_memory)
    )
    if abs(streak) >= NORM_LAW.adopt_after:
        known, streak = NORM_LAW.warmup, 0
    return NormPast(known, expected + step + slope, slope, variance, streak)


class LossPast(NamedTuple):
    """What a training loss is judged against: the median and the interquartile range of the last finite losses.

    Quartiles, because one spike then cannot hide the next (a mean and a deviation that hold the spike would).
    """

    window: tuple[float, ...] = ()  # losses in order of arrival, at most LOSS_WINDOW
    ordered: tuple[float, ...] = ()  # the same in ascending order, so that no step has to sort


def score_loss(past: LossPast, loss: float) -> tuple[LossPast, dict[str, float]]:
    """Score a training loss against the ones before it, then take it in.

    Args:
        past: the losses before.
        loss: any number; one that is not finite scores +inf and is not taken in.

    Returns:
        The next past, and `loss_score` (robust standard deviations above the median; 0 while fewer than `NORM_WARMUP`
        losses are known), `loss_typical` (the median; the loss itself before) and `loss_spread` (the scale, at least
        `LOSS_SPREAD_FLOOR` of the median; NaN before).
    """
    window, ordered = past
    if len(ordered) != len(window):
        ordered = tuple(sorted(window))
    count = len(window)
    finite = math.isfinite(loss)
    score = 0.0 if finite else math.inf
    if count < NORM_WARMUP:
        typical, spread = (loss if finite else math.nan), math.nan
    else:
        typical = _quantile(ordered, 0.5)
        iqr = _quantile(ordered, 0.75) - _quantile(ordered, 0.25)
        floor = max(LOSS_SPREAD_FLOOR * abs(typical), sys.float_info.min)
        spread = max(iqr / _NORMAL_IQR, floor) * (1.0 + 8.0 / count)
        if finite:
            score = (loss - typical) / spread
    if finite:
        past = _take_in(window, ordered, loss)
    return past, {"loss_score": score, "loss_typical": typical, "loss_spread": spread}


def _take_in(window: tuple[float, ...], ordered: tuple[float, ...], value: float) -> LossPast:
    """The newest value in, the oldest out where the window is full."""
    ascending = list(ordered)
    if len(window) >= LOSS_WINDOW:
        del ascending[bisect_left(ascending, window[0])]
    insort(ascending, value)
    return LossPast((*window[-(LOSS_WINDOW - 1) :], value), tuple(ascending))


def _quantile(ordered: tuple[float, ...], q: float) -> float:
    """Quantile by linear interpolation (numpy's default) of values in ascending order."""
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])
