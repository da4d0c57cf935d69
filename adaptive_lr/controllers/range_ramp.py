"""The stages of a range test between a peak that was found and the peak itself: rehearsals, then a ramp."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptive_lr.controllers.base import Adjustment, Reason
from adaptive_lr.controllers.range_probe import at_peak
from adaptive_lr.controllers.range_state import RAMP, REHEARSE, Outcome, RangeTestState
from adaptive_lr.controllers.rehearsal import Rehearsals
from adaptive_lr.controllers.sweep import rung
from adaptive_lr.series import LARGEST_VALUE
from adaptive_lr.statistics import Statistics

if TYPE_CHECKING:
    from adaptive_lr.controllers.range_test import RangeTest

RAMP_DEPTH = 0.1
"""Share of the peak from which the learning rate rises again after a rewind. Chosen, not tuned: a decade makes a
warm-up of `steps_per_decade` updates."""


def first_rehearsal(state: RangeTestState, planned: Rehearsals, found: Reason) -> Outcome:
    """Back to the first weights, to rehearse from them."""
    levels = ", ".join(f"{level:.4g}" for level in planned.levels)
    text = f"back to the start; rehearsals of {planned.length} updates each, with peaks of {levels} x the reference"
    reason = Reason("rehearse", "", math.nan, math.nan, text)
    state = state._replace(stage=REHEARSE, level=planned.level, rehearsals=planned)
    return state, Adjustment(level=state.level, rewind=True, reasons=(found, reason))


def rehearse(law: RangeTest, state: RangeTestState, row: Statistics) -> Outcome:
    """One update more of a rehearsal; after the last one, the peak that they point to."""
    before, under_way = state.rehearsals, state.rehearsals.add(row.get("loss"))
    state = state._replace(rehearsals=under_way)
    reasons: tuple[Reason, ...] = ()
    if len(under_way.losses) > len(before.losses):
        loss = under_way.losses[-1]
        text = f"the one with a peak of {before.levels[len(before.losses)]:.4g} x the reference ends at a loss of "
        text += f"{loss:.4g}; back to the start" if loss < LARGEST_VALUE else "no finite value; back to the start"
        reasons = (Reason("rehearsed", "loss", loss, math.nan, text),)
    if not under_way.done:
        state = state._replace(level=under_way.level)
        return state, Adjustment(level=state.level, rewind=bool(reasons), reasons=reasons)
    peak = state.peak * 10.0 ** under_way.decades()
    number, best = len(under_way.losses), min(under_way.losses)
    if best < LARGEST_VALUE:
        text = f"of {number} rehearsals the lowest loss is {best:.4g}: the peak is {peak:.4g} x the reference"
        text += f", not {state.peak:.4g}"
    else:
        text = f"none of {number} rehearsals ends at a finite loss: the peak stays {peak:.4g} x the reference"
    reasons += (Reason("confirm", "loss", best, math.nan, text),)
    return towards_peak(law, state._replace(peak=peak), row, peak * RAMP_DEPTH, reasons, rewind=True)


def towards_peak(
    law: RangeTest, state: RangeTestState, row: Statistics, first: float, reasons: tuple[Reason, ...], *, rewind: bool
) -> Outcome:
    """Up to the peak from the level `first`, unless that is as high."""
    if first >= state.peak:
        return at_peak(law, state, row, reasons)
    state = state._replace(stage=RAMP, level=first, start=first, position=0)
    return state, Adjustment(level=first, rewind=rewind, reasons=reasons)


def ramp(law: RangeTest, state: RangeTestState, row: Statistics) -> Outcome:
    """One update more: up by a rung, or at the peak."""
    position = state.position + 1
    level = rung(state.start, law.steps_per_decade, position)
    if level < state.peak * (1.0 - 1e-9):
        return state._replace(position=position, level=level), Adjustment(level=level)
    reason = Reason("release", "", math.nan, math.nan, f"the peak of {state.peak:.4g} x the reference is reached")
    return at_peak(law, state, row, (reason,))
