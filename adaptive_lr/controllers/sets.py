"""Ready sets of controllers."""

from __future__ import annotations

import math

from adaptive_lr.controllers.arguments import check_count, check_flag
from adaptive_lr.controllers.composition import Composition
from adaptive_lr.controllers.gradient_spike import GradientSpike
from adaptive_lr.controllers.loss_variance import LossVariance
from adaptive_lr.controllers.range_test import RangeTest
from adaptive_lr.controllers.rescue import Rescue


def guarded(*, snapshots: bool = True) -> Composition:
    """The peak learning rate is given: do no harm, and rescue the run when it is wrong.

    `Rescue` takes back what a too large peak destroys, and holds the learning rate where updates are as large as a
    healthy warm-up's; later it backs off where the loss comes back up and a comparison shows that this helps.
    `GradientSpike` damps and skips bad gradients, `LossVariance` brakes when the training loss rises or its noise grows
    without progress. None raises the learning rate above the base schedule. A peak too large by less than a half-decade
    or so may pass unnoticed.

    Args:
        snapshots: whether `Rescue` keeps a copy of parameters and optimizer state while it watches (the rise of the
            base learning rate and 200 updates beyond), and a second one while it compares (some 20 updates).

    Raises:
        TypeError: `snapshots` is neither True nor False.
    """
    check_flag("snapshots", snapshots)
    return Composition((Rescue(snapshots=snapshots), GradientSpike(), LossVariance()), min_factor=1e-8, max_factor=1.0)


def automatic(*, total_steps: int) -> Composition:
    """No peak is known: the run finds its own with a range test as its warm-up, then `guarded` control.

    Give any learning rate: the run does not depend on it (see `RangeTest`). Give the base schedule without a warm-up of
    its own (the sweep is the warm-up); its clock runs from the first update on.

    Args:
        total_steps: updates of the whole run. The sweep, and in runs of at least 1,000 updates the rehearsals, take at
            most a tenth of them; where the peak then lies above what was tried, the learning rate rises on to it, by
            at most a factor of ten in twelve updates. Then a higher peak is probed: up to four times a 40th of the run
            at ten times the peak, all taken back.

    Raises:
        TypeError, ValueError: `total_steps` is no whole number of at least 1.
    """
    check_count("total_steps", total_steps)
    return Composition((RangeTest(total_steps=total_steps), *guarded()), max_factor=math.inf)
