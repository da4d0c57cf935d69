"""Rehearsals: short runs at a few peaks, from the same start, that tell which ends at the lowest loss.

A run that has the updates to spare tries what it is about to do. Where the constants come from:
`experiments/results/horizons_notes.md`.
"""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.series import LARGEST_VALUE, is_usable

SHORTEST_RUN = 1000
"""Updates from which a run rehearses: a tenth of less does not hold what rehearsals need, on top of the sweep."""

OFFSETS = (-0.5, 0.0, 0.5)
"""Decades around the peak expected. Five, a decade to either side, chose worse: a rehearsal's loss is a hint of the
run's, and far from the peak that was measured it misleads."""

SHARE = 1.0 / 40.0
"""Length of one rehearsal as a share of the run."""

LEAST_UPDATES = 20
"""The shortest rehearsal, made only where the sweep leaves no room for a 40th of the run. Chosen, not tuned, and short:
in runs of 1,200 updates those of 20, with other drifts than `DRIFT`, did worse than the sweep alone."""

DRIFT = 0.3
"""The shorter the run, the higher its best peak, by this power of the ratio of lengths. (Between whole runs of 60 and
3,840 updates the power is 0.2 to 0.8; but a rehearsal is judged by its training loss, which too high a learning rate
harms early.) Runs of 1,200 updates want at most 0.3, by 0.4 rehearsals do worse than the sweep alone; runs of 4,800
want at least 0.3."""

WARMUP_SHARE = 0.2
"""Share of a rehearsal over which its learning rate rises; then it falls to zero, straight. Chosen, not tuned: four
updates of the shortest one, so that none begins with a jump to its peak."""

TAIL_SHARE = 1.0 / 3.0
"""Share of a rehearsal, its last, whose losses are averaged. Chosen, not tuned: seven losses of the shortest one, from
where the learning rate has fallen to about a third of its peak."""


class Rehearsals(NamedTuple):
    """Where they stand. All start from the same weights, and see the batches that come."""

    length: int = 0  # updates of each
    middle: float = 1.0  # the level of the middle one at its peak
    position: int = 0  # updates made of the one under way
    total: float = 0.0  # of its last losses
    num_losses: int = 0  # how many those are
    losses: tuple[float, ...] = ()  # mean last loss of each that is over

    @property
    def done(self) -> bool:
        """Whether all are over."""
        return len(self.losses) == len(OFFSETS)

    @property
    def levels(self) -> tuple[float, ...]:
        """Their peaks."""
        return tuple(float(self.middle * 10.0**offset) for offset in OFFSETS)

    @property
    def level(self) -> float:
        """Of the next update of the one under way."""
        rise = min(1.0, (self.position + 1) / max(1.0, WARMUP_SHARE * self.length))
        return self.levels[len(self.losses)] * rise * (1.0 - self.position / self.length)

    def add(self, loss: float | None) -> Rehearsals:
        """One update more.

        Args:
            loss: before that update, or None where it is not known. One that is not finite ends the rehearsal, as the
                worst of all: beside it, the parabola moves the best by a quarter of a decade away.
        """
        if loss is not None and not is_usable(loss):
            return self._ended(LARGEST_VALUE)
        position, total, num_losses = self.position + 1, self.total, self.num_losses
        if loss is not None and position > self.length * (1.0 - TAIL_SHARE):
            total, num_losses = total + loss, num_losses + 1
        if position == self.length:
            return self._ended(total / num_losses if num_losses else LARGEST_VALUE)
        return self._replace(position=position, total=total, num_losses=num_losses)

    def _ended(self, loss: float) -> Rehearsals:
        return self._replace(position=0, total=0.0, num_losses=0, losses=(*self.losses, loss))

    def decades(self) -> float:
        """From the middle to the best: the vertex of the parabola through the losses where the middle one is lowest.

        Where losses are equal, nearer to the middle.
        """
        best = min(range(len(OFFSETS)), key=lambda index: (self.losses[index], abs(OFFSETS[index])))
        if 0 < best < len(OFFSETS) - 1:
            below, at, above = self.losses[best - 1 : best + 2]
            curvature = below - 2.0 * at + above
            if curvature > 0.0:
                spacing = OFFSETS[best + 1] - OFFSETS[best]
                return OFFSETS[best] + 0.5 * spacing * (below - above) / curvature
        return OFFSETS[best]


def rehearsals(total_steps: int | None, peak: float, budget: int) -> Rehearsals | None:
    """The rehearsals of a run, or None where it is too short for them.

    Args:
        total_steps: updates of the whole run, or None where that is not known.
        peak: what is expected to be the level of its peak, > 0.
        budget: updates that all of them may take.
    """
    if total_steps is None or total_steps < SHORTEST_RUN:
        return None
    length = min(int(SHARE * total_steps), budget // len(OFFSETS))
    return Rehearsals(length, peak * (total_steps / length) ** DRIFT) if length >= LEAST_UPDATES else None
