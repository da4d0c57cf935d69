"""What a sweep over learning rates is made of: the ladder of levels, and the rule that says when the loss diverges."""

from __future__ import annotations

import math
from typing import NamedTuple

from adaptive_lr.series import LARGEST_VALUE, Moments, is_usable

SMOOTHING = 0.9
"""Share of the past in the smoothed loss of a sweep. At 12 steps a decade it looks back about one decade; the 0.98 that
is usual at 100 steps lags by half the sweep."""

FIRST_LOSSES = 5
"""Losses whose mean and deviation are the start: a sweep begins where the learning rate still does nothing."""

RISE = 0.5
"""Rise above the start, as a share of the fall that was reached, at which the loss has diverged."""

NOISE_RISE = 2.0
"""The least such rise in standard deviations of single losses; the smoothed loss of a flat, noisy series has a quarter
of theirs. More where the start is the mean of few losses, and where few differences tell the deviation."""

NOISE_MEMORY = 0.95
"""Share of the past in the noise, which is taken from differences of successive losses: a trend hardly enters them."""

RELATIVE_RISE = 1e-3
"""The least such rise as a share of the starting loss, for losses without noise."""

UNKNOWN_RISE = 0.25
"""The same while the noise is not known: more than single losses commonly vary by at the start. Twice that is the most
that fewer than `FEW_DIFFERENCES` differences can say: one of them may be the divergence itself."""

FEW_DIFFERENCES = 3


def rung(start: float, steps_per_decade: float, index: int) -> float:
    """The level of a rung: geometric, `steps_per_decade` rungs for a factor of ten."""
    return float(start * 10.0 ** (index / steps_per_decade))


class LossWatch(NamedTuple):
    """The loss so far, smoothed, and whether it has diverged.

    Differences are compared with differences, so that the verdict is the same for a loss that is shifted (negative
    ones included) or scaled; a flat noisy loss does not diverge; NaN and infinity do at once.
    """

    start: Moments = Moments()  # of the first losses, while the learning rate still did nothing
    started: bool = False  # whether the start is known
    weighted: float = 0.0  # exponentially weighted sum of losses
    weight: float = 0.0  # sum of those weights: the smoothed loss is weighted / weight
    best: float = LARGEST_VALUE  # lowest smoothed loss since the start is known
    rise: float = 0.0  # what the noise was worth at the best: a run that breaks up makes noise of its own
    last: float = 0.0  # the loss before
    differences: int = 0  # how many successive differences were seen
    noise: float = 0.0  # weighted mean of their squares, halved: the variance of single losses
    diverged: bool = False  # not finite, or risen above the start
    turned: bool = False  # risen as much above the best

    def add(self, loss: float, *, harmless: bool = True, calm: bool = True) -> LossWatch:
        """Take in one loss.

        Args:
            loss: measured before the update that follows it.
            harmless: whether the learning rate has done next to nothing so far, so that the loss belongs to the start.
            calm: whether it has stayed moderate so far, so that what the loss varies by is noise. A run that breaks up
                would else hide in the noise it makes.
        """
        if not is_usable(loss):
            return self._replace(diverged=True, turned=True)
        start, started, differences, noise = self.start, self.started, self.differences, self.noise
        if self.weight and calm:
            differences += 1
            share = max(1.0 - NOISE_MEMORY, 1.0 / differences)
            noise += share * (0.5 * (loss - self.last) ** 2 - noise)
        if not started:
            if harmless or not start.size:
                start = start.add(loss)
            started = start.size >= FIRST_LOSSES or not harmless
        weighted = SMOOTHING * self.weighted + (1.0 - SMOOTHING) * loss
        weight = SMOOTHING * self.weight + (1.0 - SMOOTHING)
        best, rise, diverged, turned = self.best, self.rise, self.diverged, self.turned
        if started:
            smoothed = weighted / weight
            level = abs(start.mean)
            if smoothed <= best:
                best, rise = smoothed, UNKNOWN_RISE * level
                if differences:
                    rise = _noise_rise(start.size, differences, noise)
                    if differences < FEW_DIFFERENCES:
                        rise = min(rise, 2.0 * UNKNOWN_RISE * level)
            least = max(RISE * (start.mean - best), rise, RELATIVE_RISE * level)
            diverged = diverged or smoothed > start.mean + least
            turned = diverged or smoothed > best + least
        return LossWatch(start, started, weighted, weight, best, rise, loss, differences, noise, diverged, turned)

    @property
    def smoothed(self) -> float:
        """The smoothed loss; NaN before the first."""
        return self.weighted / self.weight if self.weight else math.nan

    @property
    def improved(self) -> bool:
        """Whether the smoothed loss stands below the start."""
        return self.started and self.smoothed < self.start.mean

    @property
    def fell(self) -> bool:
        """Whether it once stood below the start by more than all noise so far makes of it."""
        if not self.started or not self.differences:
            return False
        noise = _noise_rise(self.start.size, self.differences, self.noise)
        return self.start.mean - self.best > max(noise, RELATIVE_RISE * abs(self.start.mean))

    @property
    def fall(self) -> float:
        """From the start to the best, as a share of the start's size; 0 where it did not fall."""
        fall = self.start.mean - self.best if self.started else 0.0
        return fall / max(abs(self.start.mean), fall) if fall > 0.0 else 0.0

    @property
    def at_best(self) -> bool:
        """Whether it stands below the start, and is the best since."""
        return self.improved and self.smoothed <= self.best


def _noise_rise(first: int, differences: int, noise: float) -> float:
    """`NOISE_RISE`, more where few losses are the start and few differences tell the noise."""
    few = (1.0 + 1.0 / math.sqrt(first)) * (1.0 + 2.0 / differences)
    return NOISE_RISE * math.sqrt(noise) * few
