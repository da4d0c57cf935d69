"""Gradient statistics of a whole model in one call: norms, largest magnitude, moments, non-finite count, alignment.

This package knows tensors and nothing else. `measure` is its entry; the README beside this file has the
definitions and their derivations.
"""

from adaptive_lr_kernels.inputs import STATISTICS
from adaptive_lr_kernels.measurement import Measurement, measure
from adaptive_lr_kernels.workspace import Workspace

__all__ = ["STATISTICS", "Measurement", "Workspace", "measure"]
