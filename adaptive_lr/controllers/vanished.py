"""`VanishedGradient`: whether the loss hardly depends on the weights any longer."""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.series import LARGEST_VALUE

FIRST_UPDATES = 5
"""Updates that tell how large gradients are for their loss; the lowest counts, so that one large gradient at
initialisation does not. Chosen, not tuned: what `SHARE` is a share of was measured over as many
(`experiments/results/guarded_rules_notes.md`)."""

SHARE = 1.0 / 30.0
"""Share of that at which a gradient has vanished. Of eleven workloads with two optimizers, at their best peak and three
times as much, the lowest median over eight updates is 0.22 (a language model with SGD: its loss has a floor, its
gradients have none); networks whose units died come to a 100th to a 1,000th."""

UPDATES = 8
"""Vanished gradients that tell a dead network, each other one taking one away: where units die one by one, single
batches still find one that lives. Chosen, not tuned: as many as the medians were taken over that `SHARE` lies below."""


class VanishedGradient(NamedTuple):
    """Gradient norms in proportion to their losses, so that gradients that shrink with the loss are none.

    A network of which no unit passes anything on ends at the loss of a constant answer. Where the loss began higher,
    nothing but its gradient tells it from one that has learned.
    """

    usual: float = LARGEST_VALUE  # lowest gradient norm / loss of the first updates
    updates: int = 0  # first updates seen
    low: int = 0  # leaky count of vanished gradients

    def add(self, loss: float, norm: float) -> VanishedGradient:
        """One update more: its loss and gradient norm. Of a loss that is not above 0 its size says nothing."""
        usual, updates, low = self
        if updates < FIRST_UPDATES:
            return VanishedGradient(min(usual, norm / loss if loss > 0.0 else 0.0), updates + 1, 0)
        if norm < self.threshold(loss):
            return VanishedGradient(usual, updates, low + 1)
        return VanishedGradient(usual, updates, low - 1) if low else self

    def threshold(self, loss: float) -> float:
        """The norm below which a gradient has vanished."""
        return SHARE * self.usual * loss

    @property
    def found(self) -> bool:
        """Whether the network is dead."""
        return self.low >= UPDATES
