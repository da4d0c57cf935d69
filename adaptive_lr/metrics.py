"""What a user reports: a loss, or metrics by name, as numbers or as tensors of one element."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch

from adaptive_lr.statistics import MEASURED_STATISTICS


def metrics_of(given: Any, argument: str) -> dict[str, float | torch.Tensor]:
    """Metrics by name; a number or tensor alone is the training loss.

    Tensors stay tensors, so that nothing waits for their device.

    Raises:
        TypeError, ValueError: a value is no number or tensor of one, or a name is no string or that of a measured
            statistic.
    """
    if not isinstance(given, Mapping):
        return {"loss": _value(given, argument)}
    metrics: dict[str, float | torch.Tensor] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"names of metrics must be strings, got {name!r}")
        if not name:
            raise ValueError("names of metrics must not be empty, got ''")
        if name in MEASURED_STATISTICS:
            raise ValueError(f"metric {name!r} has the name of a statistic that is measured here; give it another name")
        metrics[name] = _value(value, name)
    return metrics


def number(value: Any, name: str) -> float:
    """A number or a tensor of one element as a number.

    Raises:
        TypeError, ValueError: it is something else.
    """
    return float(_value(value, name))


def _value(value: Any, name: str) -> float | torch.Tensor:
    if type(value) is float:
        return value
    if isinstance(value, torch.Tensor):
        if value.numel() != 1 or value.is_complex():
            raise ValueError(f"{name} must be a number or a real tensor of one element, got shape {tuple(value.shape)}")
        return value.detach()
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a number or a tensor of one element, got {value}")
    if isinstance(value, Real) or (hasattr(value, "__float__") and not isinstance(value, str)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"{name} must be a number or a tensor of one element, got {value!r}") from error
    raise TypeError(f"{name} must be a number or a tensor of one element, got {type(value).__name__}")
