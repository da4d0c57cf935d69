"""`Compound`: updates that are too large for the network as a whole, though for no matrix of it."""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.controllers.base import Reason

BOUND, UPDATES = 0.75, 5
"""Compound ratio (`adaptive_lr.statistics.RATIO_STATISTICS`), and updates that reach it: transformers, mixers and
residual networks of six to eleven matrices have 1.1 to 2.4 in ten updates and more at three to ten times their best
peak, where the largest single ratio is 0.1 to 0.3. At the best peak of 61 pairs of problem and optimizer at most four
updates reach it where no single ratio reaches 0.4 (`experiments/results/comparison_notes.md`)."""

AFTER_THE_RISE = 10
"""Updates after the base learning rate last rose that still count. Without a warm-up they are all there are."""


class Compound(NamedTuple):
    """Updates near the rise of the base learning rate whose compound ratio was large."""

    updates: int = 0
    largest: float = 0.0  # of their compound ratios

    def add(self, ratio: float, quiet: int) -> Compound:
        """One update more: its compound ratio, and updates since the base last rose."""
        counts = ratio >= BOUND and quiet <= AFTER_THE_RISE
        return Compound(self.updates + 1, max(self.largest, ratio)) if counts else self

    @property
    def found(self) -> bool:
        """Whether they are too many."""
        return self.updates >= UPDATES

    @property
    def reason(self) -> Reason:
        """For a decision."""
        text = f"{self.updates} updates changed the network as a whole by {BOUND:g} and more"
        return Reason("rescue", "compound_ratio", self.largest, BOUND, text)
