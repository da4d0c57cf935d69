"""What the curve of a range test suggests: the classic rules, each exactly as published, and an interval.

Pure functions of `lrs`, the learning rates of a sweep in ascending order, and `losses`, the loss at each of them. A
rule is published with a smoothing and with ends that it leaves out; `classic` applies both. Where a rule has nothing to
say it gives None: on a curve that is too short for it, and on one that never falls.

Sources:
    valley, slide, minimum: fastai, `fastai/callback/schedule.py` (Howard & Gugger 2020, arXiv:2002.04688).
    steepest: pytorch-lr-finder, `LRFinder.plot`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive_lr.series import LARGEST_VALUE

Curve = Sequence[float] | NDArray[np.float64]

FASTAI_MEMORY = 0.98
FASTAI_SKIP_END = 5
"""fastai leaves out the first tenth of the planned steps and the last five losses."""

LR_FINDER_MEMORY = 0.95
LR_FINDER_SKIP = (10, 5)
"""Losses that pytorch-lr-finder leaves out at the start and at the end."""

LR_FINDER_LEAST = 17
"""Losses without which it suggests nothing."""

SLIDE_WIDTH = 15
SLIDE_THRESHOLD = 0.005
"""Steps between the two slopes that fastai's slide compares, and the difference in loss per step at which it stops."""

ROUNDING = 1e-12
"""Relative differences up to this are rounding."""

HALF_WIDTH_DECADES = 1.0 / 3.0
LEAST_HALF_WIDTH = 3
"""Half the width of the window of `centred_mean`, in decades of the learning rate; at least so many steps."""

NUM_START = 5
"""Losses whose mean is the start of the curve: a sweep begins where the learning rate still does nothing."""

FALL_BEGUN = 0.1
"""Share of the whole fall at which the interval begins."""

LEAST_FALL = 3.0
"""Standard deviations of a single loss that the fall must exceed. In flat noise the lowest of 100 smoothed losses lies
0.9 below the start in the mean, and 2.1 in one curve of a hundred."""


