"""The size of an update, for a network of several matrices: what a sweep is ended by."""

from __future__ import annotations

import math

from adaptive_lr.statistics import Statistics


def update_size(row: Statistics) -> float | None:
    """The geometric mean of the largest update-to-weight ratio r and of Σ log(1 + r) over the sixteen largest.

    The largest alone names peaks too high for networks in which many matrices move alike, and too low where one is far
    ahead of all others (tied or positional embeddings that begin small); the sum alone shrinks in proportion to depth.
    Of n matrices that move alike this is √n times the ratio, of one the ratio (less a twentieth of it at 0.2). Of
    ten workloads and of fifteen problems beside them it comes nearest to the best peak
    (`experiments/results/peak_rules.md`, `experiments/results/comparison_notes.md`).

    Returns:
        None where the row has no ratio; the largest ratio where it is not known what all come to (rows made by hand).
    """
    largest, compound = row.get("update_ratio"), row.get("compound_ratio")
    if largest is None or compound is None:
        return largest
    return math.sqrt(largest * math.log1p(compound))
