"""The peak learning rate, from what a sweep measured and from what is usual for the optimizer.

Levels are multiples of a reference learning rate. Where the constants come from: `experiments/results/peak_rules.md`.
"""

from __future__ import annotations

import math

REFERENCE_STEPS = 300
"""Length of the runs that the constants come from. Longer runs want less, by the square root of their length (measured
from 60 to 3,840 updates); shorter ones do not reliably want more."""

DIVERGENCE_DIVISOR = 15.0
"""From the learning rate of divergence down to the peak. The divisor that would have been right spreads from 5 to 200
over workloads; this is the middle, used only where the size of the update did not get there."""

LARGEST_STEP = 10.0
"""The most the peak may lie above the last level that was tried."""

USUAL_SPREAD = 0.75
"""Decades between what was measured and what is usual at which the weight of the usual is halved. Near each other,
their errors are independent and the mean is better than either; far apart, the scales of this problem are unusual, and
only the measurement knows them. 0.5 to 1 do equally well."""


def horizon_share(total_steps: int | None) -> float:
    """What a run of that length wants of the size of the update of one of `REFERENCE_STEPS`, in (0, 1]."""
    return min(1.0, math.sqrt(REFERENCE_STEPS / (total_steps or REFERENCE_STEPS)))


def measured_peak(level: float, size: float | None, bar: float, *, crossed: float, diverged: bool) -> float:
    """The peak that the end of a sweep points to.

    Args:
        level: the last level tried, > 0.
        size: of the update there (`adaptive_lr.controllers.update_size`), or None.
        bar: the size aimed at, > 0.
        crossed: the level at which the size met the bar; 0 where it did not.
        diverged: whether the loss did.

    Returns:
        `crossed`, else a share of the level of divergence, else the last level carried on in proportion.
    """
    if crossed:
        return crossed
    if diverged:
        return level / DIVERGENCE_DIVISOR
    return level * min(LARGEST_STEP, bar / size) if size else level


def with_usual(measured: float, usual: float, weight: float) -> float:
    """The weighted geometric mean of the level measured and the usual one.

    Args:
        measured: level, > 0.
        usual: level, > 0; 0 where nothing is usual.
        weight: of the usual where the two agree, in [0, 1]; 1 / (1 + (decades apart / `USUAL_SPREAD`)²) of it where
            they do not: the mean under an error of the usual with heavy tails.
    """
    if not usual:
        return measured
    decades = math.log10(usual / measured)
    return float(measured * 10.0 ** (decades * weight / (1.0 + (decades / USUAL_SPREAD) ** 2)))
