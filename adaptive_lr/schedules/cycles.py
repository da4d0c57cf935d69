"""Schedules that rise again: warm restarts, cyclic, one-cycle (the last two with their inverse momentum).

Names and values are torch's, with learning rates (`eta_min`, `base_lr`) as shares of the peak.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from itertools import pairwise

import numpy as np

from adaptive_lr.schedules import checks
from adaptive_lr.schedules.base import LARGEST_STEP, FloatArray, Schedule
from adaptive_lr.schedules.shapes import interpolate, progress_through


@dataclass(frozen=True, repr=False)
class CosineWarmRestarts(Schedule):
    """Cosine cycles, each `T_mult` times as long as the last (SGDR; Loshchilov & Hutter 2017, arXiv:1608.03983).

    torch's CosineAnnealingWarmRestarts, and with `cycle_decay` < 1 the decaying peaks of Keras's
    CosineDecayRestarts (`m_mul`). It never ends.

    Args:
        T_0: steps of the first cycle, >= 1.
        T_mult: growth of the cycles, an integer >= 1.
        eta_min: the floor as a share of the first peak, within [0, 1].
        cycle_decay: each peak's height above the floor as a share of the last one's, within (0, 1].
    """

    T_0: int
    T_mult: int = 1
    _: KW_ONLY
    eta_min: float = 0.0
    cycle_decay: float = 1.0

    def __post_init__(self) -> None:
        checks.integer("T_0", self.T_0, at_least=1)
        checks.integer("T_mult", self.T_mult, at_least=1)
        checks.number("eta_min", self.eta_min, high=1.0)
        checks.number("cycle_decay", self.cycle_decay, high=1.0, above_low=True)

    def _factors(self, steps: FloatArray) -> FloatArray:
        if self.T_mult == 1:
            cycle, since = np.divmod(steps, self.T_0)
            size = np.full_like(steps, self.T_0)
        else:
            starts, sizes = self._cycles()
            index = np.searchsorted(starts, steps, side="right") - 1
            cycle, since, size = index.astype(np.float64), steps - starts[index], sizes[index]
        left = interpolate("cosine", since / size, 1.0, 0.0) * np.power(self.cycle_decay, cycle)
        return self.eta_min + (1.0 - self.eta_min) * left

    def _cycles(self) -> tuple[FloatArray, FloatArray]:
        """Start and size of every cycle; a table, for a logarithm of the step would round at the restarts."""
        starts, sizes = [0], [self.T_0]
        while starts[-1] <= LARGEST_STEP:
            starts.append(starts[-1] + sizes[-1])
            sizes.append(sizes[-1] * self.T_mult)
        return np.array(starts, dtype=np.float64), np.array(sizes, dtype=np.float64)


@dataclass(frozen=True, repr=False)
class Cyclic(Schedule):
    """Triangles between `base_factor` and the peak (Smith 2017, arXiv:1506.01186): torch's CyclicLR. It never ends.

    The momentum runs the other way: `max_momentum` where the learning rate is lowest.

    Args:
        step_size_up: steps of the rising half, >= 1.
        step_size_down: steps of the falling half, >= 1; None: as many.
        base_factor: torch's base_lr / max_lr, within [0, 1]. The paper suggests a third or a quarter.
        mode: `triangular`; `triangular2` (the height halves each cycle); `exp_range` (the height is times
            `gamma` ** step).
        gamma: for `exp_range`, within [0, 1].
        cycle_momentum: whether there is a momentum.
        base_momentum: the lowest, within [0, 1).
        max_momentum: the highest, within [base_momentum, 1).
    """

    step_size_up: int
    step_size_down: int | None = None
    _: KW_ONLY
    base_factor: float = 0.25
    mode: str = "triangular"
    gamma: float = 1.0
    cycle_momentum: bool = True
    base_momentum: float = 0.8
    max_momentum: float = 0.9

    def __post_init__(self) -> None:
        checks.integer("step_size_up", self.step_size_up, at_least=1)
        if self.step_size_down is not None:
            checks.integer("step_size_down", self.step_size_down, at_least=1)
        checks.number("base_factor", self.base_factor, high=1.0)
        checks.choice("mode", self.mode, ("triangular", "triangular2", "exp_range"))
        checks.number("gamma", self.gamma, high=1.0)
        checks.flag("cycle_momentum", self.cycle_momentum)
        _check_momenta(self.base_momentum, self.max_momentum)

    def _heights(self, steps: FloatArray) -> FloatArray:
        """Height above the base, 1 at the peak of the first triangle."""
        up = self.step_size_up
        down = up if self.step_size_down is None else self.step_size_down
        cycle, since = np.divmod(steps, up + down)
        height = np.where(since <= up, since / up, (up + down - since) / down)
        if self.mode == "triangular2":
            return height * np.exp2(-cycle)
        if self.mode == "exp_range":
            return height * np.power(self.gamma, steps)
        return height

    def _factors(self, steps: FloatArray) -> FloatArray:
        return self.base_factor + (1.0 - self.base_factor) * self._heights(steps)

    def _momenta(self, steps: FloatArray) -> FloatArray | None:
        if not self.cycle_momentum:
            return None
        return self.max_momentum - (self.max_momentum - self.base_momentum) * self._heights(steps)


@dataclass(frozen=True, repr=False)
class OneCycle(Schedule):
    """Up to the peak and far down, with the momentum the other way (Smith & Topin 2018, arXiv:1708.07120).

    torch's OneCycleLR. In two phases: initial -> peak -> minimum. In three, as in the paper: initial -> peak ->
    initial -> minimum, the first two of equal length. torch raises after `total_steps`; this one holds the minimum.

    Args:
        total_steps: >= 2; the minimum is reached at step total_steps - 1.
        pct_start: share of the steps spent rising. Every phase must have a positive length: 1 / total_steps <
            pct_start < 1, and with three phases pct_start < (total_steps + 1) / (2 total_steps).
        anneal_strategy: `cos` or `linear`.
        cycle_momentum: whether there is a momentum.
        base_momentum: the lowest, at the peak of the learning rate, within [0, 1).
        max_momentum: the highest, within [base_momentum, 1).
        div_factor: peak / initial, >= 1.
        final_div_factor: initial / minimum, >= 1.
        three_phase: three phases instead of two.
    """

    total_steps: int
    _: KW_ONLY
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        checks.integer("total_steps", self.total_steps, at_least=2)
        checks.number("pct_start", self.pct_start, high=1.0)
        checks.choice("anneal_strategy", self.anneal_strategy, ("cos", "linear"))
        checks.flag("cycle_momentum", self.cycle_momentum)
        _check_momenta(self.base_momentum, self.max_momentum)
        checks.number("div_factor", self.div_factor, low=1.0)
        checks.number("final_div_factor", self.final_div_factor, low=1.0)
        checks.flag("three_phase", self.three_phase)
        ends = self._ends()
        if any(end <= start for start, end in pairwise(ends)):
            raise ValueError(
                "pct_start must give every phase a positive length: the phases would end at steps "
                f"{', '.join(f'{end:g}' for end in ends[1:])}, got pct_start={self.pct_start!r}"
            )

    @property
    def length(self) -> int | None:
        """`total_steps`."""
        return self.total_steps

    def _ends(self) -> list[float]:
        rise = self.pct_start * self.total_steps - 1.0
        middle = [2.0 * self.pct_start * self.total_steps - 2.0] if self.three_phase else []
        return [0.0, rise, *middle, self.total_steps - 1.0]

    def _through(self, steps: FloatArray, levels: list[float]) -> FloatArray:
        """From level to level, one at the end of each phase."""
        shape = "cosine" if self.anneal_strategy == "cos" else "linear"
        ends = self._ends()
        values = np.full_like(steps, levels[0])
        for (start, end), (low, high) in zip(pairwise(ends), pairwise(levels), strict=True):
            values = np.where(steps > start, interpolate(shape, progress_through(steps, start, end), low, high), values)
        return values

    def _factors(self, steps: FloatArray) -> FloatArray:
        initial = 1.0 / self.div_factor
        middle = [initial] if self.three_phase else []
        return self._through(steps, [initial, 1.0, *middle, initial / self.final_div_factor])

    def _momenta(self, steps: FloatArray) -> FloatArray | None:
        if not self.cycle_momentum:
            return None
        highest = self.max_momentum
        middle = [highest] if self.three_phase else []
        return self._through(steps, [highest, self.base_momentum, *middle, highest])


def _check_momenta(base: float, highest: float) -> None:
    checks.number("base_momentum", base, high=1.0)
    checks.number("max_momentum", highest, low=base, high=1.0)
    if highest == 1.0:
        raise ValueError(f"max_momentum must be below 1, got {highest!r}")
