"""`Damage`: whether the updates under watch have destroyed the run."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from adaptive_lr.controllers.base import Reason
from adaptive_lr.controllers.motion import Motion
from adaptive_lr.controllers.setback import Setback
from adaptive_lr.controllers.sweep import UNKNOWN_RISE, LossWatch
from adaptive_lr.controllers.vanished import VanishedGradient
from adaptive_lr.series import LARGEST_VALUE, Moments, is_usable

HARMLESS_RATIO = 0.03
"""Update-to-weight ratio up to which losses belong to the start: three times below the target."""

TOO_SMALL = 0.01
"""Update-to-weight ratio up to which updates destroy nothing, however many. At 3, 10 and 30 times the best peak of nine
workloads with two optimizers (four or six seeds each) a rising loss was right in three runs to ask for a cut where no
update since the snapshot was larger than 0.06: on a deep plain network (0.017, 0.053), and on one with unscaled inputs
(0.029)."""

STORM_RATIO, STORM_STEPS = 0.14, 20
"""Updates after the first one larger than this ratio, by which the loss must stand below its start: large updates that
teach anything teach it at once."""

GIVEN_BACK = 0.1
"""Share of the fall that is left where the rest was given back: a network whose large updates first taught and then
killed it stands a little below its start for good. A fifth of what makes a loss diverge (`sweep.RISE`), and not
tuned."""

ALIVE = 2.0 / 3.0
"""Share of the start by which the loss has fallen if the network lives, whatever the noise of its first losses says. On
the regression of `BEYOND_NOISE` they vary from 0.4 to 3.5, and hid a fall to a twentieth on seven of forty seeds."""

HIGH_LOSSES = 3
"""Losses in a row so far above the start (`UNKNOWN_RISE`) that are no bad batch, where updates exceed the target."""

RECENT, KEPT = 5, 12
"""Losses whose median is compared with the start, and losses from whose differences the noise is taken."""

NOISY = 0.15
"""Mean size of successive differences before updates grew large, as a share of the start, from which a few high losses
may be noise. Far below it (0.01 to 0.04 on a deep plain network) no update is to be lost: waiting for five losses cost
two runs of ten all they could learn, because the updates of a network that breaks up say nothing of how far to cut. On
the regression of `BEYOND_NOISE` it is 0.14 to 1.3, its median 0.6 (32 runs)."""

BEYOND_NOISE = 5.0
"""Standard errors by which the median of the last losses stands above the start if that is not noise. Mean squares of
32 products of normal variables vary by half their mean and more: without this bound 16 of 40 healthy runs on them
were taken back within ten updates (`experiments/results/comparison_notes.md`)."""

NORMAL_DIFFERENCE = 0.9539
"""Median size of the difference of two normal values, in standard deviations."""

SNAPSHOT_RATIO = 0.2
"""Update-to-weight ratio since the last snapshot from which none replaces it until the watch ends. A run that has made
such updates may be damaged though its loss falls: a GRU at ten times its best peak, cut to that peak a third into the
run, stayed 8 points below when it went on from its lowest loss, and lost nothing when it started again from the
weights before."""


class Damage(NamedTuple):
    """What was seen of the updates since the watch began, or since the last cut.

    A watch that begins midway through a run, as when a sweep lets go, takes its first losses for the start however
    large the updates are: at initialisation one loss tells where the run starts, later single losses vary too much.
    """

    midway: bool = False  # whether the watch began midway through a run
    watch: LossWatch = LossWatch()
    gradient: VanishedGradient = VanishedGradient()
    worst: float = 0.0  # largest update-to-weight ratio since the last snapshot
    steepest: float = 0.0  # largest ratio per learning rate since then
    storm: int = 0  # updates since the first that was larger than STORM_RATIO
    high: int = 0  # losses in a row far above the start, while updates were larger than the target
    nonfinite: int = 0  # losses in a row that were not finite
    recent: tuple[float, ...] = ()  # the last losses, oldest first; at most KEPT
    motion: Motion = Motion()  # of the weights, per learning rate
    swing: Moments = Moments()  # sizes of the differences of successive losses, before updates grew large

    def add(self, loss: float | None, norm: float | None, ratio: float | None, rate: float, *, target: float) -> Damage:
        """One update more.

        Args:
            loss: of its batch, before it; None where there is none, or it tells nothing.
            norm: of its gradient; None where it was not measured.
            ratio: its update-to-weight ratio; None where it was not measured, or the update was left out.
            rate: its learning rate.
            target: ratio above which a high loss is no bad batch.
        """
        midway, watch, gradient, worst, steepest, storm, high, nonfinite, recent, motion, swing = self
        harmless, calm = midway or worst <= HARMLESS_RATIO, not storm
        if ratio is None:
            ratio = 0.0
        elif ratio < LARGEST_VALUE and rate > 0.0:
            motion = motion.add(ratio / rate)
        worst, steepest = max(worst, ratio) if ratio < LARGEST_VALUE else LARGEST_VALUE, max(steepest, per(ratio, rate))
        storm = storm + 1 if storm or worst > STORM_RATIO else 0
        if loss is None:
            return Damage(midway, watch, gradient, worst, steepest, storm, high, nonfinite, recent, motion, swing)
        usable = is_usable(loss)
        nonfinite = 0 if usable else nonfinite + 1
        if nonfinite != 1:
            watch = watch.add(loss, harmless=harmless, calm=calm)
        start = watch.start.mean
        far = watch.started and usable and loss > start + UNKNOWN_RISE * abs(start)
        high = high + 1 if far and worst > target else 0
        if usable:
            if recent and calm:
                swing = swing.add(abs(loss - recent[-1]))
            recent = (*recent[1 - KEPT :], loss)
            if norm is not None and norm < LARGEST_VALUE:
                gradient = gradient.add(loss, norm)
        return Damage(midway, watch, gradient, worst, steepest, storm, high, nonfinite, recent, motion, swing)

    def since(self, ratio: float, rate: float) -> Damage:
        """The same after a snapshot; the last update still counts."""
        return self._replace(worst=ratio, steepest=per(ratio, rate))

    def worth_keeping(self, kept: float) -> bool:
        """Whether the state is worth going back to.

        Its smoothed loss is the best, and no worse than `kept`; no update was large since, no gradient has vanished.
        """
        watch = self.watch
        dying = self.gradient.low or self._unmoved
        return watch.at_best and watch.smoothed <= kept and self.worst <= SNAPSHOT_RATIO and not dying

    @property
    def harmless(self) -> bool:
        """Whether updates since the snapshot were all too small to do harm; not where their size is not known."""
        return 0.0 < self.worst <= TOO_SMALL

    def reason(self, loss: float | None, norm: float | None, setback: Setback) -> Reason | None:
        """Why the loss of the last update says that the run is destroyed, or None."""
        if loss is None:
            return None
        watch, start = self.watch, self.watch.start.mean
        if self.nonfinite > 1:
            return Reason("rescue", "loss", loss, start, f"the loss is {loss}")
        if watch.diverged and (self._beyond_noise if self._noisy else loss > start):
            text = f"the smoothed loss rose to {watch.smoothed:.4g}, from {start:.4g} when the watch began"
            return Reason("rescue", "loss", watch.smoothed, start, text)
        if self.high >= HIGH_LOSSES and (self._beyond_noise or not self._noisy):
            text = f"{self.high} losses in a row stand far above {start:.4g} when the watch began"
            return Reason("rescue", "loss", loss, start, text)
        if setback.found:
            return setback.reason("rescue")
        if self.storm == STORM_STEPS and self._taught_nothing:
            text = f"updates of up to {self.worst:.3g} of the weights' size taught nothing in {STORM_STEPS} updates"
            return Reason("rescue", "loss", watch.smoothed, start, text)
        if self._unmoved:
            text = f"the weights hardly move any more, and the loss stands at {loss:.4g}, no lower than its start"
            return Reason("rescue", "loss", loss, start, text)
        if self.storm and norm is not None and self.gradient.found:
            text = f"the gradient has vanished, to {norm:.3g} at a loss of {loss:.4g}: the network is dead"
            return Reason("rescue", "grad_norm", norm, self.gradient.threshold(loss), text)
        return None

    @property
    def _noisy(self) -> bool:
        """Whether single losses vary so much that a few tell little; a run that breaks up makes noise of its own."""
        return self.swing.mean > NOISY * abs(self.watch.start.mean)

    @property
    def _beyond_noise(self) -> bool:
        """Whether the last losses stand above the start by more than noise and one or two bad batches make of it.

        The noise is taken from the median of successive differences, which neither a trend nor a single leap enters.
        """
        size = self.watch.start.size
        if len(self.recent) < min(size + RECENT, KEPT):
            return False
        deviation = median(abs(b - a) for a, b in pairwise(self.recent)) / NORMAL_DIFFERENCE
        error = deviation * math.sqrt(1.0 / size + 1.0 / RECENT)
        return median(self.recent[-RECENT:]) - self.watch.start.mean > BEYOND_NOISE * error

    @property
    def _unmoved(self) -> bool:
        """Whether the weights hardly move any more and the last losses stand no lower than the start, but for noise."""
        start = self.watch.start
        if not (self.motion.ended and self.watch.started) or len(self.recent) < KEPT:
            return False
        least = max(GIVEN_BACK * (start.mean - self.watch.best), 2.0 * math.sqrt(start.variance / start.size))
        return start.mean - median(self.recent) < min(least, ALIVE * abs(start.mean))

    @property
    def _taught_nothing(self) -> bool:
        """Whether the last losses stand no lower than the start, or back near it, where noise lets that be seen."""
        if self._noisy or not self.recent:
            return False
        start, last = self.watch.start.mean, median(self.recent[-RECENT:])
        if self.watch.fell:
            return start - last < GIVEN_BACK * (start - self.watch.best)
        return not self.watch.improved and last >= start


def per(ratio: float, rate: float) -> float:
    """Update-to-weight ratio per learning rate; 0 where that tells nothing."""
    return min(ratio / rate, LARGEST_VALUE) if rate > 0.0 and ratio < LARGEST_VALUE else 0.0
