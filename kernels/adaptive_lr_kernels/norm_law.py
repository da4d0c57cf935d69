"""How the norms of gradients are followed: the constants of the law that `adaptive_lr_kernels.reflex` states."""

from __future__ import annotations

import math
from typing import NamedTuple

LARGEST_LOG = 709.0
"""Log-norms above it have no exponential in float64."""


class NormLaw(NamedTuple):
    """The constants by which norms are followed; they belong to whoever states the law, so none has a default.

    Attributes:
        warmup: norms to see before one is judged, >= 1.
        spread_floor: least standard deviation of log-norms, > 0.
        bound: standard deviations up to which an error counts, > 0.
        least_memory: norms over which the level is averaged early on, >= 1.
        level_memory: the same later, at least `least_memory`.
        level_share: norms so far over those of the level, >= 1.
        scale_memory: norms over which the variance is averaged, >= 1.
        scale_share: norms so far over those of the variance, >= 1.
        trend: of a change of the level, what changes its slope, >= 0.
        adopt_after: errors in a row at the bound on one side that are a new level, >= 1.
    """

    warmup: int
    spread_floor: float
    bound: float
    least_memory: float
    level_memory: float
    level_share: float
    scale_memory: float
    scale_share: float
    trend: float
    adopt_after: int

    def check(self) -> None:
        """Raise ValueError where a constant is out of its range."""
        for name in ("warmup", "least_memory", "level_share", "scale_memory", "scale_share", "adopt_after"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 1 and finite, got {getattr(self, name)}")
        for name in ("spread_floor", "bound"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and > 0, got {getattr(self, name)}")
        if not self.least_memory <= self.level_memory < math.inf:
            raise ValueError(f"level_memory must be at least least_memory and finite, got {self.level_memory}")
        if not 0.0 <= self.trend < math.inf:
            raise ValueError(f"trend must be finite and >= 0, got {self.trend}")


def squares_within(bound: float) -> float:
    """The mean of min(z^2, bound^2) for a standard normal z."""
    inside = math.erf(bound / math.sqrt(2.0)) - bound * math.sqrt(2.0 / math.pi) * math.exp(-0.5 * bound * bound)
    return inside + bound * bound * math.erfc(bound / math.sqrt(2.0))
