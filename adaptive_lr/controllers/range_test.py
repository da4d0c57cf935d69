"""`RangeTest`: finds the peak learning rate while the run trains, and hands it to the base schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from adaptive_lr.controllers.arguments import check_count, check_flag, check_number
from adaptive_lr.controllers.base import Adjustment, Controller
from adaptive_lr.controllers.peak import horizon_share
from adaptive_lr.controllers.probe import FEWEST_UPDATES
from adaptive_lr.controllers.range_probe import probe_higher, prove
from adaptive_lr.controllers.range_ramp import ramp, rehearse
from adaptive_lr.controllers.range_state import DONE, PROBE, PROOF, RAMP, REHEARSE, SWEEP, TRIAL, RangeTestState
from adaptive_lr.controllers.range_sweep import begin, sweep, try_update
from adaptive_lr.controllers.rehearsal import SHORTEST_RUN
from adaptive_lr.statistics import RATIO_STATISTICS, Phase, Statistics

_STAGES = {TRIAL: try_update, SWEEP: sweep, REHEARSE: rehearse, RAMP: ramp, PROBE: probe_higher, PROOF: prove}
"""What each stage makes of a row, in the order in which they follow; a run that is too short leaves some out."""

_TO_COMPARE = frozenset(("grad_norm", "base_lr", "lr_factor"))
_TO_SWEEP = _TO_COMPARE | frozenset(RATIO_STATISTICS)


@dataclass(frozen=True)
class RangeTest(Controller[RangeTestState]):
    """The LR range test as the warm-up of a run: sweeps the learning rate up, and sets the run's peak.

    While it sweeps it holds the learning rate itself, at reference × level for every group (ratios between groups are
    kept; the reference is the group's `max_lr`, else `initial_lr`, else `lr` when control was attached). The clock of
    the base schedule runs on; other controllers rest. Then it lets go, and its factor is peak / reference.

    1. *Trial.* One update at the learning rate given tells how large an update it makes, a second one, near
       where the sweep is to start, tells it exactly; both are taken back. The sweep starts where the size is a
       fiftieth of the one it ends at, on a ladder of learning rates that does not depend on the one given: neither
       does the run, to the last bit (but in the rare case that the trials fall on two sides of the middle between two
       rungs). A trial that is not finite is tried again 1,000 times lower, one that changes nothing 1,000 times higher.
    2. *Sweep*, `steps_per_decade` updates a decade, training all the while, until the size of the update (of the
       ratios ‖update‖/‖weight‖ of all matrices: `adaptive_lr.controllers.update_size`) reaches `size`, the loss
       diverges, or `max_share` of the run is spent.
    3. *Peak.* The level at which the size meets its bar (extrapolated by at most 10 where it was not reached), or a
       15th of where the loss diverged; then drawn towards what is usual for this kind of optimizer, the less the
       farther apart the two are (`adaptive_lr.controllers.peak`).
    4. *Rehearsals*, in runs of at least 1,000 updates. From the first weights, three short runs (a 40th of the whole
       each, less where the sweep took much) with peaks half a decade apart; the peak moves to where they end at the
       lowest loss, at most half a decade (`adaptive_lr.controllers.rehearsal`). Then everything is taken back, and the
       learning rate rises from a tenth of the peak.
    5. *Ramp.* A peak above the last level is reached at the pace of the sweep: a jump looks like a divergence, and may
       become one. If the loss stands above where it started, parameters and optimizer state first go back to the last
       snapshot that was better, and the learning rate rises again from a tenth of the peak.
    6. *Probe.* The size says too little where weights have far to go (linear models, unscaled targets). So a few
       updates (`probe_share` of the run) are made at ten times the peak and taken back. The run goes on at the peak,
       and where as many updates there come to a clearly higher loss, the peak is raised tenfold, and probed again. A
       probe whose loss does not fall ends at once. Runs too short for a probe of six updates do without
       (`adaptive_lr.controllers.probe`).

    Snapshots are in memory: one copy of the parameters and of the optimizer's state.

    Args:
        total_steps: updates of the whole run. It bounds the sweep, lowers `size` for runs longer than 300 updates by
            the square root of their length, and says whether there is time to rehearse. None: the sweep is not
            bounded, the size not lowered, nothing rehearsed.
        size: of the update (`adaptive_lr.controllers.update_size`) at the peak of a 300-step run. On 61 pairs of
            problem and optimizer 0.14 (better in loss) to 0.2 (better where a run has too few steps) do about equally
            well; single pairs lie up to half a decade away.
        steps_per_decade: resolution. 12 was enough for SGD on a recurrent network, 4 was not.
        max_share: share of `total_steps` that the sweep and the rehearsals may take.
        probe_share: share of `total_steps` that each probe may take, in [0, 1]; 0: the peak is not probed.
        usual_weight: weight of the usual learning rate in the geometric mean where it is near the one measured, in
            [0, 1]; half is what two estimates with equal errors get.
        start: the first level; None: found by the trial step.
        end: the last level; None: none.
        to_divergence: sweep on to divergence (or `end`) although the size was reached: the classic curve. Nothing is
            rehearsed.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or out of its range.
    """

    phase: ClassVar[Phase] = Phase.AFTER
    holds_lr: ClassVar[bool] = True

    total_steps: int | None = None
    size: float = 0.17
    steps_per_decade: float = 12.0
    max_share: float = 0.1
    probe_share: float = 0.025
    usual_weight: float = 0.5
    start: float | None = None
    end: float | None = None
    to_divergence: bool = False

    def __post_init__(self) -> None:
        check_count("total_steps", self.total_steps, optional=True)
        for name in ("size", "steps_per_decade"):
            check_number(name, getattr(self, name), "(0, inf)")
        check_number("max_share", self.max_share, "(0, 1]")
        for name in ("probe_share", "usual_weight"):
            check_number(name, getattr(self, name), "[0, 1]")
        for name in ("start", "end"):
            check_number(name, getattr(self, name), "(0, inf)", optional=True)
        check_flag("to_divergence", self.to_divergence)
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end must be above start, got start={self.start}, end={self.end}")

    @property
    def requires(self) -> frozenset[str]:
        """The update-to-weight ratios (a copy of the weights while measured); the norm, which tells a bad gradient."""
        return _TO_SWEEP

    @property
    def bar(self) -> float:
        """The size of the update at the peak, for a run of this length."""
        return self.size * horizon_share(self.total_steps)

    @property
    def budget(self) -> int | None:
        """Updates until the peak is to be known, or None where that is not bounded."""
        return None if self.total_steps is None else max(1, int(self.max_share * self.total_steps))

    @property
    def may_rehearse(self) -> bool:
        """Whether the run is long enough."""
        return self.total_steps is not None and self.total_steps >= SHORTEST_RUN and not self.to_divergence

    @property
    def probed_steps(self) -> int:
        """Updates of one probe; 0 where there is none: the run is too short, or its range was given."""
        steps = round(self.probe_share * (self.total_steps or 0))
        return steps if steps >= FEWEST_UPDATES and self.end is None and not self.to_divergence else 0

    def requires_now(self, state: RangeTestState) -> frozenset[str]:
        """Nothing once the peak is set; the ratios only while it sweeps."""
        if state.stage == DONE:
            return frozenset()
        return _TO_SWEEP if state.stage in (TRIAL, SWEEP) else _TO_COMPARE

    def needs_snapshot(self, state: RangeTestState) -> bool:
        """Until the peak is set."""
        return state.stage != DONE

    def init(self) -> RangeTestState:
        """Before the first row."""
        return RangeTestState()

    def update(self, state: RangeTestState, statistics: Statistics) -> tuple[RangeTestState, Adjustment]:
        """One row in: the next level, or the peak."""
        if statistics.phase is Phase.START:
            return begin(self, state, statistics)
        if state.stage == DONE:
            return state, Adjustment(factor=state.peak)
        loss = statistics.get("loss")
        broken = loss is not None and not math.isfinite(loss)
        # An overflow of the loss scale is no step; a loss that is itself not finite would overflow for ever.
        if statistics.phase is not Phase.AFTER or not (statistics.updated or broken):
            return state, Adjustment(factor=state.peak) if state.stage == PROOF else Adjustment(level=state.level)
        state = state._replace(spent=state.spent + 1)
        return _STAGES[state.stage](self, state, statistics)
