"""Running summaries of a noisy series, in float64: the one place where losses and norms are aggregated.

All are pure values (NamedTuples of numbers), so a law can keep one in its state. Sums of squares and of products are
kept about the running mean (Welford 1962; merged as in Chan, Golub & LeVeque 1983), never as differences of large
raw sums, so that a deviation of 1e-3 is still seen on a mean of 1e8.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import NamedTuple

NORM_WINDOW = 128
"""Steps of history a gradient norm is judged against. A lasting shift of level is adopted once a quarter of the
window has seen it (the quartile moves): 32 steps."""

NORM_WARMUP = 16
"""Norms to see before one is judged."""

NORM_SPREAD_FLOOR = 0.25
"""Least standard deviation of log-norms: without it, a run whose norms hardly vary calls a rise of 10 % a spike."""

LOSS_SPREAD_FLOOR = 1e-3
"""Least standard deviation of losses, as a share of their median: a loss that stands still has none of its own."""

LARGEST_VALUE = 1e100
"""Magnitude from which a value counts as infinite, so that no sum of squares overflows. No float32 comes near it."""

MOST_BLOCKS = 256
"""Block means kept (even): with blocks of 100 steps, the first 25,600 steps are seen at full resolution."""

_NORMAL_IQR = 1.3489795003921634  # interquartile range of the standard normal distribution


def is_usable(value: float) -> bool:
    """Whether a value may enter a summary: not NaN, and below `LARGEST_VALUE` in magnitude."""
    return -LARGEST_VALUE < value < LARGEST_VALUE


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of the values so far."""

    size: int = 0  # number of values
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations from the mean

    def add(self, value: float) -> Moments:
        """These values and one more (Welford's update)."""
        size = self.size + 1
        deviation = value - self.mean
        mean = self.mean + deviation / size
        return Moments(size, mean, self.squares + deviation * (value - mean))

    def merge(self, other: Moments) -> Moments:
        """These values and those of another summary (Chan's update); neither may be empty."""
        size = self.size + other.size
        difference = other.mean - self.mean
        return Moments(
            size,
            self.mean + difference * (other.size / size),
            self.squares + other.squares + difference * difference * (self.size * other.size / size),
        )

    @property
    def variance(self) -> float:
        """Unbiased sample variance; NaN below two values."""
        return self.squares / (self.size - 1) if self.size > 1 else math.nan


class Fit(NamedTuple):
    """A straight line through equally spaced values, by least squares.

    Attributes:
        slope: change of the value per position.
        error: standard error of the slope.
        t: slope / error, Student-distributed with n - 2 degrees of freedom where there is no trend; ±inf for a
            perfect line, 0 for a constant.
        deviation: standard deviation of the values about the line: the detrended deviation.
    """

    slope: float
    error: float
    t: float
    deviation: float


class Line(NamedTuple):
    """All that a straight-line fit of values at positions 0, 1, 2, ... needs.

    The positions' own mean (n - 1) / 2 and sum of squares n (n² - 1) / 12 are known, so only the values' are kept.
    """

    size: int = 0  # number of values
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations from the mean
    products: float = 0.0  # sum of (position - mean position) * (value - mean)

    def add(self, value: float) -> Line:
        """These values and one more at the next position."""
        size = self.size + 1
        deviation = value - self.mean
        mean = self.mean + deviation / size
        return Line(
            size,
            mean,
            self.squares + deviation * (value - mean),
            self.products + deviation * (0.5 * self.size),
        )

    def join(self, later: Line) -> Line:
        """These values followed by those of a later line; either may be empty."""
        size = self.size + later.size
        if size == 0:
            return self
        difference = later.mean - self.mean
        overlap = self.size * later.size
        return Line(
            size,
            self.mean + difference * (later.size / size),
            self.squares + later.squares + difference * difference * (overlap / size),
            self.products + later.products + difference * (0.5 * overlap),
        )

    def fit(self) -> Fit:
        """The least-squares line.

        Raises:
            ValueError: fewer than three values, which leave no residual to judge the slope by.
        """
        if self.size < 3:
            raise ValueError(f"a line with a standard error needs at least 3 values, got {self.size}")
        spread = self.size * (self.size * self.size - 1) / 12.0
        slope = self.products / spread
        variance = max(self.squares - slope * self.products, 0.0) / (self.size - 2)
        error = math.sqrt(variance / spread)
        if slope == 0.0:
            return Fit(0.0, error, 0.0, math.sqrt(variance))
        t = slope / error if error > 0.0 else math.copysign(math.inf, slope)
        return Fit(slope, error, t, math.sqrt(variance))


def growing_fits(values: Iterable[float], lengths: Iterable[int]) -> Iterator[tuple[Line, Fit]]:
    """Fit the first n values for every n of `lengths` (ascending, each >= 3), in one pass.

    Given the values newest first, these are fits of windows that reach further and further back; their slopes then
    count change per position *into the past*.
    """
    line, upcoming = Line(), iter(lengths)
    awaited = next(upcoming, None)
    for value in values:
        if awaited is None:
            return
        line = line.add(value)
        if line.size == awaited:
            yield line, line.fit()
            awaited = next(upcoming, None)


