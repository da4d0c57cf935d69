"""Learning rates that look after themselves: control over any PyTorch optimizer and schedule, with its reasons.

::

    from adaptive_lr import AdaptiveLR

    control = AdaptiveLR(optimizer, trace="runs/mine")
    ...
    optimizer.step()        # measured and layered here
    control.step(loss)      # once per update
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptive_lr import controllers as controllers
    from adaptive_lr import schedules as schedules
    from adaptive_lr.adaptive import AdaptiveLR as AdaptiveLR
    from adaptive_lr.lr_range_test import range_test as range_test
    from adaptive_lr.trace import read_trace as read_trace

__all__ = ["AdaptiveLR", "controllers", "range_test", "read_trace", "schedules"]

_HOMES = {
    "AdaptiveLR": "adaptive_lr.adaptive",
    "range_test": "adaptive_lr.lr_range_test",
    "read_trace": "adaptive_lr.trace",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `adaptive-lr --help` does not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'adaptive_lr' has no attribute {name!r}")
    home = _HOMES.get(name)
    value = (
        importlib.import_module(f"adaptive_lr.{name}") if home is None else getattr(importlib.import_module(home), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
