"""Which backend does the work: the one place where that is decided."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from types import NoneType
from typing import Literal

import torch
from torch import Tensor

Backend = Literal["auto", "triton", "torch"]

_ORDINARY = frozenset((Tensor, torch.nn.Parameter, NoneType))


def selected(backend: Backend, device: torch.device, *tensors: Sequence[Tensor | None]) -> Literal["triton", "torch"]:
    """The backend that a caller asked for, or that fits.

    Args:
        backend: "triton", the fused kernels; "torch", the reference; "auto", the former for ordinary tensors on a GPU
            of compute capability 8.0 or more where Triton is installed, else the latter.
        device: where the tensors are.
        tensors: those that are read or written; those of other types may not hold their own memory.

    Raises:
        ValueError: for an unknown backend.
    """
    if backend == "auto":
        return "triton" if _fuses(device, tensors) else "torch"
    if backend not in ("triton", "torch"):
        raise ValueError(f'backend must be "auto", "triton" or "torch"; got {backend!r}')
    return backend


def _fuses(device: torch.device, tensors: Sequence[Sequence[Tensor | None]]) -> bool:
    if device.type != "cuda" or not has_triton(device):
        return False
    return all(type(tensor) in _ORDINARY for listed in tensors for tensor in listed)


@functools.lru_cache(maxsize=64)
def has_triton(device: torch.device) -> bool:
    """Whether Triton is installed and compiles for this GPU: it needs compute capability 8.0."""
    return importlib.util.find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= (8, 0)
