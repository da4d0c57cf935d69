"""The stages of a range test that find the peak: trial updates, then a sweep up to where it shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptive_lr.controllers.base import Adjustment, Reason
from adaptive_lr.controllers.peak import horizon_share, measured_peak, with_usual
from adaptive_lr.controllers.range_ramp import RAMP_DEPTH, first_rehearsal, towards_peak
from adaptive_lr.controllers.range_state import SWEEP, Outcome, RangeTestState
from adaptive_lr.controllers.rehearsal import rehearsals
from adaptive_lr.controllers.sweep import LossWatch, rung
from adaptive_lr.controllers.update_size import update_size
from adaptive_lr.statistics import Statistics

if TYPE_CHECKING:
    from adaptive_lr.controllers.range_test import RangeTest

START_SHARE = 0.02
"""Size of the update that a sweep starts from, as a share of the one it ends at, whatever learning rate was given.
SGD has to have begun to learn when it arrives, else its peak comes out too high. A hundredth, a fiftieth and a 33rd do
equally well within what seeds make of it (61 pairs, three seeds; of the classification workloads 15, 15 and 13 of 16
are within a point), and the shorter sweep costs less."""

TRIALS = 2
"""Trial updates that tell something. The first says where to try again, which makes the second one exact: updates at a
learning rate that is decades too small drown in the rounding of the weights."""

MAX_TRIALS = 8
"""Trial updates at most: one that is not finite, or changes nothing, is tried again `TRIAL_DROP` lower or higher.
Chosen, not tuned: the six that may tell nothing cover 18 decades."""

TRIAL_DROP = 1e-3
"""Chosen, not tuned: updates of float32 weights can be read from their rounding, 6e-8 of the weight, up to 1 and more,
and three decades at a time do not jump over those seven."""

SMALL_SHARE = 0.2
"""Updates smaller than this share of `size` hardly destroy a network: a divergence then has to show beyond doubt, as a
rise by `BEYOND_DOUBT` standard deviations of single losses, the latest included. Of a deep plain network, whose loss is
flat at first, SGD's peak came out too low to learn at all in one run of two without this."""

BEYOND_DOUBT = 2.0

SNAPSHOT_RUNGS = 6
"""Rungs (half a decade) between two snapshots of an improving run, so that copying costs little. Chosen, not tuned: at
most one update in six copies."""


def begin(law: RangeTest, state: RangeTestState, row: Statistics) -> Outcome:
    """The START row: where the first update is made."""
    usual, reference = row.get("usual_lr"), row.get("reference_lr")
    if reference:
        state = state._replace(reference=reference)
        if usual:
            state = state._replace(usual=usual / reference * horizon_share(law.total_steps))
    if law.start is not None:
        state = state._replace(stage=SWEEP, level=law.start, start=law.start)
        text = f"sweeps up from {law.start:.4g} x the reference, {law.steps_per_decade:g} updates a decade"
    else:
        text = "tries one update at the learning rate given, to see where to start"
    reason = Reason("sweep", "", math.nan, math.nan, text)
    return state, Adjustment(level=state.level, snapshot=True, reasons=(reason,))


def try_update(law: RangeTest, state: RangeTestState, row: Statistics) -> Outcome:
    """A trial update is made: what its size says of where to sweep from."""
    # The first may be of any size, and of a large one only the ratio is in proportion to the learning rate: where the
    # second one is made, and all that follows, would else depend on the learning rate that was given.
    statistic = "update_size" if state.known else "update_ratio"
    size = update_size(row) if state.known else row.get("update_ratio")
    target, trials, known = law.bar * START_SHARE, state.trials + 1, state.known
    if size is not None and 0.0 < size < math.inf:
        level, known = _on_ladder(law, state, state.level * target / size), known + 1
        then = "the sweep starts" if known == TRIALS else "tried again"
        text = (
            f"one update at {state.level:.4g} x the reference changed the network by {size:.3g}; "
            f"taken back, {then} at {level:.4g}"
        )
    else:
        level = state.level * (1.0 / TRIAL_DROP if size == 0.0 else TRIAL_DROP)
        text = f"the update at {state.level:.4g} x the reference told nothing ({size}); taken back, next {level:.4g}"
    if known < TRIALS and trials == MAX_TRIALS:
        level = level if known else 1.0
        text = f"{trials} trial updates told nothing; the sweep starts at {level:.4g} x the reference"
    state = state._replace(trials=trials, known=known, level=level)
    if known == TRIALS or trials == MAX_TRIALS:
        state = state._replace(stage=SWEEP, start=level)
    reason = Reason("trial", statistic, math.nan if size is None else size, target, text)
    return state, Adjustment(level=state.level, rewind=True, reasons=(reason,))


