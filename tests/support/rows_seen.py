"""Parameters with a gradient that is known, and the rows that the laws of a control are given."""

from __future__ import annotations

from typing import Any

import torch

from adaptive_lr import AdaptiveLR
from adaptive_lr.statistics import Statistics


def parameter(value: float = 1.0, gradient: float | None = 1.0) -> torch.Tensor:
    """Three equal elements with three equal gradients, or none."""
    p = torch.full((3,), value, requires_grad=True)
    p.grad = None if gradient is None else torch.full((3,), gradient)
    return p


def rows(control: AdaptiveLR) -> list[Statistics]:
    """All rows that the laws of this control are given from now on."""
    seen: list[Statistics] = []
    consider = control._deliberation.consider

    def listen(row: Statistics, next_update: int) -> Any:
        seen.append(row)
        return consider(row, next_update)

    control._deliberation.consider = listen  # type: ignore[method-assign]
    return seen
