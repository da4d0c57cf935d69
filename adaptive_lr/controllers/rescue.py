"""`Rescue`: takes back what a much too large peak learning rate destroys in its first updates, and lowers it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from adaptive_lr.controllers.base import Adjustment, Controller, Reason
from adaptive_lr.controllers.sweep import LossWatch
from adaptive_lr.series import LARGEST_VALUE, is_usable
from adaptive_lr.statistics import Phase, Statistics

HARMLESS_RATIO = 0.03
"""Update-to-weight ratio up to which losses belong to the start: five times below where runs do best."""

SETTLE = 3
"""Rows after a rewind that are not judged: with a lag of up to 3 they still come from the old learning rate."""

STORM_STEPS = 20
"""Updates after the first one larger than the target, by which the loss must stand below its start: large updates that
teach anything teach it at once."""

SNAPSHOT_STEPS = 10
"""Updates between two snapshots of an improving run."""

LEAST_CUT, MOST_CUT = 1e-4, 1.0 / 3.0
"""Bounds of one cut. Half a decade is the least that tells one learning rate from another."""


class RescueState(NamedTuple):
    """What is watched."""

    watching: bool = True
    factor: float = 1.0
    watch: LossWatch = LossWatch()
    storm: int = 0  # updates since the first that was larger than the target
    worst: float = 0.0  # largest update-to-weight ratio since the last snapshot
    age: int = 0  # updates since the last snapshot
    kept: float = LARGEST_VALUE  # smoothed loss at the last snapshot; never to be replaced by a worse one
    settling: int = 0  # rows not to be judged
    peak: float = 0.0  # highest base learning rate so far
    quiet: int = 0  # updates since the base last rose, or since the last cut
    nonfinite: int = 0  # losses in a row that were not finite


@dataclass(frozen=True)
class Rescue(Controller[RescueState]):
    """Watches the first updates at every new height of the base learning rate; rewinds and cuts what destroys the run.

    A far too large peak destroys a network within a few updates, before any running statistic knows what is normal,
    and nothing that comes later brings it back. So while the base learning rate rises, and `watch_steps` updates
    beyond, the law keeps a snapshot of the last healthy state. The run is taken to be destroyed where

    - the loss, smoothed, stands above its start, or above its best, by half of the fall that was reached (and by more
      than its noise; see `adaptive_lr.controllers.sweep.LossWatch`), or is not finite twice in a row (a single such
      loss is a bad batch), or
    - an update is as large as the weights it changes (`max_ratio`), and the loss is not just reaching a new best (near
      an optimum at zero weights are small), or is not finite, or
    - 20 updates after the first one larger than `target_ratio`, the loss does not stand below its start.

    Then parameters and optimizer state go back to the snapshot, and the factor is cut to where updates would have been
    `target_ratio` of the weights, at least to a third. A cut stays: what was learned is that the peak was wrong.

    While it watches, the update-to-weight ratio costs a copy of the weights each step, and the snapshot holds one copy
    of parameters and optimizer state; afterwards the law costs nothing.

    Args:
        watch_steps: updates watched after the base learning rate last rose or was last cut. Deep plain networks trained
            with SGD learn for some 70 updates before the curvature that they grow breaks them up.
        max_ratio: largest ‖update‖ / ‖weight‖ over matrices that is let pass. Wide shallow networks do best at ratios
            near 1, most at 0.14; at 1 nothing of the old weights need be left.
        target_ratio: the ratio aimed at by a cut; the level that fits best over 57 pairs of workload and optimizer.
        min_factor: lower bound of this law's factor, in (0, 1].
        snapshots: False saves their memory: the learning rate is cut, nothing is taken back.

    Raises:
        ValueError: an argument is out of its range.
    """

    phase: ClassVar[Phase] = Phase.AFTER

    watch_steps: int = 200
    max_ratio: float = 1.0
    target_ratio: float = 0.14
    min_factor: float = 1e-8
    snapshots: bool = True

    def __post_init__(self) -> None:
        if self.watch_steps < 1:
            raise ValueError(f"watch_steps must be at least 1, got {self.watch_steps}")
        if not 0.0 < self.target_ratio < self.max_ratio < math.inf:
            raise ValueError(
                "target_ratio and max_ratio must satisfy 0 < target_ratio < max_ratio, "
                f"got {self.target_ratio} and {self.max_ratio}"
            )
        if not 0.0 < self.min_factor <= 1.0:
            raise ValueError(f"min_factor must be in (0, 1], got {self.min_factor}")

    @property
    def requires(self) -> frozenset[str]:
        """The update-to-weight ratio (while watching) and the base learning rate."""
        return frozenset(("update_ratio", "base_lr"))

    def requires_now(self, state: RescueState) -> frozenset[str]:
        """The ratio only while watching."""
        return self.requires if state.watching else frozenset(("base_lr",))

    def needs_snapshot(self, state: RescueState) -> bool:
        """While watching."""
        return self.snapshots and state.watching

    def init(self) -> RescueState:
        """Watching from the first update on."""
        return RescueState()

    def update(self, state: RescueState, statistics: Statistics) -> tuple[RescueState, Adjustment]:
        """One step in."""
        if statistics.phase is Phase.START:
            return state, Adjustment(snapshot=self.snapshots)
        if statistics.phase is not Phase.AFTER or not statistics.updated:
            return state, self._standing(state)
        base = statistics.values.get("base_lr", 0.0)
        if base > state.peak:
            state = self._higher(state, base)
        if not state.watching:
            return state, self._standing(state)
        if state.settling:
            return state._replace(settling=state.settling - 1), self._standing(state)
        loss, ratio = statistics.get("loss"), statistics.values.get("update_ratio", 0.0)
        watch, nonfinite = state.watch, 0
        if loss is not None:
            nonfinite = 0 if is_usable(loss) else state.nonfinite + 1
            if nonfinite != 1:
                watch = watch.add(loss, harmless=state.worst <= HARMLESS_RATIO, calm=not state.storm)
        worst = max(state.worst, ratio) if ratio < LARGEST_VALUE else LARGEST_VALUE
        storm = state.storm + 1 if state.storm or worst > self.target_ratio else 0
        age, quiet = state.age + 1, state.quiet + 1
        state = state._replace(watch=watch, storm=storm, worst=worst, age=age, quiet=quiet, nonfinite=nonfinite)
        reason = self._destroyed(state, ratio, loss)
        if reason is not None:
            return self._cut(state, reason)
        if state.quiet > self.watch_steps:
            return state._replace(watching=False, watch=LossWatch()), self._standing(state)
        healthy = watch.improved and watch.smoothed <= min(watch.best, state.kept)
        if self.snapshots and healthy and state.age >= SNAPSHOT_STEPS:
            state = state._replace(worst=ratio, age=0, kept=watch.smoothed)
            return state, Adjustment(factor=state.factor, snapshot=True)
        return state, self._standing(state)

    def _higher(self, state: RescueState, base: float) -> RescueState:
        """The base learning rate is higher than ever: watch (again)."""
        if state.watching:
            return state._replace(peak=base, quiet=0)
        return RescueState(factor=state.factor, peak=base)

    def _destroyed(self, state: RescueState, ratio: float, loss: float | None) -> Reason | None:
        """Why the run is taken to be destroyed, or None."""
        watch = state.watch
        learning = watch.improved and watch.smoothed <= watch.best
        if not ratio < self.max_ratio and not (learning and math.isfinite(ratio)):
            text = f"an update changed the weights by {ratio:.3g} of their size, {self.max_ratio:g} or more"
            return Reason("rescue", "update_ratio", ratio, self.max_ratio, text)
        if watch.turned and loss is not None:
            if not math.isfinite(loss):
                text = f"the loss is {loss}"
            elif watch.diverged:
                text = f"the smoothed loss rose to {watch.smoothed:.4g}, from {watch.start.mean:.4g} at the start"
            else:
                text = f"the smoothed loss rose to {watch.smoothed:.4g}, from {watch.best:.4g} at its best"
            return Reason("rescue", "loss", loss, watch.start.mean if watch.diverged else watch.best, text)
        if state.storm == STORM_STEPS and loss is not None and not watch.improved:
            text = f"updates of up to {state.worst:.3g} of the weights' size taught nothing in {STORM_STEPS} updates"
            return Reason("rescue", "loss", watch.smoothed, watch.start.mean, text)
        return None

    def _cut(self, state: RescueState, reason: Reason) -> tuple[RescueState, Adjustment]:
        cut = min(max(self.target_ratio / state.worst, LEAST_CUT), MOST_CUT) if state.worst else MOST_CUT
        factor = max(state.factor * cut, self.min_factor)
        done = "back to the last snapshot, " if self.snapshots else ""
        text = f"{reason.text}: {done}factor {state.factor:.4g} -> {factor:.4g}"
        reason = Reason(reason.action, reason.statistic, reason.value, reason.threshold, text)
        following = RescueState(factor=factor, kept=state.kept, settling=SETTLE, peak=state.peak)
        return following, Adjustment(factor=factor, rewind=self.snapshots, reasons=(reason,))

    def _standing(self, state: RescueState) -> Adjustment:
        return Adjustment(factor=state.factor)