def _on_ladder(law: RangeTest, state: RangeTestState, level: float) -> float:
    """The nearest level whose learning rate is a power of ten to a whole number of rungs.

    So runs that were given different learning rates meet on the same one, to the last bit.
    """
    index = round(law.steps_per_decade * math.log10(level * state.reference))
    return rung(1.0, law.steps_per_decade, index) / state.reference


def sweep(law: RangeTest, state: RangeTestState, row: Statistics) -> Outcome:
    """One update more: up by a rung, or the peak is known."""
    loss, size = row.get("loss"), update_size(row)
    watch = state.watch if loss is None else state.watch.add(loss, calm=not state.crossed)
    if watch.diverged and _doubtful(law, watch, loss, size):
        watch = watch._replace(diverged=False, turned=False)
    if size is not None and not math.isfinite(size):
        watch = watch._replace(diverged=True, turned=True)
    crossed = state.crossed
    if not crossed and size is not None and law.bar <= size < math.inf:
        crossed = state.level * law.bar / size
    state = state._replace(watch=watch, crossed=crossed)
    following = rung(state.start, law.steps_per_decade, state.position + 1)
    if watch.diverged:
        return _stop(law, state, row, "the loss diverges")
    if crossed and not law.to_divergence:
        return _stop(law, state, row, f"updates change the network by {size:.3g}, above {law.bar:.3g}")
    if law.end is not None and following > law.end * (1.0 + 1e-9):
        return _stop(law, state, row, f"the end of the range at {law.end:.4g} x the reference is reached")
    if law.budget is not None and state.spent >= law.budget:
        return _stop(law, state, row, f"{state.spent} updates are spent, {law.max_share:.0%} of the run")
    keep = watch.improved and watch.smoothed <= watch.best and state.position - state.snapshot >= SNAPSHOT_RUNGS
    keep = keep and not law.may_rehearse  # which starts where the sweep did
    kept = state.position if keep else state.snapshot
    state = state._replace(level=following, position=state.position + 1, snapshot=kept)
    return state, Adjustment(level=following, snapshot=keep)


def _doubtful(law: RangeTest, watch: LossWatch, loss: float | None, size: float | None) -> bool:
    """Whether a loss that seems to diverge may be noise: hardly anything has been changed."""
    finite = loss is not None and math.isfinite(loss)
    small = size is not None and size < SMALL_SHARE * law.bar
    return finite and small and watch.smoothed - watch.start.mean < BEYOND_DOUBT * math.sqrt(watch.noise)


def _stop(law: RangeTest, state: RangeTestState, row: Statistics, why: str) -> Outcome:
    """The sweep is over: the peak that it points to, and the way there."""
    size = update_size(row)
    measured = measured_peak(state.level, size, law.bar, crossed=state.crossed, diverged=state.watch.diverged)
    peak = with_usual(measured, state.usual, law.usual_weight)
    rewind = state.watch.diverged or (state.watch.start.size > 0 and not state.watch.improved)
    text = f"{why} at {state.level:.4g} x the reference after {state.spent} updates: the peak is {peak:.4g}"
    value = math.nan if size is None else size
    reasons: tuple[Reason, ...] = (Reason("peak", "update_size", value, law.bar, text),)
    if rewind:
        text = "the loss stands above its start: back to the last snapshot, and up from a tenth of the peak"
        reasons += (Reason("rewind", "loss", state.watch.smoothed, state.watch.start.mean, text),)
    first = peak * RAMP_DEPTH if rewind else rung(state.level, law.steps_per_decade, 1)
    state = state._replace(peak=peak)
    if law.may_rehearse and law.budget is not None and state.watch.start.size:
        planned = rehearsals(law.total_steps, peak, law.budget - state.spent)
        if planned is not None:
            return first_rehearsal(state, planned, reasons[0])
    return towards_peak(law, state, row, first, reasons, rewind=rewind)
