"""`Setback`: whether the training loss stands significantly above where it was."""

from __future__ import annotations

import math
from typing import NamedTuple

from adaptive_lr.controllers.base import Reason
from adaptive_lr.series import Moments

BLOCK = 8
"""Losses between two looks."""

BLOCKS = 3
"""Blocks in a window: the 24 losses whose mean is compared with the best such mean so far."""

SIGNIFICANT = 4.0
"""Standard errors that make a setback, of the difference of the two means, if few windows were looked at. Of ten
workloads with two optimizers and two seeds under a fixed schedule, no run at a third of its best learning rate, at its
best, or at three times as much lost as much (and `SHARE`); those at ten times as much that lost it lost 8 to 24
standard errors."""

FALSE_ALARM = 1e-3
"""Chance that normal losses which only vary make a setback, however long the run, if their spread were known: the best
of many windows is low by chance alone. With the spread of two windows it was 1 in 200 in runs of 1,400 losses, and 4 in
60 in runs of 10,000; before, at four standard errors, 63 and 57. Chosen, not tuned."""

SHARE = 0.05
"""The least setback, as a share of the fall from the first block to the best window."""


class Setback(NamedTuple):
    """The losses so far in windows: their best, and whether the last stands significantly above it.

    Only differences count: the verdict is the same for a loss that is shifted or scaled.
    """

    block: Moments = Moments()  # the block that fills
    blocks: tuple[float, ...] = ()  # mean and squares of the last full blocks, oldest first; at most BLOCKS of them
    start: float | None = None  # mean of the first block
    best: Moments = Moments()  # the window with the lowest mean
    now: Moments = Moments()  # the last window
    windows: int = 0  # so far

    def add(self, loss: float) -> Setback:
        """Take in one usable loss."""
        block = self.block.add(loss)
        if block.size < BLOCK:
            return self._replace(block=block)
        blocks = (*self.blocks[-2 * (BLOCKS - 1) :], block.mean, block.squares)
        start = block.mean if self.start is None else self.start
        if len(blocks) < 2 * BLOCKS:
            return Setback(Moments(), blocks, start, self.best, self.now, self.windows)
        now = Moments(BLOCK, *blocks[:2])
        for index in range(2, len(blocks), 2):
            now = now.merge(Moments(BLOCK, *blocks[index : index + 2]))
        best = now if not self.best.size or now.mean <= self.best.mean else self.best
        return Setback(Moments(), blocks, start, best, now, self.windows + 1)

    @property
    def found(self) -> bool:
        """Whether the last window is a setback; judged when a block is full."""
        if self.block.size or not self.best.size or self.start is None:
            return False
        rise = self.now.mean - self.best.mean
        error = math.sqrt((self.now.variance + self.best.variance) / self.now.size)
        return rise > significant(self.windows) * error and rise > SHARE * (self.start - self.best.mean)

    @property
    def fell(self) -> bool:
        """Whether the best window stands significantly below the first block."""
        if not self.best.size or self.start is None:
            return False
        error = math.sqrt(self.best.variance * (1.0 / BLOCK + 1.0 / self.best.size))
        return self.start - self.best.mean > SIGNIFICANT * error

    def reason(self, action: str) -> Reason:
        """Why something is done about it."""
        now, best = self.now.mean, self.best.mean
        return Reason(action, "loss", now, best, f"the mean loss rose to {now:.4g}, from {best:.4g} at its best")


def significant(windows: int) -> float:
    """Standard errors of the difference between the last window's mean and the best of so many that make a setback.

    The lowest of n independent normal means lies at most about √(2 ln n) standard errors of one mean below their
    centre, and one of n passes √(2 ln(n / p)) above it with a probability below p. The error of the difference is √2
    that of one.
    """
    above = math.sqrt(math.log(windows / FALSE_ALARM))
    return max(SIGNIFICANT, above + math.sqrt(math.log(windows)))
