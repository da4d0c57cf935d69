"""`Rescue`: takes back what a much too large peak learning rate destroys, and lowers it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from adaptive_lr.controllers.arguments import check_count, check_flag, check_number
from adaptive_lr.controllers.base import Adjustment, Controller, Reason
from adaptive_lr.controllers.compound import Compound
from adaptive_lr.controllers.damage import Damage
from adaptive_lr.controllers.futility import Futility
from adaptive_lr.controllers.hold import Hold
from adaptive_lr.controllers.regain import REGAIN_UPDATES, Regain
from adaptive_lr.controllers.relapse import CUT, Relapse
from adaptive_lr.controllers.relapse import NONE as NO_RELAPSE
from adaptive_lr.controllers.setback import Setback
from adaptive_lr.controllers.suspicion import CLEARED, COMPARES, CONFIRMED, GRANTED, NONE, WAITS, Suspicion
from adaptive_lr.series import LARGEST_VALUE, is_usable
from adaptive_lr.statistics import RATIO_STATISTICS, SKIPPED, Phase, Statistics

SETTLE = 3
"""Rows after a rewind that are not judged: with a lag of up to 3 they still come from the old learning rate."""

RISING_STEPS = 2
"""Updates from the one at which the base learning rate last rose (or the first after a cut) that count as its rise."""

LATER_RATIO = 1.0
"""Update-to-weight ratio that is let pass later: at 1 nothing of the old weights need be left, and near an optimum at
zero weights are small (on Rosenbrock's function healthy runs reach 0.97)."""

BEYOND_DOUBT = 10.0
"""Multiple of `max_ratio` from which an update is cut at once: four times the weights leaves nothing of them."""

BAD_BATCHES = 2
"""Skipped updates in a row whose losses say nothing of the weights. Skipping them harmed nothing, so waiting costs no
more than those updates."""

SNAPSHOT_STEPS = 10
"""Updates between two snapshots of an improving run."""

LEAST_CUT, MOST_CUT = 1e-4, 1.0 / 3.0
"""Bounds of one cut. Half a decade is the least that tells one learning rate from another."""

_UNCHANGED = Adjustment()
_MIDWAY = Damage(midway=True)
_AT_REST = frozenset(("base_lr", SKIPPED))
_WATCHING = _AT_REST | {*RATIO_STATISTICS, "grad_norm"}


class RescueState(NamedTuple):
    """What is watched."""

    watching: bool = True
    factor: float = 1.0
    damage: Damage = Damage()
    setback: Setback = Setback()
    hold: Hold = Hold()
    age: int = 0  # updates since the last snapshot
    kept: float = LARGEST_VALUE  # smoothed loss at the last snapshot; never to be replaced by a worse one
    settling: int = 0  # rows not to be judged
    base: float = 0.0  # base learning rate of the last update
    peak: float = 0.0  # highest base learning rate so far
    quiet: int = 0  # updates since the base last rose, or since the last cut
    skipped: int = 0  # updates in a row that were left out
    compound: Compound = Compound()
    suspicion: Suspicion = Suspicion()
    futility: Futility = Futility()
    regain: Regain = Regain()
    relapse: Relapse = Relapse()


@dataclass(frozen=True)
class Rescue(Controller[RescueState]):
    """Watches the first updates at every new height of the base learning rate; rewinds and cuts what destroys the run.

    A far too large peak destroys a network within a few updates, before any running statistic knows what is normal,
    and nothing that comes later brings it back. So while the base learning rate rises, and `watch_steps` updates
    beyond, the law keeps a snapshot of the last state before updates grew large. The peak is taken to be too large
    where

    - an update changes the weights by `max_ratio` of their size while the base rises, and a comparison confirms it, by
      ten times that, or later by all of their size while the loss is not just reaching a new best, or is not finite,
    - five updates while it rises, or up to ten after it, change the network as a whole by 0.75 of its size, the changes
      of its matrices taken one after the other, and none changes a single one by `max_ratio`; judged once it has
      stopped rising, if nothing was suspected or cut since the watch began
      (`adaptive_lr.controllers.compound.Compound`), or
    - the loss, smoothed, stands above its start by half of the fall that was reached (and by more than its noise; see
      `adaptive_lr.controllers.sweep.LossWatch`), or is a quarter above it three times in a row while updates are
      larger than `target_ratio`; where it is noisy, only if the median of its last five values does by five standard
      errors as well; or
    - it is not finite twice in a row (a single such loss is a bad batch; so are the losses of up to two updates in a
      row that were skipped, whatever they are), or
    - the mean of the last 24 losses stands significantly above the best such mean
      (`adaptive_lr.controllers.setback.Setback`), or
    - 20 updates after the first one larger than 0.14 of the weights, the loss does not stand below its start, or of a
      clear fall has given back nine tenths, or
    - the weights come to move, per learning rate, a tenth as far as they did, while the loss stands no lower than its
      start (`adaptive_lr.controllers.motion.Motion`), or
    - after an update larger than 0.14 the gradient vanishes while the loss does not, to a 30th of what it was for its
      loss: units are dead, whatever the loss began at (`adaptive_lr.controllers.vanished.VanishedGradient`). A loss
      that converges as far to a level above 0, by updates as large as that, looks the same, and is taken back once.

    Large updates destroy networks while their loss still falls, but they are what a linear model or one with unscaled
    targets needs. So the first of them raises a suspicion: the run goes on for ten updates and is set aside; the same
    updates are made again with a cut. Where the loss is then clearly higher than it was without, or too noisy to tell
    and the update not that large, the run goes back to what was set aside, and ratios are no longer judged
    (`adaptive_lr.controllers.suspicion`). Without snapshots it is cut at once.

    A loss that rises while no update since the snapshot was larger than 0.01 of the weights is not the learning rate's
    doing. One that rises again after two cuts, without a clear fall in between, or after one by such small updates, is
    not either: the cuts are lifted, and nothing more is judged (`adaptive_lr.controllers.futility.Futility`).

    Then parameters and optimizer state go back to the snapshot, and the factor is cut to where no update since would
    have been larger than `target_ratio` of the weights, at least to a third. While the base goes on rising, the
    learning rate is held where the ratio passes `target_ratio`, and for as long as the law watches it is the lower of
    the base and of where it was held; where a single ratio asked for the cut, that level rises again as long as
    ratios stay far below the target, and where the network as a whole did, while its change stays small
    (`adaptive_lr.controllers.hold.Hold`). The factor that stands when the watch is
    over stays: what was learned is that the peak was wrong.

    From then on only a setback is looked into: the run goes on for 24 updates and is set aside, and as many are made
    from where these began at a third of the learning rate. The cut stays where they come to a clearly lower loss, else
    the run goes on without it. After two such comparisons in vain a rising loss is no longer judged
    (`adaptive_lr.controllers.relapse.Relapse`). A loss that rises because the base does so again, as after a warm
    restart, is no setback.

    While it watches, the update-to-weight ratio costs a copy of the weights each step, and the snapshot holds one copy
    of parameters and optimizer state, while it compares two. Afterwards the law costs nothing but the gradient norm,
    which `GradientSpike` reads as well, and the one or two copies for the 48 updates of a comparison. The reasons that
    lie in the loss are `adaptive_lr.controllers.damage.Damage`'s.

    Args:
        watch_steps: updates watched after the base learning rate last rose or was last cut. Deep plain networks trained
            with SGD learn for some 70 updates before the curvature that they grow breaks them up.
        max_ratio: largest ‖update‖ / ‖weight‖ over matrices that is let pass while the base rises. The largest at the
            best peak was 0.34 (logistic regression with SGD, ten seeds; 0.26 on the other nineteen pairs of workload
            and optimizer); at ten times the best peak 10 of the 20 pass 0.4, at thirty times 17.
        target_ratio: the ratio aimed at by a cut. On those pairs the largest ratio of the warm-up at the best peak is
            0.005 to 0.26, its median 0.085, and half of them lie between 0.04 and 0.15.
        min_factor: lower bound of this law's factor, in (0, 1].
        snapshots: False saves their memory: the learning rate is cut, nothing is taken back. After the watch it is not
            cut either, because nothing can be compared.

    Raises:
        TypeError, ValueError: an argument is of another kind or out of its range.
    """

    phase: ClassVar[Phase] = Phase.AFTER

    watch_steps: int = 200
    max_ratio: float = 0.4
    target_ratio: float = 0.1
    min_factor: float = 1e-8
    snapshots: bool = True

    def __post_init__(self) -> None:
        check_count("watch_steps", self.watch_steps)
        check_number("target_ratio", self.target_ratio, "(0, inf)")
        check_number("max_ratio", self.max_ratio, "(0, inf)")
        if self.target_ratio >= self.max_ratio:
            raise ValueError(f"target_ratio must be below max_ratio, got {self.target_ratio} and {self.max_ratio}")
        check_number("min_factor", self.min_factor, "(0, 1]")
        check_flag("snapshots", self.snapshots)

    @property
    def requires(self) -> frozenset[str]:
        """Ratios and gradient norm (while watching), the base learning rate, and whether an update was skipped."""
        return _WATCHING

    def requires_now(self, state: RescueState) -> frozenset[str]:
        """The ratios only while watching."""
        return self.requires if state.watching else _AT_REST

    def needs_snapshot(self, state: RescueState) -> bool:
        """While watching, and while a late setback is looked into."""
        return self.snapshots and (state.watching or state.relapse.stage != NO_RELAPSE)

    def needs_aside(self, state: RescueState) -> bool:
        """While a cut is compared with the way before it."""
        return self.snapshots and (state.suspicion.stage == COMPARES or state.relapse.stage == CUT)

    def init(self) -> RescueState:
        """Watching from the first update on."""
        return RescueState()

    def update(self, state: RescueState, statistics: Statistics) -> tuple[RescueState, Adjustment]:
        """One step in."""
        if statistics.phase is Phase.START:
            return state, Adjustment(snapshot=self.snapshots)
        loss, skipped = statistics.values.get("loss"), 0
        broken = loss is not None and not math.isfinite(loss)
        # An overflow of the loss scale is no update; a loss that is itself not finite would overflow for ever.
        if statistics.phase is not Phase.AFTER or not (statistics.updated or broken):
            return state, self._standing(state)
        factor, regain, regained = state.regain.next(state.factor)
        if regained:
            state = state._replace(factor=factor, regain=regain)
        if state.futility.found:
            return state, self._standing(state, regained)
        base = statistics.values.get("base_lr", state.base)
        if math.isnan(base):
            base = 0.0  # an optimizer that has no learning rate
        following = base + max(base - state.base, 0.0) if state.base else base  # as a straight warm-up would go on
        if base > state.peak:
            state = self._higher(state, base, statistics.step)
        if SKIPPED in statistics.values:
            skipped = state.skipped + 1
            if skipped <= BAD_BATCHES:
                loss = None  # of a bad batch that did no harm; later losses tell whether it was the weights
        setback, risen = state.setback, base > state.base
        if loss is not None and is_usable(loss) and not state.settling:
            setback = setback.add(loss)
        state = state._replace(setback=setback, base=base, skipped=skipped)
        if not state.watching:
            return self._later(state, loss, risen=risen)
        measured = None if skipped else statistics.values.get("update_ratio")
        ratio, compound = (statistics.values.get(name, 0.0) for name in RATIO_STATISTICS)
        rate, standing = base * state.factor, state.factor
        state, reasons = self._held(state, ratio, compound, following)
        reasons = regained + reasons
        if state.suspicion.under_way:
            state = state._replace(suspicion=state.suspicion.add(loss))
        if state.settling:
            return state._replace(settling=state.settling - 1), Adjustment(factor=state.factor, reasons=reasons)
        norm = statistics.values.get("grad_norm")
        damage = state.damage.add(loss, norm, measured, rate, target=self.target_ratio)
        state = state._replace(damage=damage, age=state.age + 1, quiet=state.quiet + 1)
        if ratio < self.max_ratio:  # else it is judged by itself
            state = state._replace(compound=state.compound.add(compound, state.quiet))
        reason = self._too_large(state, ratio) or damage.reason(loss, norm, state.setback)
        if reason is not None and not self._premature(state, reason):
            return self._answered(state, reason, following, standing)
        if state.suspicion.due:
            return self._judged(state, following, standing, reasons)
        if self._suspects(state, ratio):
            ceiling = state.base * state.factor * self._share(state)
            state = state._replace(suspicion=state.suspicion.raised(ceiling, state.factor, state.age))
        if state.quiet > self.watch_steps and not (state.suspicion.under_way or damage.high):
            state = state._replace(watching=False, damage=Damage(), hold=Hold())
            return state, Adjustment(factor=state.factor, reasons=reasons)
        snapshot = self.snapshots and state.age >= SNAPSHOT_STEPS and damage.worth_keeping(state.kept)
        if snapshot:
            state = state._replace(damage=damage.since(ratio, rate), age=0, kept=damage.watch.smoothed)
        return state, Adjustment(factor=state.factor, snapshot=snapshot, reasons=reasons)

    def _higher(self, state: RescueState, base: float, step: int) -> RescueState:
        """The base learning rate is higher than ever: watch (again)."""
        if not state.watching:
            factor = state.factor if state.relapse.stage == NO_RELAPSE else state.relapse.factor
            return RescueState(
                factor=factor, damage=_MIDWAY, setback=state.setback, base=state.base, peak=base,
                futility=state.futility,
            )  # fmt: skip
        first = not state.peak and not state.age
        return state._replace(peak=base, quiet=0, damage=_MIDWAY if first and step else state.damage)

    def _later(self, state: RescueState, loss: float | None, *, risen: bool) -> tuple[RescueState, Adjustment]:
        """After the watch: where the loss rises, it is tried whether a lower learning rate helps."""
        lower = max(state.factor * MOST_CUT, self.min_factor)
        if risen and state.relapse.stage == NO_RELAPSE:  # a loss at a lower learning rate is no measure of a higher one
            return state._replace(setback=Setback()), self._standing(state)
        if not self.snapshots or (lower == state.factor and state.relapse.stage == NO_RELAPSE):
            return state, self._standing(state)
        relapse, adjustment = state.relapse.next(loss, state.factor, lower, state.setback)
        if relapse is state.relapse:
            return state, self._standing(state)
        # What was seen before a comparison is no evidence about what follows it.
        return state._replace(relapse=relapse, factor=adjustment.factor, setback=Setback()), adjustment

    def _suspects(self, state: RescueState, ratio: float) -> bool:
        """Whether an update while the base rises is so large that a cut is to be tried."""
        unknown = self.snapshots and state.suspicion.stage == NONE
        return unknown and state.quiet <= RISING_STEPS and self.max_ratio <= ratio < BEYOND_DOUBT * self.max_ratio

    def _judged(
        self, state: RescueState, following: float, standing: float, reasons: tuple[Reason, ...]
    ) -> tuple[RescueState, Adjustment]:
        """The cut that is to be compared, or what the comparison says; `standing` is the factor before this row."""
        suspicion, worst = state.suspicion, state.damage.worst
        if suspicion.stage == WAITS:
            text = f"updates changed the weights by up to {worst:.3g} of their size; cut, to compare {GRANTED} more"
            reason = Reason("rescue", "update_ratio", worst, self.max_ratio, text)
            return self._cut(state, reason, following, standing, compare=True)
        if not suspicion.mistaken:
            state = state._replace(suspicion=Suspicion(CONFIRMED))
            return state, Adjustment(factor=state.factor, reasons=reasons)
        before, after, goal = suspicion.first.mean, suspicion.second.mean, suspicion.factor
        # The base may have risen since, and the weights that are gone back to have seen no more than it was.
        factor = min(goal, suspicion.rate / following) if following > 0.0 else goal
        text = f"the mean loss came to {after:.4g}, without the cut to {before:.4g}"
        text += ", which noise does as well" if after < before else ""
        text += f": on without it, factor {standing:.4g} -> {factor:.4g}"
        state = state._replace(
            suspicion=Suspicion(CLEARED),
            factor=factor,
            regain=Regain(goal, REGAIN_UPDATES) if factor < goal else Regain(),
            hold=Hold(),
            settling=SETTLE,
            age=suspicion.first.length,
        )
        return state, Adjustment(factor=factor, resume=True, reasons=(Reason("clear", "loss", after, before, text),))

    def _held(
        self, state: RescueState, ratio: float, compound: float, following: float
    ) -> tuple[RescueState, tuple[Reason, ...]]:
        """The learning rate under its ceiling."""
        rising = state.quiet == 0
        if state.suspicion.stage == CLEARED:
            ratio = 0.0  # which no longer tells anything
        rate, fall = state.base * state.factor, state.damage.watch.fall
        hold = state.hold.follow(rate, ratio, compound, self.target_ratio, rising=rising, fall=fall)
        factor = hold.factor(state.factor, following, self.min_factor) if following > 0.0 else state.factor
        if factor == state.factor:
            return state if hold is state.hold else state._replace(hold=hold), ()
        text = f"after a cut the learning rate is held at {hold.ceiling:.4g}, where updates are to stay below "
        text += f"{self.target_ratio:.3g} of the weights (the last: {ratio:.3g}; base {following:.4g}): "
        text += f"factor {state.factor:.4g} -> {factor:.4g}"
        reason = Reason("hold", "update_ratio", ratio, self.target_ratio, text)
        return state._replace(hold=hold, factor=factor), (reason,)

    def _too_large(self, state: RescueState, ratio: float) -> Reason | None:
        """Why the last update was itself too large, or None."""
        rising = state.quiet <= RISING_STEPS
        if state.compound.found and not rising and state.suspicion.stage == NONE:
            return state.compound.reason
        bound = self.max_ratio if rising else max(self.max_ratio, LATER_RATIO)
        if ratio < bound or (math.isfinite(ratio) and not rising and state.damage.watch.at_best):
            return None
        waits = state.suspicion.stage == WAITS and ratio < BEYOND_DOUBT * self.max_ratio
        if math.isfinite(ratio) and (waits or state.suspicion.stage == CLEARED or self._suspects(state, ratio)):
            return None
        text = f"an update changed the weights by {ratio:.3g} of their size, {bound:g} or more"
        return Reason("rescue", "update_ratio", ratio, bound, text)

    def _premature(self, state: RescueState, reason: Reason) -> bool:
        """Whether the loss asks for a first cut, but no update since the snapshot can have done harm."""
        first = _lies_in_the_loss(reason) and state.futility.first(state.damage, state.setback)
        return first and state.damage.harmless

    def _answered(
        self, state: RescueState, reason: Reason, following: float, standing: float
    ) -> tuple[RescueState, Adjustment]:
        """The cut that a reason asks for, or the end of cuts where the loss asks for one more."""
        futility = Futility()
        if _lies_in_the_loss(reason):
            futility = state.futility.asked(standing, state.damage, state.setback)
        if futility.found:
            text = f"{reason.text}, and {futility.cuts} cut{'' if futility.cuts == 1 else 's'} did not change that: it "
            text += "does not tell whether the learning rate is too large, and is not judged any more: "
            text += f"in {REGAIN_UPDATES} updates back to factor {futility.factor:.4g}"
            told = Reason("clear", "loss", reason.value, reason.threshold, text)
            regain = Regain(futility.factor, REGAIN_UPDATES)
            state = RescueState(watching=False, factor=state.factor, futility=futility, regain=regain)
            return state, Adjustment(factor=state.factor, reasons=(told,))
        state = state._replace(futility=futility)
        return self._cut(state, reason, following, standing)

    def _cut(
        self, state: RescueState, reason: Reason, following: float, standing: float, *, compare: bool = False
    ) -> tuple[RescueState, Adjustment]:
        rate, suspected = state.base * state.factor, state.suspicion.stage == WAITS
        by_ratio = reason.statistic in RATIO_STATISTICS
        cut = self._share(state)
        if suspected and rate and (compare or not by_ratio):
            cut = min(state.suspicion.ceiling / rate, 1.0)  # the base may have fallen below it since
        regains = "update_ratio" if suspected else reason.statistic if by_ratio else ""
        hold = Hold(rate * cut, regains=regains) if rate > 0.0 else state.hold
        # The base may rise before the next update, which is not to see more than the ceiling.
        factor = max(state.factor * cut * (state.base / following if following else 1.0), self.min_factor)
        done = "back to the last snapshot, " if self.snapshots else ""
        changes = self.snapshots or factor != standing
        reasons = (_with_factors(reason, done, standing, factor),) if changes else ()
        state = RescueState(
            factor=factor,
            hold=hold,
            kept=state.kept,
            settling=SETTLE,
            base=state.base,
            peak=state.peak,
            suspicion=state.suspicion.cut(compare=compare, rate=rate, worst=state.damage.worst / self.max_ratio),
            futility=state.futility,
        )
        return state, Adjustment(factor=factor, rewind=self.snapshots, set_aside=compare, reasons=reasons)

    def _share(self, state: RescueState) -> float:
        """Of the learning rate that a cut leaves."""
        damage = state.damage
        steepest = damage.steepest * state.base * state.factor if damage.worst < LARGEST_VALUE else LARGEST_VALUE
        if state.suspicion.stage == CLEARED or not steepest:
            return MOST_CUT
        # An update that began at the snapshot was measured against healthy weights: its ratio may be believed.
        least = LEAST_CUT if state.age > 1 or damage.worst >= LARGEST_VALUE else self.min_factor
        return min(max(self.target_ratio / steepest, least), MOST_CUT)

    def _standing(self, state: RescueState, reasons: tuple[Reason, ...] = ()) -> Adjustment:
        return _UNCHANGED if state.factor == 1.0 and not reasons else Adjustment(factor=state.factor, reasons=reasons)


def _lies_in_the_loss(reason: Reason) -> bool:
    """Whether it is a loss that rises; one that is not finite is beyond comparison."""
    return reason.statistic == "loss" and is_usable(reason.value)


def _with_factors(reason: Reason, done: str, before: float, after: float) -> Reason:
    text = f"{reason.text}: {done}factor {before:.4g} -> {after:.4g}"
    return Reason(reason.action, reason.statistic, reason.value, reason.threshold, text)
