"""`Suspicion`: large updates that have done no harm yet, and the comparison that decides whether they do."""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.controllers.stretch import Stretch

NONE, WAITS, COMPARES, CLEARED, CONFIRMED = "none", "waits", "compares", "cleared", "confirmed"

GRANTED = 10
"""Updates that a suspected learning rate may go on for. Chosen, not tuned: the comparison then has five losses a side
or more, as the stretches of ten updates had from which `CLEARLY` comes (`experiments/results/comparison_notes.md`)."""


NOISY = 0.1
"""Standard error of the mean loss after the cut, as a share of that mean, from which a comparison tells too little to
confirm the cut by itself. On the regression of `damage.BEYOND_NOISE` it is 0.14 to 0.28, on logistic regression, which
needs no cut either, 0.07 to 0.28; where the tuning workloads need one, 0.01 to 0.23, mostly below 0.1
(`experiments/results/comparison_notes.md`). Half as much is asked for before the cut: a network that has died there has
a steady loss."""

WORSE = 5.0
"""Such errors by which the loss was higher before the cut if that confirms it all the same. They are taken after the
cut, because a run that breaks up makes noise of its own. On that regression the loss was higher by 4.5 at the most;
where a comparison as noisy was right to confirm a cut, by 18 and more."""

MILD = 2.3
"""Multiple of the bound on updates up to which what nothing confirms is let pass. At the best peak of that regression
updates reach 2.25 times the bound."""


class Suspicion(NamedTuple):
    """Where a suspicion stands.

    Attributes:
        stage: NONE; WAITS: the run goes on as it was, for `GRANTED` updates; COMPARES: that way is set aside, the
            learning rate was cut, and the same number of updates is made from the same snapshot; CLEARED: the losses
            before the cut were clearly lower, the run went back to that way; CONFIRMED: the cut stands. There is one
            suspicion in a watch.
        ceiling: the learning rate to cut to.
        factor: in force before the cut.
        first: updates before the cut, from the snapshot on.
        second: updates after it.
        worst: the largest update in the first, as a multiple of the bound; 0 until it is over.
        rate: the learning rate of the last update before the cut; 0 until then.
    """

    stage: str = NONE
    ceiling: float = 0.0
    factor: float = 1.0
    first: Stretch = Stretch()
    second: Stretch = Stretch()
    worst: float = 0.0
    rate: float = 0.0

    def raised(self, ceiling: float, factor: float, age: int) -> Suspicion:
        """Suspected `age` updates after the snapshot."""
        return Suspicion(WAITS, ceiling, factor, Stretch(age + GRANTED, age))

    @property
    def under_way(self) -> bool:
        """Whether updates are counted."""
        return self.stage in (WAITS, COMPARES)

    def add(self, loss: float | None) -> Suspicion:
        """One update more, while it is under way."""
        if self.stage == WAITS:
            return self._replace(first=self.first.add(loss))
        known = self.second.updates >= self.first.length - GRANTED  # before them, no loss of the first stretch is known
        return self._replace(second=self.second.add(loss if known else None))

    def cut(self, *, compare: bool, rate: float = 0.0, worst: float = 0.0) -> Suspicion:
        """The learning rate is cut: to be compared, or because the updates did harm."""
        if compare:
            return self._replace(stage=COMPARES, second=Stretch(self.first.length), worst=worst, rate=rate)
        return self if self.stage == CLEARED else Suspicion(CONFIRMED)

    @property
    def due(self) -> bool:
        """Whether the stretch under way is over."""
        return self.under_way and (self.first if self.stage == WAITS else self.second).over

    @property
    def mistaken(self) -> bool:
        """Whether the run did clearly better before the cut, or as well for all that noise lets through."""
        if self.first.clearly_below(self.second):
            return True
        error = self.second.error
        noisy = error > NOISY * abs(self.second.mean) and 2.0 * self.first.error > NOISY * abs(self.first.mean)
        return noisy and self.worst < MILD and self.first.mean - self.second.mean < WORSE * error
