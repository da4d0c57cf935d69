"""`Plateau`: cuts the learning rate when a metric no longer improves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, repeat, takewhile
from typing import ClassVar, NamedTuple

from scipy.special import stdtrit

from adaptive_lr.controllers.arguments import check_count, check_number
from adaptive_lr.controllers.base import Adjustment, Controller, Reason
from adaptive_lr.series import MOST_BLOCKS, Blocks, Fit, Line, growing_fits, is_usable
from adaptive_lr.statistics import Phase, Statistics

CONFIDENCE = 0.99
"""One-sided level of the limit of the fall. Not 95 %: the question is asked anew after every block, of several windows,
and at 95 % a run of 20,000 noisy steps would be cut by chance."""

LEAST_CHANGE = 1e-8
"""A cut that would change the factor by no more is not made: `eps` of torch's ReduceLROnPlateau, relative to the base
learning rate. It keeps the factor above zero where `min_factor` is 0."""

_UNCHANGED = Adjustment()


class PlateauState(NamedTuple):
    """The factor, and what is known since the last cut."""

    factor: float
    best: float | None  # best evaluation so far; None before the first finite one
    bad: int  # evaluations in a row that were no better
    cooldown: int  # evaluations (or blocks) still to be ignored
    evaluated: bool  # whether an evaluation was ever seen: per-step values are ignored from then on
    blocks: Blocks  # per-step values since the last cut


@dataclass(frozen=True)
class Plateau(Controller[PlateauState]):
    """Multiplies the learning rate by `factor` when `monitor` has stopped improving.

    **Evaluations** (`control.observe`): the rule of `torch.optim.lr_scheduler.ReduceLROnPlateau`, with its arguments
    and order of operations, on a layered factor: an evaluation is better when it beats the best by the threshold, and
    the factor is cut when more than `patience` in a row were not. Two things differ: the relative margin is a share of
    the best's *magnitude*, so that negative metrics are judged rightly (torch's `best * (1 - threshold)` moves the
    wrong way below zero), and a non-finite evaluation is never better (torch takes -inf for a new best).

    **Per-step values** (`control.step`), as long as no evaluation of that name was ever seen: patience counts blocks
    of `block_size` steps, and a cut needs evidence *for* flatness. Straight lines are fitted to the block means of
    windows that reach back `patience + 1` blocks and more, as far as the last cut. The metric is flat where on one of
    them the upper 99 % limit of its progress per `patience + 1` blocks is under `flat_share` of its level; an
    estimate on the far side of zero counts as zero, since luck is no evidence. So a noisy loss that falls is not
    taken for flat (lack of evidence of progress is no evidence of its lack); with more noise, the verdict comes
    later. The level is the magnitude of the window's mean, or the deviation of single steps where that is larger
    (a metric around zero). Whenever 256 blocks are full, blocks become twice as long, so that a run that has
    progressed for a million steps is not flat because a thousand were.

    Rows without the monitor change nothing.

    Args:
        monitor: name of the metric.
        mode: "min" where less is better, "max" where more is.
        factor: multiplies the learning rate at a cut, in (0, 1).
        patience: evaluations (or blocks, of which at least 3 and at most 127 count) in a row without improvement that
            are tolerated, >= 0.
        threshold: how much better is better, on evaluations, >= 0.
        threshold_mode: "rel", the threshold is a share of the best's magnitude; "abs", it is absolute.
        cooldown: evaluations (or blocks) after a cut that are not judged, >= 0.
        min_factor: lower bound of this law's factor, in [0, 1].
        block_size: steps in a block of per-step values; long enough for the noise of neighbouring blocks to be
            independent.
        flat_share: progress per `patience + 1` blocks below which per-step values are flat, as a share of the level.
            At 0.025 and noise of 60 % of the level, 6,000 steps suffice to tell; a fall of 3 % in 1,100 steps is
            progress.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind, or out of its range.
    """

    state_settings: ClassVar[frozenset[str]] = frozenset(("monitor", "mode"))

    monitor: str = "loss"
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_factor: float = 0.0
    block_size: int = 100
    flat_share: float = 0.025

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, str):
            raise TypeError(f"monitor must be the name of a metric (str), got {self.monitor!r}")
        if not self.monitor:
            raise ValueError(f"monitor must name a metric, got {self.monitor!r}")
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {self.mode!r}")
        if self.threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode must be 'rel' or 'abs', got {self.threshold_mode!r}")
        check_number("factor", self.factor, "(0, 1)")
        check_number("threshold", self.threshold, "[0, inf)")
        check_number("min_factor", self.min_factor, "[0, 1]")
        for name, least in (("patience", 0), ("cooldown", 0), ("block_size", 1)):
            check_count(name, getattr(self, name), least)
        check_number("flat_share", self.flat_share, "(0, 1)")

    def init(self) -> PlateauState:
        """Nothing seen, factor 1."""
        return PlateauState(1.0, None, 0, 0, False, Blocks(self.block_size))

    def update(self, state: PlateauState, statistics: Statistics) -> tuple[PlateauState, Adjustment]:
        """One evaluation or one step in."""
        value = statistics.values.get(self.monitor)
        if value is not None:
            if statistics.phase is Phase.OBSERVATION:
                return self._evaluation(state, value)
            if not state.evaluated and is_usable(value):
                return self._step(state, value)
        return state, _standing(state)

    def _evaluation(self, state: PlateauState, value: float) -> tuple[PlateauState, Adjustment]:
        """In torch's order: compare, then cooldown, then cut."""
        best, bad = state.best, state.bad + 1
        cooldown = state.cooldown if state.evaluated else 0  # a cooldown of blocks ends with the first evaluation
        if self._better(value, best):
            best, bad = value, 0
        if cooldown > 0:
            cooldown, bad = cooldown - 1, 0
        waiting = PlateauState(state.factor, best, bad, cooldown, True, Blocks(self.block_size))
        if bad <= self.patience:
            return waiting, _standing(waiting)
        known = "no finite value so far" if best is None else f"the best is {best:.6g}"
        text = f"{self.monitor} has not improved for {bad} evaluations (patience {self.patience}; {known})"
        worst = math.inf if self.mode == "min" else -math.inf
        return self._cut(waiting._replace(bad=0), value, worst if best is None else best, text)

    def _better(self, value: float, best: float | None) -> bool:
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        if self.threshold_mode == "rel":
            # Written as torch writes it, so that positive metrics agree to the last bit.
            towards_zero = (best >= 0.0) == (self.mode == "min")
            bar = best * (1.0 - self.threshold if towards_zero else 1.0 + self.threshold)
        else:
            bar = best - self.threshold if self.mode == "min" else best + self.threshold
        return value < bar if self.mode == "min" else value > bar

    def _step(self, state: PlateauState, value: float) -> tuple[PlateauState, Adjustment]:
        """Take in one per-step value; judge when a block is full."""
        blocks = state.blocks.add(value)
        if blocks.current.size:
            following = PlateauState(state.factor, state.best, state.bad, state.cooldown, False, blocks)
            return following, _standing(following)
        if state.cooldown > 0:
            following = state._replace(cooldown=state.cooldown - 1, blocks=Blocks(self.block_size))
            return following, _standing(following)
        following = state._replace(blocks=blocks)
        flat = self._flat(blocks)
        if flat is None:
            return following, _standing(following)
        limit, bar, num_steps = flat
        word = "falls" if self.mode == "min" else "rises"
        text = (
            f"{self.monitor} is flat over {num_steps} steps: with 99 % confidence it {word} by less than "
            f"{limit:.4g} per {self._window * blocks.size} steps, under {self.flat_share:.3g} of its level"
        )
        return self._cut(following._replace(blocks=Blocks(self.block_size)), limit, bar, text)

    @property
    def _window(self) -> int:
        """The shortest window in blocks: at least four points, to judge a slope by; no more than are always kept."""
        return min(max(self.patience + 1, 4), MOST_BLOCKS // 2)

    def _flat(self, blocks: Blocks) -> tuple[float, float, int] | None:
        """The upper limit of the progress per shortest window, its bar, and the steps of the window that shows it."""
        count, window = len(blocks.means), self._window
        # Each window is half as long again as the one before: few looks, so few chances to be fooled.
        lengths = takewhile(lambda n: n <= count, accumulate(repeat(None), lambda n, _: n + n // 2, initial=window))
        within = sum(blocks.squares) / (count * max(blocks.size - 1, 1))
        for line, fit in growing_fits(reversed(blocks.means), lengths):
            limit = self._limit(line, fit)
            bar = self.flat_share * max(abs(line.mean), math.sqrt(within))
            if limit <= bar:
                return limit, bar, line.size * blocks.size
        return None

    def _limit(self, line: Line, fit: Fit) -> float:
        progress = fit.slope if self.mode == "min" else -fit.slope  # positions run into the past
        return self._window * (max(progress, 0.0) + _student(line.size - 2) * fit.error)

    def _cut(self, state: PlateauState, value: float, threshold: float, text: str) -> tuple[PlateauState, Adjustment]:
        state = state._replace(cooldown=self.cooldown)
        factor = max(state.factor * self.factor, self.min_factor)
        if state.factor - factor <= LEAST_CHANGE:
            return state, _standing(state)
        text += f": factor {state.factor:.4g} -> {factor:.4g}"
        return (
            state._replace(factor=factor),
            Adjustment(factor=factor, reasons=(Reason("cut", self.monitor, value, threshold, text),)),
        )


def _standing(state: PlateauState) -> Adjustment:
    return _UNCHANGED if state.factor == 1.0 else Adjustment(factor=state.factor)


@lru_cache(maxsize=512)
def _student(freedom: int) -> float:
    """Quantile of Student's t at `CONFIDENCE`."""
    return float(stdtrit(freedom, CONFIDENCE))
