"""`LossVariance` (experimental): brakes when the training loss rises or its noise grows without progress."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from adaptive_lr.controllers.arguments import check_count, check_number
from adaptive_lr.controllers.base import Adjustment, Controller, Reason
from adaptive_lr.controllers.levels import check_levels, deeper, factor_at
from adaptive_lr.series import Fit, Line, is_usable
from adaptive_lr.statistics import Statistics

BLOCKS = 8
"""Blocks in a window. The deviation is the median over blocks: outliers in up to three of them move nothing."""

LONG = 4
"""Windows in the long look, taken once a window: a rise too slow to stand out from the noise of one window does so over
four (t grows with the length to the power 1.5)."""

RISING = 5.0
"""t statistic of the slope from which the loss rises. The law asks every eighth of a window: independent noise hardly
ever passes 5, and noise with an autocorrelation of 0.5, which inflates t by the square root of 3, less than once in
1,000 steps."""

FALLING = -2.0
"""t statistic below which the loss falls. Less strict than `RISING`: falling is what releases the brake, and holding
back without need does harm too."""

LEAST_CHANGE = 0.01
"""Neither a rise per window nor a deviation below this share of the loss is worth a brake: divergence grows
exponentially and passes it at once, a loss without noise makes every drift significant."""

REFERENCE_LEAK = 1.02
"""Growth per block of the lowest deviation seen, so that it is the lowest of recent times: at blocks of 8 steps it
doubles in 280 steps, and noise that grows with the run is not held against a calm start."""

_UNCHANGED = Adjustment()


class LossVarianceState(NamedTuple):
    """The level, and a summary of the last losses."""

    depth: int = 0  # half brakes in force: the factor is backoff ** (depth / 2), at least min_factor
    block: Line = Line()  # the block that fills
    blocks: tuple[float, ...] = ()  # mean, squares, products of each full block, oldest first; at most LONG * BLOCKS
    look: int = BLOCKS  # blocks until the next long look
    reference: float | None = None  # lowest recent deviation; None before the first window
    wait: int = 0  # blocks until the factor may recover
    nonfinite: int = 0  # losses left out because they were not finite


@dataclass(frozen=True)
class LossVariance(Controller[LossVarianceState]):
    """Sets the trend of the training loss against its detrended deviation; a gate as much as a brake. Experimental.

    Over the last `window` losses a straight line is fitted; the deviation is the median over eight blocks of the
    standard deviation about each block's own line. The law

    * brakes (factor x `backoff`) when the loss rises significantly (over the window, or over four of them), or when
      the deviation has grown to `growth` times its reference while the loss is not significantly falling. The window
      then starts anew;
    * recovers (takes back half a brake, its square root, at most once a window) only while the loss falls
      significantly, or the deviation is back within the square root of `growth` of the reference and the loss does
      not rise.

    The reference is the lowest deviation of recent times; while the loss falls significantly it is the present one,
    since noise that comes with progress is accepted. Losses that are not finite are counted and left out.

    A base schedule that raises its learning rate suddenly (a warm restart) raises the loss with it, which this law
    cannot tell from divergence.

    The evidence for laws of this kind is weak, hence "experimental": volatility of the accuracy on CIFAR-100 (VolSched,
    arXiv:2507.10575), proportional-derivative control of the loss on CIFAR-10 and Fashion-MNIST (arXiv:1911.07710); the
    test of trend against noise is better founded (SASA, arXiv:1909.09785; SALSA, arXiv:2002.10597). It is built so as
    to do nothing on healthy runs, not to improve on a tuned schedule; at too large peaks it rescues nothing that
    `Rescue` does not. What it is for is noise that grows under a learning rate that nothing lowers: where batches
    become a sixteenth as large half-way, at a constant rate, the final loss is 18 % (AdamW) and 75 % (SGD) lower with
    it, and 20 % and 44 % lower with it beside the other laws of the guarded set (ten seeds, wide intervals:
    `experiments/results/growing_noise.md`). Where labels become wrong instead it recovers too soon: a loss 0.4 to 2 %
    higher.

    Args:
        window: losses in the window, a multiple of 8, at least 32. A jump of the loss that stays is braked within half
            a window; at 64, the law can tell a rise of 2.2 deviations from noise.
        backoff: multiplies the factor at each brake, in (0, 1).
        growth: ratio of deviation to reference that makes a brake, > 1. At 4, log-normal losses (sigma 0.8) are braked
            less than once in 1,000 steps.
        min_factor: lower bound of this law's factor, in (0, 1]. At 1/1024, ten brakes: a peak three decades too large.

    Raises:
        TypeError, ValueError: an argument is no number, or out of its range.
    """

    window: int = 64
    backoff: float = 0.5
    growth: float = 4.0
    min_factor: float = 1.0 / 1024.0

    def __post_init__(self) -> None:
        check_count("window", self.window, 4 * BLOCKS)
        if self.window % BLOCKS:
            raise ValueError(f"window must be a multiple of {BLOCKS} and at least {4 * BLOCKS}, got {self.window}")
        check_levels(backoff=self.backoff, min_factor=self.min_factor)
        check_number("growth", self.growth, "(1, inf)")

    def init(self) -> LossVarianceState:
        """Nothing seen, factor 1."""
        return LossVarianceState()

    def update(self, state: LossVarianceState, statistics: Statistics) -> tuple[LossVarianceState, Adjustment]:
        """One loss in. Rows without a loss change nothing."""
        loss = statistics.values.get("loss")
        if loss is None:
            return state, self._standing(state)
        if not is_usable(loss):
            return state._replace(nonfinite=state.nonfinite + 1), self._standing(state)
        block = state.block.add(loss)
        if block.size * BLOCKS < self.window:
            depth, _, blocks, look, reference, wait, nonfinite = state
            return LossVarianceState(depth, block, blocks, look, reference, wait, nonfinite), self._standing(state)
        state = state._replace(
            block=Line(),
            blocks=(*state.blocks[-3 * (LONG * BLOCKS - 1) :], block.mean, block.squares, block.products),
            look=state.look - 1 if state.look > 1 else BLOCKS,
            wait=max(state.wait - 1, 0),
        )
        if len(state.blocks) < 3 * BLOCKS:
            return state, self._standing(state)
        return self._judge(state)

    def _judge(self, state: LossVarianceState) -> tuple[LossVarianceState, Adjustment]:
        """Brake, recover, or leave it, when a block is full."""
        blocks = self._lines(state.blocks)
        window = _joined(blocks[-BLOCKS:])
        deviation = median([block.fit().deviation for block in blocks[-BLOCKS:]])
        fit = window.fit()
        falling = fit.t < FALLING
        if state.reference is None or falling:
            reference = deviation
        else:
            reference = min(deviation, state.reference * REFERENCE_LEAK)
        state = state._replace(reference=reference)
        least = LEAST_CHANGE * abs(window.mean)
        for line in (window, _joined(blocks)) if state.look == BLOCKS else (window,):
            trend = line.fit()
            if trend.t > RISING and trend.slope * self.window > least:
                text = f"the loss rises over {line.size} steps, by {trend.slope * line.size:.4g} (t = {trend.t:.3g})"
                return self._brake(state, Reason("brake", "loss", trend.t, RISING, text))
        if not falling and deviation > self.growth * reference and deviation > least:
            text = f"the deviation of the loss is {deviation:.4g}, its reference {reference:.4g}, and it does not fall"
            return self._brake(state, Reason("brake", "loss", deviation, self.growth * reference, text))
        if state.depth and state.wait == 0:
            return self._recover(state, fit, deviation)
        return state, self._standing(state)

    def _lines(self, blocks: tuple[float, ...]) -> list[Line]:
        size = self.window // BLOCKS
        return [Line(size, *blocks[start : start + 3]) for start in range(0, len(blocks), 3)]

    def _brake(self, state: LossVarianceState, reason: Reason) -> tuple[LossVarianceState, Adjustment]:
        before = self._factor(state.depth)
        if before <= self.min_factor:
            return state, self._standing(state)
        # What was seen at the old level is no evidence about the new one.
        depth = deeper(state.depth, backoff=self.backoff, min_factor=self.min_factor)
        state = state._replace(depth=depth, blocks=(), look=BLOCKS, wait=BLOCKS)
        return state, self._changed(state, before, reason)

    def _recover(self, state: LossVarianceState, fit: Fit, deviation: float) -> tuple[LossVarianceState, Adjustment]:
        bar = math.sqrt(self.growth) * (state.reference or 0.0)
        if fit.t < FALLING:
            reason = Reason("recover", "loss", fit.t, FALLING, f"the loss falls (t = {fit.t:.3g})")
        elif deviation <= bar and fit.t <= -FALLING:
            text = f"the deviation of the loss is back at {deviation:.4g}, within {bar:.4g}"
            reason = Reason("recover", "loss", deviation, bar, text)
        else:
            return state, self._standing(state)
        before = self._factor(state.depth)
        state = state._replace(depth=state.depth - 1, wait=BLOCKS)
        return state, self._changed(state, before, reason)

    def _changed(self, state: LossVarianceState, before: float, reason: Reason) -> Adjustment:
        after = self._factor(state.depth)
        text = f"{reason.text}: factor {before:.4g} -> {after:.4g}"
        reason = Reason(reason.action, reason.statistic, reason.value, reason.threshold, text)
        return Adjustment(factor=after, reasons=(reason,))

    def _factor(self, depth: int) -> float:
        return factor_at(depth, backoff=self.backoff, min_factor=self.min_factor)

    def _standing(self, state: LossVarianceState) -> Adjustment:
        return Adjustment(factor=self._factor(state.depth)) if state.depth else _UNCHANGED


def _joined(blocks: list[Line]) -> Line:
    line = blocks[0]
    for block in blocks[1:]:
        line = line.join(block)
    return line
