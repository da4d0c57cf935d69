"""`GradientSpike`: keeps one bad gradient from doing harm, and backs off when bad gradients keep coming."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from adaptive_lr.controllers.arguments import check_count, check_number
from adaptive_lr.controllers.base import Adjustment, Controller, Reason
from adaptive_lr.controllers.levels import check_levels, deeper, factor_at
from adaptive_lr.scores import NORM_LAW
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr_kernels.reflex import ReflexSettings

_UNCHANGED = Adjustment()
_CLIP_EPSILON = 1e-6  # as in torch.nn.utils.clip_grad_norm_
_LEAST_DAMP = sys.float_info.min  # damping must stay above zero, whatever the norm


class GradientSpikeState(NamedTuple):
    """Where on the ladder the law stands."""

    depth: int = 0  # half back-offs in force: the factor is backoff ** (depth / 2), at least min_factor
    momentum_lowered: bool = False
    pressure: int = 0  # leaky count of spikes: each adds spike_memory, each step takes 1 away
    wait: int = 0  # steps until the next back-off may follow
    quiet: int = 0  # steps without a spike, since the last spike or recovery; counted while the factor is down
    nonfinite: int = 0  # non-finite gradients in a row


@dataclass(frozen=True)
class GradientSpike(Controller[GradientSpikeState]):
    """Damps, skips, backs off and recovers on spikes of the gradient norm.

    The norm is judged by `grad_score`, its distance from the norm to expect in robust standard deviations of the
    log-norm (see `adaptive_lr.scores.score_norm`: what norms fall by does not count as noise, single spikes hardly
    inflate that scale, and a lasting shift is adopted in a bounded time). The ladder:

    1. above `damp_above`, the gradients of the step are scaled down to the norm that was to be expected;
    2. above `skip_above`, or where the norm is not finite, the update is left out;
    3. after `spike_limit` spikes within about `spike_memory` steps, the learning rate is multiplied by `backoff` and
       momentum by `momentum`, at most once in `spike_memory` steps;
    4. after every `recover_after` steps without a spike, half of a back-off (its square root) is taken back, up to a
       factor of 1; momentum is restored with the first such step;
    5. after `stop_after` non-finite gradients in a row, the law asks to stop.

    Damping and skipping are far better supported than lowering the learning rate: AdaGC (arXiv:2502.11034), ZClip
    (arXiv:2504.02507) and SPAM (arXiv:2501.06842) clip against the recent past, OLMo-core skips above 6 standard
    deviations; hence the order of the ladder.

    Every time the law acts it gives a reason, routine clipping included: with `clip` set low, that is one decision
    per step in the (bounded) record. Clipping alone is no spike: it neither counts towards a back-off nor delays
    recovery.

    Args:
        damp_above: score from which gradients are damped. At 4, healthy log-normal norms (sigma 0.2 to 0.8) are
            touched less than once in 10,000 steps.
        skip_above: score from which the update is left out; the 6 of OLMo-core's skip-step optimizer. At least
            `damp_above`.
        spike_limit: spikes that make a back-off; one or two come from single batches.
        spike_memory: steps within which they count together, and the least distance between two back-offs: twice the
            memory of momentum 0.9, so that the last back-off has shown its effect.
        backoff: multiplies the factor at each back-off, in (0, 1).
        momentum: multiplies momentum while backed off, in [0, 1]. At 0.5, momentum 0.9 becomes 0.45: after the 12
            steps of `recover_after`, less than 1e-4 of what the spikes left in the buffer remains.
        recover_after: steps without a spike that take back half of a back-off. With 12, the factor is back at 1 within
            150 steps of a lasting 3-fold shift of the norm.
        min_factor: lower bound of this law's factor, in (0, 1]; 1 leaves the reflex alone in force.
        stop_after: non-finite gradients in a row that ask to stop. More than the 16 halvings in which GradScaler's
            initial scale of 2**16 reaches 1, so that finding the loss scale stops nobody.
        clip: additionally clip every gradient to this norm, by the coefficient min(1, clip / (norm + 1e-6)) of
            `torch.nn.utils.clip_grad_norm_`. None: do not.

    Raises:
        TypeError, ValueError: an argument is no number, or out of its range.
    """

    phase: ClassVar[Phase] = Phase.BEFORE

    damp_above: float = 4.0
    skip_above: float = 6.0
    spike_limit: int = 3
    spike_memory: int = 20
    backoff: float = 0.5
    momentum: float = 0.5
    recover_after: int = 12
    min_factor: float = 1.0 / 16.0
    stop_after: int = 20
    clip: float | None = None

    def __post_init__(self) -> None:
        check_number("damp_above", self.damp_above, "(0, inf]")
        check_number("skip_above", self.skip_above, "(0, inf]")
        if self.damp_above > self.skip_above:
            raise ValueError(
                "damp_above and skip_above must satisfy 0 < damp_above <= skip_above, "
                f"got {self.damp_above} and {self.skip_above}"
            )
        for name in ("spike_limit", "spike_memory", "recover_after", "stop_after"):
            check_count(name, getattr(self, name))
        check_levels(backoff=self.backoff, min_factor=self.min_factor)
        check_number("momentum", self.momentum, "[0, 1]")
        check_number("clip", self.clip, "(0, inf)", optional=True)

    @property
    def requires(self) -> frozenset[str]:
        """The norm and its score (which brings the scale of log-norms)."""
        return frozenset(("grad_norm", "grad_score"))

    @property
    def reflex(self) -> ReflexSettings | None:
        """Steps 1 and 2 of the ladder, and the clipping."""
        if type(self).update is not GradientSpike.update:
            return None  # a subclass that judges for itself has to say how
        return ReflexSettings(
            damp_above=self.damp_above,
            skip_above=self.skip_above,
            clip=self.clip,
            norms=NORM_LAW,
        )

    def init(self) -> GradientSpikeState:
        """At rest: factor and momentum multiplier 1."""
        return GradientSpikeState()

    def update(self, state: GradientSpikeState, statistics: Statistics) -> tuple[GradientSpikeState, Adjustment]:
        """One gradient in: what to do with it, and the levels from here on. Rows without a norm change nothing."""
        values = statistics.values
        norm, score = values.get("grad_norm"), values.get("grad_score")
        if norm is None or score is None:
            return state, self._standing(state)
        if not (math.isfinite(norm) and math.isfinite(score)):
            return self._spike(state, self._skip_nonfinite(norm), nonfinite=True)
        if score > self.skip_above:
            text = f"gradient norm {norm:.4g} scores {score:.3g}, above {self.skip_above:g}: update skipped"
            reason = Reason("skip", "grad_score", score, self.skip_above, text)
            return self._spike(state, Adjustment(skip=True, reasons=(reason,)))
        if score > self.damp_above:
            spread = values.get("grad_spread", 0.0)
            damp = max(math.exp(-score * spread), _LEAST_DAMP)
            text = (
                f"gradient norm {norm:.4g} scores {score:.3g}, above {self.damp_above:g}: damped to {norm * damp:.4g}"
            )
            reason = Reason("damp", "grad_score", score, self.damp_above, text)
            return self._spike(state, self._clipped(Adjustment(damp=damp, reasons=(reason,)), norm))
        state, adjustment = self._quiet(state, score)
        return state, self._clipped(adjustment, norm)

    def _quiet(self, state: GradientSpikeState, score: float) -> tuple[GradientSpikeState, Adjustment]:
        """A step without a spike: forget a little, and recover when it was quiet for long enough."""
        depth, lowered, pressure, wait, quiet, nonfinite = state
        if not (depth or pressure or wait or nonfinite):
            return state, _UNCHANGED
        quiet = quiet + 1 if depth else 0
        state = GradientSpikeState(depth, lowered, max(pressure - 1, 0), max(wait - 1, 0), quiet)
        if quiet < self.recover_after:
            return state, self._standing(state)
        recovered = state._replace(depth=depth - 1, momentum_lowered=False, quiet=0)
        before, after = self._factor(depth), self._factor(depth - 1)
        text = f"{quiet} steps without a spike: factor {before:.4g} -> {after:.4g}"
        if lowered:
            text += ", momentum restored"
        reason = Reason("recover", "grad_score", score, self.damp_above, text)
        return recovered, Adjustment(factor=after, reasons=(reason,))

    def _spike(
        self, state: GradientSpikeState, reflex: Adjustment, *, nonfinite: bool = False
    ) -> tuple[GradientSpikeState, Adjustment]:
        """A step with a spike: count it, and back off or ask to stop where it was one too many."""
        depth, lowered, pressure, wait, _, streak = state
        pressure = max(pressure - 1, 0) + self.spike_memory
        wait = max(wait - 1, 0)
        streak = streak + 1 if nonfinite else 0
        reasons = reflex.reasons
        before = self._factor(depth)
        # Every spike but the last has had time to leak: the limit is passed when `spike_limit` come within the memory.
        if pressure >= (self.spike_limit - 1) * self.spike_memory and wait == 0 and before > self.min_factor:
            depth = deeper(depth, backoff=self.backoff, min_factor=self.min_factor)
            lowered, pressure, wait = True, 0, self.spike_memory
            after = self._factor(depth)
            text = f"{self.spike_limit} spikes within about {self.spike_memory} steps: "
            text += f"factor {before:.4g} -> {after:.4g}, momentum x {self.momentum:g}"
            reasons += (replace(reflex.reasons[0], action="back off", text=text),)
        stop = streak >= self.stop_after
        if stop:
            text = f"{streak} non-finite gradients in a row: asks to stop"
            reasons += (replace(reflex.reasons[0], action="stop", text=text),)
        return GradientSpikeState(depth, lowered, pressure, wait, 0, streak), Adjustment(
            factor=self._factor(depth),
            momentum=self.momentum if lowered else 1.0,
            damp=reflex.damp,
            skip=reflex.skip,
            stop=stop,
            reasons=reasons,
        )

    def _clipped(self, adjustment: Adjustment, norm: float) -> Adjustment:
        """The same with the gradient clipped to `clip` as well."""
        if self.clip is None:
            return adjustment
        coefficient = max(self.clip / (norm + _CLIP_EPSILON), _LEAST_DAMP)
        if coefficient >= adjustment.damp:
            return adjustment
        text = f"gradient norm {norm:.4g} above clip={self.clip:g}: scaled by {coefficient:.4g}"
        reason = Reason("clip", "grad_norm", norm, self.clip, text)
        return Adjustment(
            factor=adjustment.factor,
            momentum=adjustment.momentum,
            damp=coefficient,
            reasons=(*adjustment.reasons, reason),
        )

    def _skip_nonfinite(self, norm: float) -> Adjustment:
        reason = Reason("skip", "grad_norm", norm, math.inf, f"gradient norm is {norm}: update skipped")
        return Adjustment(skip=True, reasons=(reason,))

    def _factor(self, depth: int) -> float:
        return factor_at(depth, backoff=self.backoff, min_factor=self.min_factor)

    def _standing(self, state: GradientSpikeState) -> Adjustment:
        if not (state.depth or state.momentum_lowered):
            return _UNCHANGED
        return Adjustment(factor=self._factor(state.depth), momentum=self.momentum if state.momentum_lowered else 1.0)
