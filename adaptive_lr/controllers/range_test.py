"""`RangeTest`: finds the peak learning rate while the run trains, and hands it to the base schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from adaptive_lr.controllers.base import Adjustment, Controller, Reason
from adaptive_lr.controllers.peak import horizon_share, measured_peak, with_usual
from adaptive_lr.controllers.probe import FEWEST_UPDATES, HIGHER, MOST_PROBES, Probe
from adaptive_lr.controllers.rehearsal import SHORTEST_RUN, Rehearsals, rehearsals
from adaptive_lr.controllers.sweep import LossWatch, rung
from adaptive_lr.series import LARGEST_VALUE, is_usable
from adaptive_lr.statistics import Phase, Statistics

TRIAL, SWEEP, REHEARSE, RAMP = "trial", "sweep", "rehearse", "ramp"
PROBE, PROOF, DONE = "probe", "proof", "done"

START_SHARE = 0.01
"""Update-to-weight ratio that a sweep starts from, as a share of the one it ends at, whatever learning rate was given.
From two decades below, SGD has begun to learn when it arrives, and its peak is found as well as AdamW's; from one and a
half, it comes out too high by 0.2 decades."""

TRIALS = 2
"""Trial updates that tell something. The first says where to try again, which makes the second one exact: updates at a
learning rate that is decades too small drown in the rounding of the weights."""

MAX_TRIALS = 8
"""Trial updates at most: one that is not finite, or changes nothing, is tried again `TRIAL_DROP` lower or higher."""

TRIAL_DROP = 1e-3

SMALL_SHARE = 0.2
"""Updates smaller than this share of `ratio` hardly destroy a network: a divergence then has to show beyond doubt, as a
rise by `BEYOND_DOUBT` standard deviations of single losses, the latest included. Of a deep plain network, whose loss is
flat at first, SGD's peak came out too low to learn at all in one run of two without this."""

BEYOND_DOUBT = 2.0

SNAPSHOT_RUNGS = 6
"""Rungs (half a decade) between two snapshots of an improving run, so that copying costs little."""

RAMP_DEPTH = 0.1
"""Share of the peak from which the learning rate rises again after a rewind."""

LEAST_BASE = 0.1
"""Share of the reference below which the base schedule is still warming up, and no stretch of it tells anything."""

_TO_COMPARE = frozenset(("grad_norm", "base_lr", "lr_factor"))
_TO_SWEEP = _TO_COMPARE | {"update_ratio"}


class RangeTestState(NamedTuple):
    """Where the sweep stands."""

    stage: str = TRIAL
    level: float = 1.0  # held for the next update, as a multiple of the reference learning rate
    trials: int = 0
    known: int = 0  # trials that told something
    start: float = 1.0  # the level of rung 0
    position: int = 0  # the rung that is held
    watch: LossWatch = LossWatch()
    crossed: float = 0.0  # the level at which the ratio reached its bar; 0 before
    snapshot: int = 0  # the rung of the latest snapshot
    reference: float = 1.0  # the reference learning rate
    usual: float = 0.0  # the usual level for this optimizer; 0 if there is none
    peak: float = 1.0  # once it is known
    spent: int = 0  # updates so far
    rehearsals: Rehearsals = Rehearsals()
    probe: Probe = Probe()


