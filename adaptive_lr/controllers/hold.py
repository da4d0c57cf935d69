"""`Hold`: a ceiling for the learning rate after a cut."""

from __future__ import annotations

from typing import NamedTuple

from adaptive_lr.series import LARGEST_VALUE

WAIT = 3
"""Updates after a cut whose ratio says nothing: with a lag of up to 3 they still come from the old learning rate."""

HOLD_STEPS = 20
"""Updates after a cut in which a large ratio lowers the ceiling, whether the base still rises or not: twice the memory
of momentum 0.9, within which updates that agree grow tenfold."""

REGAIN_STEPS, REGAIN = 10, 1.1
"""For so many updates after a cut that a single ratio asked for, the ceiling rises by so much each, 2.6 times in all.
The first updates of Adam move every weight by the learning rate and agree: for the same learning rate their ratio is
1.5 to 5 times that at the end of a warm-up (six workloads), and a ceiling set by them is too low."""

IDLE, IDLE_STEPS = {"update_ratio": 0.03, "compound_ratio": 0.12}, 60
"""The statistic that asked for the cut, where below it the ceiling goes on rising at that pace, and updates after the
cut until which it may. A cut that nothing but the first updates asked for (RMSprop and tied embeddings make few, large
ones), or one to a rate taken from a run that broke up, would else stand at a twentieth of the best rate for good.
Later a small ratio is no sign of that: gradients shrink with the loss, and a ceiling that rose with them for the whole
watch climbed too high where the peak was thirty times the best and more. After a cut that the compound ratio asked for
nothing else is given back: with the rise of the first ten updates, or up to 0.17, a vision transformer at ten times its
best peak ends 7 points lower or more, with none at all a convolutional network of four matrices at three times 14
(`experiments/results/comparison_notes.md`)."""

LEARNED = 0.75
"""Share of the loss whose fall ends that: gradients have shrunk with it. Without this end the loss at a hundred times
the best peak and more was two to nine times tuned on four workloads with AdamW, with it one to three; at a half a
network with RMSprop, whose first updates are its largest, regained too little at its best peak."""

LOWEST = 0.25
"""The least that one ratio multiplies the ceiling by: single ratios are noisy."""

TELLING = 1.09
"""Change of the factor that is worth a decision: a rising base would else ask for one each step. Clearly below
`REGAIN`, so that rounding has no say in it."""


class Hold(NamedTuple):
    """The highest learning rate allowed, in units of the base learning rate, and how long ago it was set.

    The learning rate is the lower of base and ceiling: where the base has fallen below the ceiling, nothing is left of
    the cut.
    """

    ceiling: float = LARGEST_VALUE
    updates: int = 0
    regains: str = ""  # the statistic whose cut it gives back where that is small; "": it gives nothing back

    def follow(
        self, rate: float, ratio: float, compound: float, target: float, *, rising: bool, fall: float = 0.0
    ) -> Hold:
        """One update later.

        Args:
            rate: base learning rate × factor of this update.
            ratio: its update-to-weight ratio, 0 where it is not known.
            compound: its compound ratio.
            target: ratio that the ceiling is lowered to.
            rising: whether the base learning rate rises.
            fall: of the loss since the cut, as a share of what it was.
        """
        if self.ceiling >= LARGEST_VALUE:
            return self
        ceiling, updates = self.ceiling, self.updates + 1
        if self.regains:
            by_ratio = self.regains == "update_ratio"
            small = ratio > 0.0 and (ratio if by_ratio else compound) < IDLE[self.regains]
            if (by_ratio and updates <= REGAIN_STEPS) or (small and updates <= IDLE_STEPS and fall <= LEARNED):
                ceiling *= REGAIN
        if updates > WAIT and (rising or updates <= HOLD_STEPS) and target < ratio < LARGEST_VALUE:
            ceiling = min(ceiling, rate * max(target / ratio, LOWEST))
        return Hold(ceiling, updates, self.regains)

    def factor(self, factor: float, base: float, least: float) -> float:
        """The factor under this ceiling: the present one, unless that is off by 9 % and more.

        Args:
            factor: in force.
            base: base learning rate of the next update, > 0.
            least: lower bound.
        """
        if self.ceiling >= LARGEST_VALUE:
            return factor
        wanted = min(1.0, max(self.ceiling / base, least))
        return wanted if max(wanted, factor) > TELLING * min(wanted, factor) else factor
