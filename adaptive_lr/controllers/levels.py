"""The factor of a law that backs off in whole steps and recovers in half ones.

The level is kept as an integer, the number of half back-offs in force, so that a full recovery ends at exactly 1.
"""

from __future__ import annotations

import math

from adaptive_lr.controllers.arguments import check_number


def factor_at(depth: int, *, backoff: float, min_factor: float) -> float:
    """The factor with `depth` half back-offs in force: ``backoff ** (depth / 2)``, at least `min_factor`."""
    return max(math.pow(backoff, depth / 2), min_factor)


def deeper(depth: int, *, backoff: float, min_factor: float) -> int:
    """The depth after one more back-off, no deeper than it takes to reach `min_factor`.

    So the first step of a recovery from the bound is already a change.
    """
    depth += 2
    while depth > 0 and math.pow(backoff, (depth - 1) / 2) <= min_factor:
        depth -= 1
    return depth


def check_levels(*, backoff: float, min_factor: float) -> None:
    """Validate the two settings.

    Raises:
        TypeError: one is no number.
        ValueError: `backoff` is not in (0, 1), or `min_factor` is not in (0, 1].
    """
    check_number("backoff", backoff, "(0, 1)")
    check_number("min_factor", min_factor, "(0, 1]")