@dataclass(frozen=True)
class RangeTest(Controller[RangeTestState]):
    """The LR range test as the warm-up of a run: sweeps the learning rate up, and sets the run's peak.

    While it sweeps it holds the learning rate itself, at reference × level for every group (ratios between groups are
    kept; the reference is the group's `max_lr`, else `initial_lr`, else `lr` when control was attached). The clock of
    the base schedule runs on; other controllers rest. Then it lets go, and its factor is peak / reference.

    1. *Trial.* One update at the learning rate given tells what update-to-weight ratio it makes, a second one, near
       where the sweep is to start, tells it exactly; both are taken back. The sweep starts where the ratio is a
       hundredth of the one it ends at, on a ladder of learning rates that does not depend on the one given: neither
       does the run, to the last bit (but in the rare case that the trials fall on two sides of the middle between two
       rungs). A trial that is not finite is tried again 1,000 times lower, one that changes nothing 1,000 times higher.
    2. *Sweep*, `steps_per_decade` updates a decade, training all the while, until the largest ratio ‖update‖/‖weight‖
       over matrices reaches `ratio`, the loss diverges, or `max_share` of the run is spent.
    3. *Peak.* The level at which the ratio meets its bar (extrapolated by at most 10 where it was not reached), or a
       15th of where the loss diverged; then drawn towards what is usual for this kind of optimizer, the less the
       farther apart the two are (`adaptive_lr.controllers.peak`).
    4. *Rehearsals*, in runs of at least 1,000 updates. From the first weights, three short runs (a 40th of the whole
       each, less where the sweep took much) with peaks half a decade apart; the peak moves to where they end at the
       lowest loss, at most half a decade (`adaptive_lr.controllers.rehearsal`). Then everything is taken back, and the
       learning rate rises from a tenth of the peak.
    5. *Ramp.* A peak above the last level is reached at the pace of the sweep: a jump looks like a divergence, and may
       become one. If the loss stands above where it started, parameters and optimizer state first go back to the last
       snapshot that was better, and the learning rate rises again from a tenth of the peak.
    6. *Probe.* The ratio says too little where weights have far to go (linear models, unscaled targets). So a few
       updates (`probe_share` of the run) are made at ten times the peak and taken back. The run goes on at the peak,
       and where as many updates there come to a clearly higher loss, the peak is raised tenfold, and probed again. A
       probe whose loss does not fall ends at once. Runs too short for a probe of six updates do without
       (`adaptive_lr.controllers.probe`).

    Snapshots are in memory: one copy of the parameters and of the optimizer's state.

    Args:
        total_steps: updates of the whole run. It bounds the sweep, lowers `ratio` for runs longer than 300 updates by
            the square root of their length, and says whether there is time to rehearse. None: the sweep is not
            bounded, the ratio not lowered, nothing rehearsed.
        ratio: the update-to-weight ratio at the peak of a 300-step run. Over the tuning workloads with SGD and AdamW
            anything from 0.1 (better in loss) to 0.14 (better where a run has too few steps) does about equally well;
            single pairs lie up to half a decade away.
        steps_per_decade: resolution. 12 was enough for SGD on a recurrent network, 4 was not.
        max_share: share of `total_steps` that the sweep and the rehearsals may take.
        probe_share: share of `total_steps` that each probe may take, in [0, 1]; 0: the peak is not probed.
        usual_weight: weight of the usual learning rate in the geometric mean where it is near the one measured, in
            [0, 1]; half is what two estimates with equal errors get.
        start: the first level; None: found by the trial step.
        end: the last level; None: none.
        to_divergence: sweep on to divergence (or `end`) although the ratio was reached: the classic curve. Nothing is
            rehearsed.

    Raises:
        ValueError: an argument is out of its range.
    """

    phase: ClassVar[Phase] = Phase.AFTER
    holds_lr: ClassVar[bool] = True

    total_steps: int | None = None
    ratio: float = 0.12
    steps_per_decade: float = 12.0
    max_share: float = 0.1
    probe_share: float = 0.025
    usual_weight: float = 0.5
    start: float | None = None
    end: float | None = None
    to_divergence: bool = False

    def __post_init__(self) -> None:
        if self.total_steps is not None and self.total_steps < 1:
            raise ValueError(f"total_steps must be at least 1 or None, got {self.total_steps}")
        for name in ("ratio", "steps_per_decade"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {getattr(self, name)}")
        if not 0.0 < self.max_share <= 1.0:
            raise ValueError(f"max_share must be in (0, 1], got {self.max_share}")
        for name in ("probe_share", "usual_weight"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("start", "end"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be finite and > 0 or None, got {value}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end must be above start, got start={self.start}, end={self.end}")

    @property
    def requires(self) -> frozenset[str]:
        """The update-to-weight ratio (a copy of the weights while measured), and the norm that tells a bad gradient."""
        return _TO_SWEEP

    @property
    def bar(self) -> float:
        """The update-to-weight ratio at the peak, for a run of this length."""
        return self.ratio * horizon_share(self.total_steps)

    @property
    def budget(self) -> int | None:
        """Updates until the peak is to be known, or None where that is not bounded."""
        return None if self.total_steps is None else max(1, int(self.max_share * self.total_steps))

    @property
    def may_rehearse(self) -> bool:
        """Whether the run is long enough."""
        return self.total_steps is not None and self.total_steps >= SHORTEST_RUN and not self.to_divergence

    def requires_now(self, state: RangeTestState) -> frozenset[str]:
        """Nothing once the peak is set; the ratio only while it sweeps."""
        if state.stage == DONE:
            return frozenset()
        return _TO_SWEEP if state.stage in (TRIAL, SWEEP) else _TO_COMPARE

    def needs_snapshot(self, state: RangeTestState) -> bool:
        """Until the peak is set."""
        return state.stage != DONE

    @property
    def probed_steps(self) -> int:
        """Updates of one probe; 0 where there is none: the run is too short, or its range was given."""
        steps = round(self.probe_share * (self.total_steps or 0))
        return steps if steps >= FEWEST_UPDATES and self.end is None and not self.to_divergence else 0

    def init(self) -> RangeTestState:
        """Before the first row."""
        return RangeTestState()

    def update(self, state: RangeTestState, statistics: Statistics) -> tuple[RangeTestState, Adjustment]:
        """One row in: the next level, or the peak."""
        if statistics.phase is Phase.START:
            return self._begin(state, statistics)
        if state.stage == DONE:
            return state, Adjustment(factor=state.peak)
        loss = statistics.get("loss")
        broken = loss is not None and not math.isfinite(loss)
        # An overflow of the loss scale is no step; a loss that is itself not finite would overflow for ever.
        if statistics.phase is not Phase.AFTER or not (statistics.updated or broken):
            return state, Adjustment(factor=state.peak) if state.stage == PROOF else Adjustment(level=state.level)
        state = state._replace(spent=state.spent + 1)
        if state.stage == TRIAL:
            return self._trial(state, statistics)
        if state.stage == SWEEP:
            return self._sweep(state, statistics)
        if state.stage == REHEARSE:
            return self._rehearse(state, statistics)
        if state.stage == RAMP:
            return self._ramp(state, statistics)
        return self._probe(state, statistics) if state.stage == PROBE else self._proof(state, statistics)

    def _begin(self, state: RangeTestState, row: Statistics) -> tuple[RangeTestState, Adjustment]:
        usual, reference = row.get("usual_lr"), row.get("reference_lr")
        if reference:
            state = state._replace(reference=reference)
            if usual:
                state = state._replace(usual=usual / reference * horizon_share(self.total_steps))
        if self.start is not None:
            state = state._replace(stage=SWEEP, level=self.start, start=self.start)
            text = f"sweeps up from {self.start:.4g} x the reference, {self.steps_per_decade:g} updates a decade"
        else:
            text = "tries one update at the learning rate given, to see where to start"
        reason = Reason("sweep", "", math.nan, math.nan, text)
        return state, Adjustment(level=state.level, snapshot=True, reasons=(reason,))

    def _trial(self, state: RangeTestState, row: Statistics) -> tuple[RangeTestState, Adjustment]:
        ratio, target = row.get("update_ratio"), self.bar * START_SHARE
        trials, known = state.trials + 1, state.known
        if ratio is not None and 0.0 < ratio < math.inf:
            level, known = self._on_ladder(state, state.level * target / ratio), known + 1
            then = "the sweep starts" if known == TRIALS else "tried again"
            text = (
                f"one update at {state.level:.4g} x the reference changed the weights by {ratio:.3g}; "
                f"taken back, {then} at {level:.4g}"
            )
        else:
            level = state.level * (1.0 / TRIAL_DROP if ratio == 0.0 else TRIAL_DROP)
            text = (
                f"the update at {state.level:.4g} x the reference told nothing ({ratio}); taken back, next {level:.4g}"
            )
        if known < TRIALS and trials == MAX_TRIALS:
            level = level if known else 1.0
            text = f"{trials} trial updates told nothing; the sweep starts at {level:.4g} x the reference"
        state = state._replace(trials=trials, known=known, level=level)
        if known == TRIALS or trials == MAX_TRIALS:
            state = state._replace(stage=SWEEP, start=level)
        reason = Reason("trial", "update_ratio", math.nan if ratio is None else ratio, target, text)
        return state, Adjustment(level=state.level, rewind=True, reasons=(reason,))

    def _on_ladder(self, state: RangeTestState, level: float) -> float:
        """The nearest level whose learning rate is a power of ten to a whole number of rungs.

        So runs that were given different learning rates meet on the same one, to the last bit.
        """
        index = round(self.steps_per_decade * math.log10(level * state.reference))
        return rung(1.0, self.steps_per_decade, index) / state.reference

    def _sweep(self, state: RangeTestState, row: Statistics) -> tuple[RangeTestState, Adjustment]:
        loss, ratio = row.get("loss"), row.get("update_ratio")
        watch = state.watch if loss is None else state.watch.add(loss, calm=not state.crossed)
        if watch.diverged and self._doubtful(watch, loss, ratio):
            watch = watch._replace(diverged=False, turned=False)
        if ratio is not None and not math.isfinite(ratio):
            watch = watch._replace(diverged=True, turned=True)
        crossed = state.crossed
        if not crossed and ratio is not None and self.bar <= ratio < math.inf:
            crossed = state.level * self.bar / ratio
        state = state._replace(watch=watch, crossed=crossed)
        following = rung(state.start, self.steps_per_decade, state.position + 1)
        if watch.diverged:
            return self._stop(state, row, "the loss diverges")
        if crossed and not self.to_divergence:
            return self._stop(state, row, f"updates change the weights by {ratio:.3g}, above {self.bar:.3g}")
        if self.end is not None and following > self.end * (1.0 + 1e-9):
            return self._stop(state, row, f"the end of the range at {self.end:.4g} x the reference is reached")
        if self.budget is not None and state.spent >= self.budget:
            return self._stop(state, row, f"{state.spent} updates are spent, {self.max_share:.0%} of the run")
        keep = watch.improved and watch.smoothed <= watch.best and state.position - state.snapshot >= SNAPSHOT_RUNGS
        keep = keep and not self.may_rehearse  # which starts where the sweep did
        kept = state.position if keep else state.snapshot
        state = state._replace(level=following, position=state.position + 1, snapshot=kept)
        return state, Adjustment(level=following, snapshot=keep)

    def _doubtful(self, watch: LossWatch, loss: float | None, ratio: float | None) -> bool:
        """Whether a loss that seems to diverge may be noise: hardly anything has been changed."""
        finite = loss is not None and math.isfinite(loss)
        small = ratio is not None and ratio < SMALL_SHARE * self.bar
        return finite and small and watch.smoothed - watch.start.mean < BEYOND_DOUBT * math.sqrt(watch.noise)

    def _stop(self, state: RangeTestState, row: Statistics, why: str) -> tuple[RangeTestState, Adjustment]:
        ratio = row.get("update_ratio")
        measured = measured_peak(state.level, ratio, self.bar, crossed=state.crossed, diverged=state.watch.diverged)
        peak = with_usual(measured, state.usual, self.usual_weight)
        rewind = state.watch.diverged or (state.watch.start.size > 0 and not state.watch.improved)
        text = f"{why} at {state.level:.4g} x the reference after {state.spent} updates: the peak is {peak:.4g}"
        value = math.nan if ratio is None else ratio
        reasons: tuple[Reason, ...] = (Reason("peak", "update_ratio", value, self.bar, text),)
        if rewind:
            text = "the loss stands above its start: back to the last snapshot, and up from a tenth of the peak"
            reasons += (Reason("rewind", "loss", state.watch.smoothed, state.watch.start.mean, text),)
        first = peak * RAMP_DEPTH if rewind else rung(state.level, self.steps_per_decade, 1)
        state = state._replace(peak=peak)
        if self.may_rehearse and self.budget is not None and state.watch.start.size:
            planned = rehearsals(self.total_steps, peak, self.budget - state.spent)
            if planned is not None:
                return self._first_rehearsal(state, planned, reasons[0])
        return self._towards_peak(state, row, first, reasons, rewind=rewind)

    def _first_rehearsal(
        self, state: RangeTestState, planned: Rehearsals, found: Reason
    ) -> tuple[RangeTestState, Adjustment]:
        levels = ", ".join(f"{level:.4g}" for level in planned.levels)
        text = f"back to the start; rehearsals of {planned.length} updates each, with peaks of {levels} x the reference"
        reason = Reason("rehearse", "", math.nan, math.nan, text)
        state = state._replace(stage=REHEARSE, level=planned.level, rehearsals=planned)
        return state, Adjustment(level=state.level, rewind=True, reasons=(found, reason))

    def _rehearse(self, state: RangeTestState, row: Statistics) -> tuple[RangeTestState, Adjustment]:
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
        best = min(under_way.losses)
        text = f"of {len(under_way.losses)} rehearsals the lowest loss is {best:.4g}: the peak is {peak:.4g}"
        reasons += (Reason("confirm", "loss", best, math.nan, f"{text} x the reference, not {state.peak:.4g}"),)
        return self._towards_peak(state._replace(peak=peak), row, peak * RAMP_DEPTH, reasons, rewind=True)

    def _towards_peak(
        self, state: RangeTestState, row: Statistics, first: float, reasons: tuple[Reason, ...], *, rewind: bool
    ) -> tuple[RangeTestState, Adjustment]:
        if first >= state.peak:
            return self._at_peak(state, row, reasons)
        state = state._replace(stage=RAMP, level=first, start=first, position=0)
        return state, Adjustment(level=first, rewind=rewind, reasons=reasons)

    def _ramp(self, state: RangeTestState, row: Statistics) -> tuple[RangeTestState, Adjustment]:
        position = state.position + 1
        level = rung(state.start, self.steps_per_decade, position)
        if level < state.peak * (1.0 - 1e-9):
            return state._replace(position=position, level=level), Adjustment(level=level)
        reason = Reason("release", "", math.nan, math.nan, f"the peak of {state.peak:.4g} x the reference is reached")
        return self._at_peak(state, row, (reason,))

    def _at_peak(
        self, state: RangeTestState, row: Statistics, reasons: tuple[Reason, ...]
    ) -> tuple[RangeTestState, Adjustment]:
        """At the peak: probe a higher one, or let go."""
        loss, base = row.get("loss"), self._base(state, row)
        unfit = state.watch.diverged or state.probe.number == MOST_PROBES or base < LEAST_BASE
        if unfit or not self.probed_steps or loss is None or not is_usable(loss):
            return state._replace(stage=DONE, level=state.peak), Adjustment(factor=state.peak, reasons=reasons)
        higher = state.peak * HIGHER
        text = f"tries {self.probed_steps} updates at {higher:.4g} x the reference, to be taken back"
        reasons += (Reason("probe", "", math.nan, math.nan, text),)
        state = state._replace(stage=PROBE, level=higher * base, probe=state.probe.begun(loss, self.probed_steps))
        return state, Adjustment(level=state.level, snapshot=True, reasons=reasons)

    def _probe(self, state: RangeTestState, row: Statistics) -> tuple[RangeTestState, Adjustment]:
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
            return self._taken_back(state._replace(stage=DONE), reason)
        if probe.above.over:
            reached = probe.above.mean
            text = (
                f"the mean loss came to {reached:.4g}: taken back; the peak stays {state.peak:.4g} unless it does worse"
            )
            reason = Reason("compare", "loss", reached, probe.before, text)
            return self._taken_back(state._replace(stage=PROOF), reason)
        state = state._replace(level=state.peak * HIGHER * max(self._base(state, row), LEAST_BASE))
        return state, Adjustment(level=state.level)

    def _proof(self, state: RangeTestState, row: Statistics) -> tuple[RangeTestState, Adjustment]:
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
        return self._at_peak(state._replace(peak=peak), row, (Reason("raise", "loss", lower, higher, text),))

    def _taken_back(self, state: RangeTestState, reason: Reason) -> tuple[RangeTestState, Adjustment]:
        state = state._replace(level=state.peak)
        return state, Adjustment(factor=state.peak, rewind=True, reasons=(reason,))

    def _base(self, state: RangeTestState, row: Statistics) -> float:
        """The base learning rate, in units of the reference."""
        return (row.get("base_lr") or 0.0) / state.reference
