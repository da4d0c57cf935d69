"""Learning rates that look after themselves: control over any PyTorch optimizer and schedule, with its reasons.

::

    from adaptive_lr import AdaptiveLR

    control = AdaptiveLR(optimizer, trace="runs/mine")
    ...
    optimizer.step()        # measured and layered here
    control.step(loss)      # once per update
"""

from adaptive_lr import controllers as controllers
from adaptive_lr import schedules as schedules
from adaptive_lr.adaptive import AdaptiveLR as AdaptiveLR
from adaptive_lr.trace import read_trace as read_trace

__all__ = ["AdaptiveLR", "controllers", "read_trace", "schedules"]
