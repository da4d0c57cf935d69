"""The stages of a range test at its peak: a higher one is probed, and the law lets go of the learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptive_lr.controllers.base import Adjustment, Reason
from adaptive_lr.controllers.probe import HIGHER, MOST_PROBES
from adaptive_lr.controllers.range_state import DONE, PROBE, PROOF, Outcome, RangeTestState
from adaptive_lr.series import is_usable
from adaptive_lr.statistics import Statistics

if TYPE_CHECKING:
    from adaptive_lr.controllers.range_test import RangeTest

LEAST_BASE = 0.1
"""Share of the reference below which the base schedule is still warming up, and no stretch of it tells anything.
Chosen, not tuned: in step with such a base, `HIGHER` times the peak is less than the peak itself will be."""


def at_peak(law: RangeTest, state: RangeTestState, row: Statistics, reasons: tuple[Reason, ...]) -> Outcome:
    """At the peak: probe a higher one, or let go."""
    loss, base = row.get("loss"), _base(state, row)
    unfit = state.watch.diverged or state.probe.number == MOST_PROBES or base < LEAST_BASE
    if unfit or not law.probed_steps or loss is None or not is_usable(loss):
        return state._replace(stage=DONE, level=state.peak), Adjustment(factor=state.peak, reasons=reasons)
    higher = state.peak * HIGHER
    text = f"tries {law.probed_steps} updates at {higher:.4g} x the reference, to be taken back"
    reasons += (Reason("probe", "", math.nan, math.nan, text),)
    state = state._replace(stage=PROBE, level=higher * base, probe=state.probe.begun(loss, law.probed_steps))
    return state, Adjustment(level=state.level, snapshot=True, reasons=reasons)


def probe_higher(law: RangeTest, state: RangeTestState, row: Statistics) -> Outcome:
    """One update more at the higher peak."""
    if "lr_factor" in row.values:
        return state, Adjustment(level=state.level)  # read with a lag: an update before the probe began
    loss = row.get("loss")
    probe = state.probe.add(loss)
    state = state._replace(probe=probe)
    if probe.hopeless(state.watch.start.mean):
        value = math.nan if loss is None else loss
        text = f"the loss went from {probe.before:.4g} to {value:.4g}: taken back, the peak stays {state.peak:.4g}"
        reason = Reason("release", "loss", value, probe.before, text)
        return _taken_back(state._replace(stage=DONE), reason)
    if probe.above.over:
        reached = probe.above.mean
        text = f"the mean loss came to {reached:.4g}: taken back; the peak stays {state.peak:.4g} unless it does worse"
        reason = Reason("compare", "loss", reached, probe.before, text)
        return _taken_back(state._replace(stage=PROOF), reason)
    state = state._replace(level=state.peak * HIGHER * max(_base(state, row), LEAST_BASE))
    return state, Adjustment(level=state.level)


def prove(law: RangeTest, state: RangeTestState, row: Statistics) -> Outcome:
    """One update more at the peak, unless another law found it too large: then there is nothing to compare."""
    factor = row.get("lr_factor")
    if factor is not None and not math.isclose(factor, state.peak):
        text = f"the learning rate was changed to {factor:.4g} x the base: the peak stays {state.peak:.4g}"
        reason = Reason("release", "lr_factor", factor, state.peak, text)
        return state._replace(stage=DONE), Adjustment(factor=state.peak, reasons=(reason,))
    probe = state.probe._replace(at=state.probe.at.add(row.get("loss")))
    state = state._replace(probe=probe)
    if not probe.at.over:
        return state, Adjustment(factor=state.peak)
    if not probe.won:
        return state._replace(stage=DONE), Adjustment(factor=state.peak)
    peak, higher, lower = state.peak * HIGHER, probe.above.mean, probe.at.mean
    text = f"the mean loss came to {lower:.4g}, with ten times the peak to {higher:.4g}: the peak is {peak:.4g}"
    return at_peak(law, state._replace(peak=peak), row, (Reason("raise", "loss", lower, higher, text),))


def _taken_back(state: RangeTestState, reason: Reason) -> Outcome:
    """The probe is over: back to the weights before it, and on at the peak."""
    state = state._replace(level=state.peak)
    return state, Adjustment(factor=state.peak, rewind=True, reasons=(reason,))


def _base(state: RangeTestState, row: Statistics) -> float:
    """The base learning rate, in units of the reference."""
    return (row.get("base_lr") or 0.0) / state.reference