class Blocks(NamedTuple):
    """A long series as means of equal blocks, in bounded space.

    When `MOST_BLOCKS` blocks are full, neighbours are merged and blocks become twice as long: the whole history is
    covered, at a resolution between a 128th and a 256th of its length.
    """

    size: int  # values per block
    means: tuple[float, ...] = ()  # one mean per full block, oldest first
    squares: tuple[float, ...] = ()  # sum of squared deviations from it, per full block
    current: Moments = Moments()  # the block that fills

    def add(self, value: float) -> Blocks:
        """These values and one more."""
        current = self.current.add(value)
        if current.size < self.size:
            return Blocks(self.size, self.means, self.squares, current)
        full = Blocks(self.size, (*self.means, current.mean), (*self.squares, current.squares))
        return full if len(full.means) < MOST_BLOCKS else full._merged()

    def _merged(self) -> Blocks:
        blocks = [Moments(self.size, mean, m2) for mean, m2 in zip(self.means, self.squares, strict=True)]
        pairs = [left.merge(right) for left, right in zip(blocks[::2], blocks[1::2], strict=True)]
        return Blocks(2 * self.size, tuple(p.mean for p in pairs), tuple(p.squares for p in pairs))


class NormScore(NamedTuple):
    """What a gradient norm is judged against.

    The centre is the median and the scale the interquartile range of the last `NORM_WINDOW` finite log-norms: log,
    because norms are close to log-normal, so that heavy right tails are not taken for spikes; quartiles, because one
    spike then cannot hide the next (a mean and a deviation that hold the spike would), and a quarter of the window
    decides when a new level is adopted. Non-finite norms never enter.
    """

    window: tuple[float, ...] = ()  # log-norms in order of arrival, at most NORM_WINDOW
    ordered: tuple[float, ...] = ()  # the same in ascending order, so that no step has to sort


def score_norm(state: NormScore, norm: float) -> tuple[NormScore, dict[str, float]]:
    """Score a gradient norm against the ones before it, then take it in.

    Args:
        state: the norms before.
        norm: an L2 norm; may be 0, inf or NaN.

    Returns:
        The next state, and `grad_score` (robust standard deviations of the log-norm above the median; +inf for a
        non-finite norm, 0 while fewer than `NORM_WARMUP` norms are known and for a zero norm), `grad_typical` (the
        median norm) and `grad_spread` (the scale of log-norms, at least `NORM_SPREAD_FLOOR`, larger while few
        norms are known).
    """
    window, ordered = state
    if len(ordered) != len(window):
        ordered = tuple(sorted(window))
    count = len(window)
    finite = math.isfinite(norm)
    if count < NORM_WARMUP:
        typical, spread = (norm if finite else math.nan), NORM_SPREAD_FLOOR
        score = 0.0 if finite else math.inf
    else:
        centre = _quantile(ordered, 0.5)
        iqr = _quantile(ordered, 0.75) - _quantile(ordered, 0.25)
        # Quartiles of few values are themselves uncertain: widen by the order of their relative error.
        spread = max(iqr / _NORMAL_IQR, NORM_SPREAD_FLOOR) * (1.0 + 8.0 / count)
        typical = math.exp(centre)
        if not finite:
            score = math.inf
        elif norm <= 0.0:
            score = 0.0
        else:
            score = (math.log(norm) - centre) / spread
    if finite and norm > 0.0:
        state = _take_in(window, ordered, math.log(norm))
    return state, {"grad_score": score, "grad_typical": typical, "grad_spread": spread}


def score_loss(state: NormScore, loss: float) -> tuple[NormScore, dict[str, float]]:
    """Score a training loss against the ones before it, then take it in; as `score_norm`, but of the loss itself.

    Args:
        state: the losses before.
        loss: any number; one that is not finite scores +inf and is not taken in.

    Returns:
        The next state, and `loss_score` (robust standard deviations above the median; 0 while fewer than `NORM_WARMUP`
        losses are known), `loss_typical` (the median; the loss itself before) and `loss_spread` (the scale, at least
        `LOSS_SPREAD_FLOOR` of the median; NaN before).
    """
    window, ordered = state
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
        state = _take_in(window, ordered, loss)
    return state, {"loss_score": score, "loss_typical": typical, "loss_spread": spread}


def _take_in(window: tuple[float, ...], ordered: tuple[float, ...], value: float) -> NormScore:
    """The newest value in, the oldest out where the window is full."""
    ascending = list(ordered)
    if len(window) >= NORM_WINDOW:
        del ascending[bisect_left(ascending, window[0])]
    insort(ascending, value)
    return NormScore((*window[-(NORM_WINDOW - 1) :], value), tuple(ascending))


def _quantile(ordered: tuple[float, ...], q: float) -> float:
    """Quantile by linear interpolation (numpy's default) of values in ascending order."""
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])