def classic(lrs: Curve, losses: Curve, *, steps: int) -> dict[str, float | None]:
    """The four classic suggestions, each from its own published smoothing of the raw losses.

    Args:
        lrs: learning rate of each update, ascending.
        losses: raw loss of each update; the sweep may have ended before `steps`.
        steps: updates that the sweep was planned to have.

    Returns:
        `steepest`, `valley`, `slide` and `minimum` (a tenth of where the loss is lowest), each a learning rate or None.

    Raises:
        ValueError: `lrs` and `losses` differ in length, or `lrs` is not positive and ascending.
    """
    rates, values = _curve(lrs, losses)
    fastai = _cut(rates, bias_corrected_mean(values, FASTAI_MEMORY), steps // 10, FASTAI_SKIP_END)
    suggestions: dict[str, float | None] = {"steepest": None}
    if len(rates) >= LR_FINDER_LEAST:
        suggestions["steepest"] = steepest(*_cut(rates, plain_mean(values, LR_FINDER_MEMORY), *LR_FINDER_SKIP))
    return {**suggestions, "valley": valley(*fastai), "slide": slide(*fastai), "minimum": minimum(*fastai)}


# ---------------------------------------------------------------- the rules, on a curve already smoothed


def steepest(lrs: Curve, losses: Curve) -> float | None:
    """Where the loss falls fastest per log learning rate: argmin of dL / d ln lr by central differences.

    On a geometric ladder this is pytorch-lr-finder's ``argmin(np.gradient(losses))``.
    """
    rates, values = _curve(lrs, losses)
    if not _falls(values):
        return None
    return float(rates[np.argmin(np.gradient(values, np.log(rates)))])


def valley(lrs: Curve, losses: Curve) -> float | None:
    """About the middle of the longest descent (fastai's default).

    The descent is the longest strictly falling *subsequence*; its length is then used as if it were contiguous, and of
    its three sections the middle of the second is taken, rounded down twice.
    """
    rates, values = _curve(lrs, losses)
    if not _falls(values):
        return None
    lengths = np.ones(len(values), dtype=np.int64)  # of the longest falling subsequence that ends here
    for index in range(1, len(values)):
        above = lengths[:index][values[:index] > values[index]]
        if above.size:
            lengths[index] = above.max() + 1
    end = int(np.argmax(lengths))
    start = end - int(lengths[end])  # -1 where the whole beginning falls: as published
    sections = (end - start) / 3
    return float(rates[start + int(sections) + int(sections / 2)])


def slide(lrs: Curve, losses: Curve) -> float | None:
    """Slides down from the end while two slopes, 15 steps apart, differ by more than 0.005 in loss per step."""
    rates, values = _curve(lrs, losses)
    if len(values) <= SLIDE_WIDTH or not _falls(values):
        return None
    slopes = np.gradient(values)
    right = len(values) - 1
    left = right - SLIDE_WIDTH
    found = rates[left]
    while left >= 0 and abs(slopes[right] - slopes[left]) > SLIDE_THRESHOLD:
        found = rates[left]
        right, left = right - 1, left - 1
    return float(found)


def minimum(lrs: Curve, losses: Curve) -> float | None:
    """A tenth of the learning rate at which the loss is lowest."""
    rates, values = _curve(lrs, losses)
    return float(rates[np.argmin(values)]) / 10.0 if _falls(values) else None


# ---------------------------------------------------------------- smoothing


def bias_corrected_mean(losses: Curve, memory: float) -> NDArray[np.float64]:
    """The smoothed loss of fastai: m ← memory · m + (1 - memory) · loss from m = 0, divided by 1 - memoryⁿ."""
    return _running(losses, lambda mean, loss, _: memory * mean + (1.0 - memory) * loss) / (
        1.0 - memory ** np.arange(1.0, len(losses) + 1.0)
    )


def plain_mean(losses: Curve, memory: float) -> NDArray[np.float64]:
    """The smoothed loss of pytorch-lr-finder: the first loss as it is, then memory · before + (1 - memory) · loss."""
    return _running(losses, lambda mean, loss, first: loss if first else (1.0 - memory) * loss + memory * mean)


def centred_mean(lrs: Curve, losses: Curve) -> NDArray[np.float64]:
    """Losses averaged over a third of a decade to either side, the near ones more (a triangle), on a geometric ladder.

    It looks both ways, so that it does not lag behind the curve as running means do. A loss that is not finite is left
    out, and its own place is NaN.
    """
    rates, values = _curve(lrs, losses)
    usable = _usable(values)
    if len(values) < 2:
        return np.where(usable, values, np.nan)
    steps_per_decade = (len(rates) - 1) / math.log10(rates[-1] / rates[0])
    half_width = max(LEAST_HALF_WIDTH, round(HALF_WIDTH_DECADES * steps_per_decade))
    weights = 1.0 - np.abs(np.arange(1 - half_width, half_width)) / half_width

    def spread(given: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.convolve(given, weights)[half_width - 1 : half_width - 1 + len(given)]

    means = spread(np.where(usable, values, 0.0)) / np.maximum(spread(usable.astype(np.float64)), weights[0])
    return np.where(usable, means, np.nan)


# ---------------------------------------------------------------- the interval


def interval(lrs: Curve, losses: Curve) -> tuple[float, float] | None:
    """The learning rates between which the loss falls, read off the `centred_mean` of the raw losses.

    It begins where a tenth of the whole fall is made (for the last time before the lowest point, interpolated in log
    learning rate) and ends at the lowest point: below, a sweep of this length does not learn; above, the loss rises.
    It brackets the peak to choose, it does not promise that all in it are good: a sweep passes a learning rate before
    it breaks at it, so a whole run at the upper end may fail, and one at the lower end may not be finished.

    Returns:
        (low, high), low < high; None where the loss is flat: its fall below the mean of the first five is within three
        standard deviations of a single loss. The deviation is the median one of second differences, in which neither
        a trend nor the final rise counts.
    """
    rates, values = _cut(*_curve(lrs, losses), 0, 0)
    if len(values) < 3:
        return None
    smoothed = centred_mean(rates, values)
    start = float(np.mean(values[:NUM_START]))
    lowest = int(np.argmin(smoothed))
    fall = start - float(smoothed[lowest])
    if lowest == 0 or fall <= max(LEAST_FALL * _deviation(values), ROUNDING * abs(start)):
        return None
    bar = start - FALL_BEGUN * fall
    above = np.flatnonzero(smoothed[:lowest] >= bar)
    if not above.size:
        return float(rates[0]), float(rates[lowest])
    before, after = int(above[-1]), int(above[-1]) + 1
    share = float((smoothed[before] - bar) / (smoothed[before] - smoothed[after]))
    return float(rates[before] * (rates[after] / rates[before]) ** share), float(rates[lowest])


def _deviation(values: NDArray[np.float64]) -> float:
    """Standard deviation of a single loss, from the median size of second differences."""
    second = np.abs(np.diff(values, n=2))
    # Of normal noise a second difference has sqrt(6) deviations, and the median size of a normal is 0.6745 of its own.
    return float(np.median(second)) / (0.6745 * math.sqrt(6.0))


def _falls(values: NDArray[np.float64]) -> bool:
    """Whether a loss is lower than the one before it, by more than smoothing a constant rounds."""
    return len(values) > 1 and bool(np.any(np.diff(values) < -ROUNDING * np.max(np.abs(values))))


def _cut(
    rates: NDArray[np.float64], values: NDArray[np.float64], skip_start: int, skip_end: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A curve without its ends, up to the first loss that is not finite."""
    kept = slice(skip_start, max(skip_start, len(values) - skip_end))
    rates, values = rates[kept], values[kept]
    broken = np.flatnonzero(~_usable(values))
    end = int(broken[0]) if broken.size else len(values)
    return rates[:end], values[:end]


def _usable(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which losses can be reckoned with: finite, and not so large that sums would overflow."""
    return np.abs(values) < LARGEST_VALUE


def _running(losses: Curve, following: Callable[[float, float, bool], float]) -> NDArray[np.float64]:
    means, mean = [], 0.0
    for index, loss in enumerate(losses):
        mean = following(mean, float(loss), index == 0)
        means.append(mean)
    return np.array(means, dtype=np.float64)


def _curve(lrs: Curve, losses: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rates, values = np.asarray(lrs, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if rates.ndim != 1 or rates.shape != values.shape:
        raise ValueError(
            f"lrs and losses must be two sequences of one length, got shapes {rates.shape}, {values.shape}"
        )
    if len(rates) and not (rates[0] > 0.0 and np.all(np.diff(rates) > 0.0) and np.isfinite(rates[-1])):
        raise ValueError("lrs must be finite, > 0 and ascending, got others")
    return rates, values
