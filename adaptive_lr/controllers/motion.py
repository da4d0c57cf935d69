"""`Motion`: how far the weights are moved per learning rate, and whether that has all but ended."""

from __future__ import annotations

from typing import NamedTuple

MEMORY = 0.9
"""Share of the past in the smoothed ratio: the memory of momentum 0.9, which alone keeps a dead network moving."""

FIRST_UPDATES = 5
"""Updates before which no smoothed ratio counts as the highest: the first updates of Adam agree, and move further."""

SHARE = 0.1
"""Share of the highest smoothed ratio at which a network whose loss stands at its start has died. On eleven pairs of
workload and optimizer at 0.1, 0.3 and 1 times the best peak the least share was 0.42 while the loss was no lower than
its start; of 26 runs at 3 and 10 times as much that ended at chance, 25 came to 0.1 within the watch, 22 to 0.03
(`experiments/results/comparison_notes.md`)."""


class Motion(NamedTuple):
    """Update-to-weight ratios over matrices, per learning rate, smoothed.

    A dead network still has a gradient in its last biases, as large as the noise of a small batch, and a large one once
    its biases have run away: that hides its death from the norm over all parameters.
    """

    smoothed: float = 0.0  # exponential mean, not yet divided by its weight
    weight: float = 0.0
    highest: float = 0.0
    updates: int = 0

    def add(self, per_rate: float) -> Motion:
        """One update more: its ratio over its learning rate."""
        smoothed = MEMORY * self.smoothed + (1.0 - MEMORY) * per_rate
        weight, updates = MEMORY * self.weight + (1.0 - MEMORY), self.updates + 1
        highest = max(self.highest, smoothed / weight) if updates > FIRST_UPDATES else 0.0
        return Motion(smoothed, weight, highest, updates)

    @property
    def ended(self) -> bool:
        """Whether the weights hardly move any more."""
        return self.weight > 0.0 and self.smoothed < SHARE * self.highest * self.weight
