"""`Probe`: a few updates at ten times the peak, taken back and compared with as many at the peak."""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.controllers.stretch import Stretch
from adaptive_lr.controllers.sweep import UNKNOWN_RISE
from adaptive_lr.series import LARGEST_VALUE, is_usable

HIGHER = 10.0
"""How much higher than the peak is probed. Where half a decade more is better, as few updates do not tell it (2.4 to
3.6 standard errors on a GRU, and 2 on two pairs where it is worse); a decade too low they tell by 5 to 16."""

FEWEST_UPDATES = 6
"""Updates below which nothing is probed: three losses each tell two means apart where a decade is between them."""

MOST_PROBES = 4
"""Probes at most, each ten times higher than the one before it. Chosen, not tuned, only to bound them: four that win
raise the peak by four decades, and on 70 pairs of workload and optimizer what a sweep named lay 1.04 decades at the
most from a peak as good as the tuned one (`experiments/results/peak_rules.md`)."""

RECENT = 3
"""Losses of a probe whose mean is to lie below where it began. Chosen, not tuned: as many as the shortest probe
compares (`FEWEST_UPDATES`)."""


class Probe(NamedTuple):
    """Where a probe stands."""

    number: int = 0  # of this probe in the run, from 1
    before: float = 0.0  # the loss of the weights that it begins with
    recent: tuple[float, ...] = ()  # its last losses of other weights
    above: Stretch = Stretch()  # at the higher peak
    at: Stretch = Stretch()  # at the peak

    def begun(self, loss: float, length: int) -> Probe:
        """The next probe, of `length` updates, after a loss that the weights had before the last update."""
        return Probe(self.number + 1, loss, (), Stretch(length), Stretch(length))

    def add(self, loss: float | None) -> Probe:
        """One update more at the higher peak."""
        before, recent = self.before, self.recent
        if loss is not None and not is_usable(loss):
            loss = LARGEST_VALUE
        if loss is not None and self.above.updates == 0:
            before = 0.5 * (before + loss)  # of weights that the higher peak has not changed yet
        elif loss is not None:
            recent = (*recent[1 - RECENT :], loss)
        return Probe(self.number, before, recent, self.above.add(loss), self.at)

    def hopeless(self, start: float) -> bool:
        """Whether the loss stands far above `start`, where the run began, or does not fall."""
        if not all(loss <= start + UNKNOWN_RISE * abs(start) for loss in self.recent):
            return True
        return len(self.recent) == RECENT and not sum(self.recent) < RECENT * self.before

    @property
    def won(self) -> bool:
        """Whether the higher peak did clearly better."""
        return self.above.clearly_below(self.at)
