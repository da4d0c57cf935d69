"""Numbers of the host on their way to a device, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU, on the device; nothing waits."""
    # From page-locked memory: a copy from any other waits for all that a GPU was given to do.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def vector(values: Sequence[float], device: torch.device) -> Tensor:
    """Numbers as a float64 vector on the device; nothing waits."""
    return uploaded(torch.tensor(values, dtype=torch.float64, device="cpu"), device)
