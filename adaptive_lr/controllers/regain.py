"""`Regain`: the way back from a cut that was lifted."""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.controllers.base import Reason

REGAIN_UPDATES = 10
"""Updates of the way back, as many as a comparison has. A run that goes on where it was set aside in a warm-up begins
at the learning rate that it had; a jump left 1.3 times the loss with RMSprop on a matrix factorisation."""


class Regain(NamedTuple):
    """A factor that rises by as much in each of some updates, like a warm-up.

    Attributes:
        goal: the factor at its end.
        left: updates until then.
    """

    goal: float = 1.0
    left: int = 0

    def next(self, factor: float) -> tuple[float, Regain, tuple[Reason, ...]]:
        """The factor one update later, what is left of the way, and the reason."""
        if not self.left:
            return factor, self, ()
        higher = factor + (self.goal - factor) / self.left if self.left > 1 else self.goal
        text = f"the cut was lifted: factor {factor:.4g} -> {higher:.4g}"
        return higher, Regain(self.goal, self.left - 1), (Reason("recover", "factor", factor, self.goal, text),)
