"""Ready sets of controllers."""

from __future__ import annotations

from adaptive_lr.controllers.composition import Composition
from adaptive_lr.controllers.gradient_spike import GradientSpike
from adaptive_lr.controllers.loss_variance import LossVariance


def guarded() -> Composition:
    """The peak learning rate is given: do no harm, and rescue the run when it is wrong.

    `GradientSpike` damps and skips bad gradients, `LossVariance` brakes when the training loss rises or its noise
    grows without progress. Neither raises the learning rate above the base schedule, and together they lower it to no
    less than a thousandth: three decades is further than a peak is commonly off, and training below that is
    standing still.
    """
    return Composition((GradientSpike(), LossVariance()), min_factor=1e-3, max_factor=1.0)
