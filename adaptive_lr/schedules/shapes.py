"""The curves between two levels that warm-ups, decays and annealing phases share."""

from __future__ import annotations

import math

import numpy as np

from adaptive_lr.schedules.base import FloatArray

SHAPES = ("linear", "cosine", "1-sqrt", "1-square", "exponential")
"""With p the share of the way done, the share of start - end that is left: 1 - p; (1 + cos πp) / 2; 1 - √p;
1 - p². `exponential` is start^(1-p) end^p: a straight line in the logarithm, and both ends must be > 0."""


def interpolate(shape: str, progress: FloatArray, start: float, end: float) -> FloatArray:
    """From `start` at progress 0 to `end` at progress 1, both exactly.

    Args:
        shape: one of `SHAPES`.
        progress: within [0, 1], shape [steps].
        start: the first level, >= 0.
        end: the last level, >= 0.
    """
    if shape == "exponential":
        return np.power(start, 1.0 - progress) * np.power(end, progress)
    if shape == "linear":
        left = 1.0 - progress
    elif shape == "cosine":
        # (1 + cos πp) / 2 without its cancellation near p = 1
        left = np.square(np.sin(0.5 * math.pi * (1.0 - progress)))
    elif shape == "1-sqrt":
        left = 1.0 - np.sqrt(progress)
    else:
        left = 1.0 - np.square(progress)
    return start * left + end * (1.0 - left)


def progress_through(steps: FloatArray, first: float, last: float) -> FloatArray:
    """The share of the way from step `first` to step `last` > `first`, held at 0 before and at 1 after."""
    return np.clip((steps - first) / (last - first), 0.0, 1.0)
