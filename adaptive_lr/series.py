"""Running summaries of a noisy series, in float64: the one place where losses and norms are aggregated.

All are pure values (NamedTuples of numbers), so a law can keep one in its state. Sums of squares and of products are
kept about the running mean (Welford 1962; merged as in Chan, Golub & LeVeque 1983), never as differences of large
raw sums, so that a deviation of 1e-3 is still seen on a mean of 1e8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LARGEST_VALUE = 1e100
"""Magnitude from which a value counts as infinite, so that no sum of squares overflows. No float32 comes near it."""

MOST_BLOCKS = 256
"""Block means kept (even): with blocks of 100 steps, the first 25,600 steps are seen at full resolution."""


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
