"""`Rescue`: takes back what a much too large peak learning rate destroys, and lowers it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from adaptive_lr.controllers.base import Adjustment, Controller, Reason
from adaptive_lr.controllers.hold import Hold
from adaptive_lr.controllers.setback import Setback
from adaptive_lr.controllers.sweep import UNKNOWN_RISE, LossWatch
from adaptive_lr.series import LARGEST_VALUE, is_usable
from adaptive_lr.statistics import SKIPPED, Phase, Statistics

HARMLESS_RATIO = 0.03
"""Update-to-weight ratio up to which losses belong to the start: three times below the target."""

SETTLE = 3
"""Rows after a rewind that are not judged: with a lag of up to 3 they still come from the old learning rate."""

RISING_STEPS = 2
"""Updates from the one at which the base learning rate last rose (or the first after a cut) that count as its rise."""

LATER_RATIO = 1.0
"""Update-to-weight ratio that is let pass later: at 1 nothing of the old weights need be left, and near an optimum at
zero weights are small (on Rosenbrock's function healthy runs reach 0.97)."""

STORM_RATIO, STORM_STEPS = 0.14, 20
"""Updates after the first one larger than this ratio, by which the loss must stand below its start: large updates that
teach anything teach it at once."""

HIGH_LOSSES = 3
"""Losses in a row so far above the start (`UNKNOWN_RISE`) that are no bad batch, where updates exceed the target."""

SNAPSHOT_STEPS = 10
"""Updates between two snapshots of an improving run."""

SNAPSHOT_RATIO = 0.2
"""Update-to-weight ratio since the last snapshot from which none replaces it until the watch ends. A run that has made
such updates may be damaged though its loss falls: a GRU at ten times its best peak, cut to that peak a third into the
run, stayed 8 points below when it went on from its lowest loss, and lost nothing when it started again from the
weights before."""

LEAST_CUT, MOST_CUT = 1e-4, 1.0 / 3.0
"""Bounds of one cut. Half a decade is the least that tells one learning rate from another."""

_UNCHANGED = Adjustment()
_AT_REST = frozenset(("base_lr", SKIPPED))


class RescueState(NamedTuple):
    """What is watched."""

    watching: bool = True
    factor: float = 1.0
    watch: LossWatch = LossWatch()
    setback: Setback = Setback()
    hold: Hold = Hold()
    storm: int = 0  # updates since the first that was larger than STORM_RATIO
    high: int = 0  # losses in a row far above the start, while updates were larger than the target
    worst: float = 0.0  # largest update-to-weight ratio since the last snapshot
    age: int = 0  # updates since the last snapshot
    kept: float = LARGEST_VALUE  # smoothed loss at the last snapshot; never to be replaced by a worse one
    settling: int = 0  # rows not to be judged
    base: float = 0.0  # base learning rate of the last update
    peak: float = 0.0  # highest base learning rate so far
    quiet: int = 0  # updates since the base last rose, or since the last cut
    nonfinite: int = 0  # losses in a row that were not finite
    skipped: int = 0  # updates in a row that were left out


@dataclass(frozen=True)
class Rescue(Controller[RescueState]):
    """Watches the first updates at every new height of the base learning rate; rewinds and cuts what destroys the run.

    A far too large peak destroys a network within a few updates, before any running statistic knows what is normal,
    and nothing that comes later brings it back. So while the base learning rate rises, and `watch_steps` updates
    beyond, the law keeps a snapshot of the last state before updates grew large. The peak is taken to be too large
    where

    - an update changes the weights by `max_ratio` of their size while the base rises, or later by all of their size
      while the loss is not just reaching a new best, or is not finite, or
    - the loss, smoothed, stands above its start by half of the fall that was reached (and by more than its noise; see
      `adaptive_lr.controllers.sweep.LossWatch`), or is a quarter above it three times in a row while updates are
      larger than `target_ratio`, or is not finite twice in a row (a single such loss is a bad batch; so is the loss of
      a single update that was skipped, whatever it is), or
    - the mean of the last 24 losses stands significantly above the best such mean
      (`adaptive_lr.controllers.setback.Setback`), or
    - 20 updates after the first one larger than 0.14 of the weights, the loss does not stand below its start.

    Then parameters and optimizer state go back to the snapshot, and the factor is cut to where updates would have been
    `target_ratio` of the weights, at least to a third. While the base goes on rising, the learning rate is held where
    the ratio passes `target_ratio`, and for as long as the law watches it is the lower of the base and of where it was
    held (`adaptive_lr.controllers.hold.Hold`). The factor that stands when the watch is over stays: what was learned is
    that the peak was wrong. From then on only a setback still cuts, to a third, and nothing is taken back.

    While it watches, the update-to-weight ratio costs a copy of the weights each step, and the snapshot holds one copy
    of parameters and optimizer state; afterwards the law costs nothing.

    Args:
        watch_steps: updates watched after the base learning rate last rose or was last cut. Deep plain networks trained
            with SGD learn for some 70 updates before the curvature that they grow breaks them up.
        max_ratio: largest ‖update‖ / ‖weight‖ over matrices that is let pass while the base rises. The largest at the
            best peak was 0.34 (logistic regression with SGD, ten seeds; 0.26 on the other nineteen pairs of workload
            and optimizer); at ten times the best peak 10 of the 20 pass 0.4, at thirty times 17.
        target_ratio: the ratio aimed at by a cut. On those pairs the largest ratio of the warm-up at the best peak is
            0.005 to 0.26, its median 0.085, and half of them lie between 0.04 and 0.15.
        min_factor: lower bound of this law's factor, in (0, 1].
        snapshots: False saves their memory: the learning rate is cut, nothing is taken back.

    Raises:
        ValueError: an argument is out of its range.
    """

    phase: ClassVar[Phase] = Phase.AFTER

    watch_steps: int = 200
    max_ratio: float = 0.4
    target_ratio: float = 0.1
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
        """The update-to-weight ratio (while watching), the base learning rate, and whether an update was skipped."""
        return _AT_REST | {"update_ratio"}

    def requires_now(self, state: RescueState) -> frozenset[str]:
        """The ratio only while watching."""
        return self.requires if state.watching else _AT_REST

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
        following = base + max(base - state.base, 0.0) if state.base else base  # as a straight warm-up would go on
        if base > state.peak:
            state = self._higher(state, base)
        loss = statistics.get("loss")
        if SKIPPED in statistics.values:
            state = state._replace(skipped=state.skipped + 1)
            if state.skipped == 1:
                loss = None  # of a bad batch that did no harm; the next loss tells whether it was the weights
        elif state.skipped:
            state = state._replace(skipped=0)
        usable = loss is not None and is_usable(loss)
        if loss is not None and usable and not state.settling:
            state = state._replace(setback=state.setback.add(loss))
        state = state._replace(base=base)
        if not state.watching:
            return self._backed_off(state) if usable and state.setback.found else (state, self._standing(state))
        ratio = statistics.values.get("update_ratio", 0.0)
        state, reasons = self._held(state, ratio, following)
        if state.settling:
            return state._replace(settling=state.settling - 1), Adjustment(factor=state.factor, reasons=reasons)
        state = self._watched(state, loss, ratio)
        reason = self._destroyed(state, ratio, loss)
        if reason is not None:
            return self._cut(state, reason, following)
        if state.quiet > self.watch_steps:
            state = state._replace(watching=False, watch=LossWatch(), hold=Hold())
            return state, Adjustment(factor=state.factor, reasons=reasons)
        watch = state.watch
        healthy = watch.improved and watch.smoothed <= min(watch.best, state.kept) and state.worst <= SNAPSHOT_RATIO
        snapshot = self.snapshots and healthy and state.age >= SNAPSHOT_STEPS
        if snapshot:
            state = state._replace(worst=ratio, age=0, kept=watch.smoothed)
        return state, Adjustment(factor=state.factor, snapshot=snapshot, reasons=reasons)

    def _higher(self, state: RescueState, base: float) -> RescueState:
        """The base learning rate is higher than ever: watch (again)."""
        if state.watching:
            return state._replace(peak=base, quiet=0)
        return RescueState(factor=state.factor, setback=state.setback, base=state.base, peak=base)

    def _held(self, state: RescueState, ratio: float, following: float) -> tuple[RescueState, tuple[Reason, ...]]:
        """The learning rate under its ceiling."""
        rising = state.quiet == 0
        hold = state.hold.follow(state.base * state.factor, ratio, self.target_ratio, rising=rising)
        factor = hold.factor(state.factor, following, self.min_factor) if following > 0.0 else state.factor
        if factor == state.factor:
            return state._replace(hold=hold), ()
        text = f"the learning rate is held at {hold.ceiling:.4g} (base {following:.4g}): "
        text += f"factor {state.factor:.4g} -> {factor:.4g}"
        reason = Reason("hold", "update_ratio", ratio, self.target_ratio, text)
        return state._replace(hold=hold, factor=factor), (reason,)

    def _watched(self, state: RescueState, loss: float | None, ratio: float) -> RescueState:
        """One judged update more."""
        watch, nonfinite, high = state.watch, 0, 0
        worst = max(state.worst, ratio) if ratio < LARGEST_VALUE else LARGEST_VALUE
        if loss is not None:
            nonfinite = 0 if is_usable(loss) else state.nonfinite + 1
            if nonfinite != 1:
                watch = watch.add(loss, harmless=state.worst <= HARMLESS_RATIO, calm=not state.storm)
            start = watch.start.mean
            far = watch.started and is_usable(loss) and loss > start + UNKNOWN_RISE * abs(start)
            high = state.high + 1 if far and worst > self.target_ratio else 0
        return state._replace(
            watch=watch,
            storm=state.storm + 1 if state.storm or worst > STORM_RATIO else 0,
            high=high,
            worst=worst,
            age=state.age + 1,
            quiet=state.quiet + 1,
            nonfinite=nonfinite,
        )

    def _destroyed(self, state: RescueState, ratio: float, loss: float | None) -> Reason | None:
        """Why the run is taken to be destroyed, or None."""
        watch = state.watch
        rising = state.quiet <= RISING_STEPS
        bound = self.max_ratio if rising else max(self.max_ratio, LATER_RATIO)
        learning = not rising and watch.improved and watch.smoothed <= watch.best and math.isfinite(ratio)
        if not ratio < bound and not learning:
            text = f"an update changed the weights by {ratio:.3g} of their size, {bound:g} or more"
            return Reason("rescue", "update_ratio", ratio, bound, text)
        if loss is None:
            return None
        start = watch.start.mean
        if watch.diverged and not math.isfinite(loss):
            return Reason("rescue", "loss", loss, start, f"the loss is {loss}")
        if watch.diverged:
            text = f"the smoothed loss rose to {watch.smoothed:.4g}, from {start:.4g} at the start"
            return Reason("rescue", "loss", loss, start, text)
        if state.high >= HIGH_LOSSES:
            text = f"{state.high} losses in a row stand far above {start:.4g} at the start"
            return Reason("rescue", "loss", loss, start, text)
        if state.setback.found:
            return self._setback(state, "rescue")
        if state.storm == STORM_STEPS and not watch.improved:
            text = f"updates of up to {state.worst:.3g} of the weights' size taught nothing in {STORM_STEPS} updates"
            return Reason("rescue", "loss", watch.smoothed, start, text)
        return None

    def _setback(self, state: RescueState, action: str) -> Reason:
        now, best = state.setback.now.mean, state.setback.best.mean
        return Reason(action, "loss", now, best, f"the mean loss rose to {now:.4g}, from {best:.4g} at its best")

    def _cut(self, state: RescueState, reason: Reason, following: float) -> tuple[RescueState, Adjustment]:
        # An update that began at the snapshot was measured against healthy weights: its ratio may be believed.
        least = LEAST_CUT if state.age > 1 or state.worst >= LARGEST_VALUE else self.min_factor
        cut = min(max(self.target_ratio / state.worst, least), MOST_CUT) if state.worst else MOST_CUT
        ceiling = state.base * state.factor * cut
        hold = Hold(ceiling, regains=reason.statistic == "update_ratio") if ceiling > 0.0 else state.hold
        # The base may rise before the next update, which is not to see more than the ceiling.
        factor = max(state.factor * cut * (state.base / following if following else 1.0), self.min_factor)
        done = "back to the last snapshot, " if self.snapshots else ""
        changes = self.snapshots or factor != state.factor
        reasons = (_with_factors(reason, done, state.factor, factor),) if changes else ()
        state = RescueState(
            factor=factor, hold=hold, kept=state.kept, settling=SETTLE, base=state.base, peak=state.peak
        )
        return state, Adjustment(factor=factor, rewind=self.snapshots, reasons=reasons)

    def _backed_off(self, state: RescueState) -> tuple[RescueState, Adjustment]:
        """A setback after the watch: the factor is cut, and the best counts anew."""
        factor = max(state.factor * MOST_CUT, self.min_factor)
        reason = _with_factors(self._setback(state, "back off"), "", state.factor, factor)
        reasons = (reason,) if factor != state.factor else ()
        return state._replace(factor=factor, setback=Setback()), Adjustment(factor=factor, reasons=reasons)

    def _standing(self, state: RescueState) -> Adjustment:
        return _UNCHANGED if state.factor == 1.0 else Adjustment(factor=state.factor)


def _with_factors(reason: Reason, done: str, before: float, after: float) -> Reason:
    text = f"{reason.text}: {done}factor {before:.4g} -> {after:.4g}"
    return Reason(reason.action, reason.statistic, reason.value, reason.threshold, text)
