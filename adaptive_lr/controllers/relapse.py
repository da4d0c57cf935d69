"""`Relapse`: a loss that rises after the watch, and the comparison that tells whether a cut helps."""

from __future__ import annotations

import math
from typing import NamedTuple

from adaptive_lr.controllers.base import Adjustment, Reason
from adaptive_lr.controllers.setback import BLOCK, BLOCKS, Setback
from adaptive_lr.controllers.stretch import Stretch

COMPARED = BLOCK * BLOCKS
"""Updates of either way: as many as the losses in which the setback was seen."""

MOST_MISTAKEN = 2
"""Comparisons in a row in which a cut did no better, after which the loss is no longer judged: data that change, or a
loss that is no objective, make it rise at any learning rate, and each comparison takes `COMPARED` updates back. As many
as the cuts in vain while watching (`adaptive_lr.controllers.futility.MOST_CUTS`)."""

NONE, AS_BEFORE, CUT = "none", "as before", "cut"


class Relapse(NamedTuple):
    """Where the comparison stands.

    Attributes:
        stage: NONE; AS_BEFORE: the run goes on for `COMPARED` updates from a snapshot; CUT: that way is set aside, and
            as many updates are made from the same snapshot at a cut learning rate.
        factor: in force before the cut.
        first: updates as before.
        second: updates after the cut.
        nonfinite: losses in a row that were not finite.
        mistaken: comparisons in a row that did not confirm the cut.
    """

    stage: str = NONE
    factor: float = 1.0
    first: Stretch = Stretch()
    second: Stretch = Stretch()
    nonfinite: int = 0
    mistaken: int = 0

    def next(self, loss: float | None, factor: float, lower: float, setback: Setback) -> tuple[Relapse, Adjustment]:
        """One update more.

        Args:
            loss: of its batch, or None.
            factor: in force.
            lower: the factor after a cut.
            setback: the losses so far.

        Returns:
            The next state, and what is asked for: its factor is the one in force from now on.
        """
        if self.stage == NONE:
            if not setback.found or self.mistaken >= MOST_MISTAKEN:
                return self, Adjustment(factor=factor)
            told = setback.reason("suspect")
            text = f"{told.text}: on for {COMPARED} updates, to be compared with as many at factor {lower:.4g}"
            begun = Relapse(AS_BEFORE, factor, Stretch(COMPARED), Stretch(COMPARED), mistaken=self.mistaken)
            return begun, Adjustment(factor=factor, snapshot=True, reasons=(_with(told, text),))
        nonfinite = self.nonfinite + 1 if loss is not None and not math.isfinite(loss) else 0
        if self.stage == AS_BEFORE:
            return self._replace(first=self.first.add(loss), nonfinite=nonfinite)._as_before(loss, lower)
        return self._replace(second=self.second.add(loss))._after_the_cut(factor)

    def _as_before(self, loss: float | None, lower: float) -> tuple[Relapse, Adjustment]:
        change = f"back to where they began, factor {self.factor:.4g} -> {lower:.4g}"
        if self.nonfinite > 1:
            text = f"the loss is {loss} after updates that were to be compared: {change}"
            reason = Reason("back off", "loss", math.nan if loss is None else loss, math.nan, text)
            return Relapse(), Adjustment(factor=lower, rewind=True, reasons=(reason,))
        if not self.first.over:
            return self, Adjustment(factor=self.factor)
        reached = self.first.mean
        text = f"the mean loss came to {reached:.4g} in {COMPARED} updates; {change}, to compare {COMPARED} more"
        reason = Reason("compare", "loss", reached, math.nan, text)
        return self._replace(stage=CUT), Adjustment(factor=lower, rewind=True, set_aside=True, reasons=(reason,))

    def _after_the_cut(self, factor: float) -> tuple[Relapse, Adjustment]:
        if not self.second.over:
            return self, Adjustment(factor=factor)
        before, after = self.first.mean, self.second.mean
        text = f"the mean loss came to {after:.4g}, without the cut to {before:.4g}"
        if self.second.clearly_below(self.first):
            reason = Reason("back off", "loss", after, before, f"{text}: the factor stays {factor:.4g}")
            return Relapse(), Adjustment(factor=factor, reasons=(reason,))
        text += f": on without it, factor {factor:.4g} -> {self.factor:.4g}"
        if self.mistaken + 1 == MOST_MISTAKEN:
            text += "; a rise of the loss is no longer judged"
        reason = Reason("clear", "loss", after, before, text)
        return Relapse(mistaken=self.mistaken + 1), Adjustment(factor=self.factor, resume=True, reasons=(reason,))


def _with(reason: Reason, text: str) -> Reason:
    return Reason(reason.action, reason.statistic, reason.value, reason.threshold, text)
