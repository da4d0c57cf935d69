"""`Futility`: cuts after which the loss rises as before, which tell that the learning rate is not what it rises by."""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.controllers.damage import Damage
from adaptive_lr.controllers.setback import Setback

MOST_CUTS = 2
"""Cuts in a row that a rising loss may ask for, if it does not clearly fall between them. Each is to a third at most
and goes back to where the run was healthy: what is left of too large a learning rate after both either falls, or is so
large that the update-to-weight ratio tells it. The surrogate loss of a policy gradient, the loss of one of two networks
that train against each other, or a loss on data that change rises whatever the learning rate is."""


class Futility(NamedTuple):
    """The cuts in a row between which the loss did not fall.

    Attributes:
        cuts: their number.
        factor: in force before the first of them.
        found: whether there was one more reason than `MOST_CUTS`; the loss tells nothing from then on.
    """

    cuts: int = 0
    factor: float = 1.0
    found: bool = False

    def asked(self, factor: float, damage: Damage, setback: Setback) -> Futility:
        """A finite loss asks for a cut of `factor`; what was seen since the cut before."""
        if self.first(damage, setback):
            return Futility(1, factor)
        if self.cuts < MOST_CUTS and not damage.harmless:
            return self._replace(cuts=self.cuts + 1)
        return self._replace(found=True)

    def first(self, damage: Damage, setback: Setback) -> bool:
        """Whether a cut would be the first in a row."""
        return not self.cuts or damage.watch.fell or setback.fell
