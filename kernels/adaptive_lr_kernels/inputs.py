"""What may be measured: the names of the statistics, and the checks of everything that `measure` is given.

The checks run at every optimizer step, so each tensor first passes one cheap test that ordinary tensors meet;
only what fails it is looked at closely enough to say what is wrong.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from adaptive_lr_kernels.merge import Segments

GRADIENT_STATISTICS = ("grad_norm", "grad_max", "grad_mean", "grad_variance", "nonfinite")
PARAMETER_STATISTICS = ("param_norm",)
MOMENTUM_STATISTICS = ("momentum_norm", "alignment")

STATISTICS = (*GRADIENT_STATISTICS, *PARAMETER_STATISTICS, *MOMENTUM_STATISTICS)
"""Every statistic that `measure` knows, in the order in which its mappings list them."""

_DTYPES = frozenset(
    (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex32,
        torch.complex64,
        torch.complex128,
    )
)
_PLAIN_TYPES = frozenset((Tensor, torch.nn.Parameter))


@functools.lru_cache(maxsize=256)
def requested(statistics: tuple[str, ...] | None, *, parameters: bool, momenta: bool) -> tuple[str, ...]:
    """The names to measure, in the order of `STATISTICS`.

    Args:
        statistics: names asked for; None asks for all that the inputs allow.
        parameters: whether parameters were given.
        momenta: whether momentum buffers were given.

    Raises:
        ValueError: for an unknown name, or one whose input was not given.
    """
    missing = {name: "parameters" for name in PARAMETER_STATISTICS if not parameters}
    missing |= {name: "momenta" for name in MOMENTUM_STATISTICS if not momenta}
    if statistics is None:
        return tuple(name for name in STATISTICS if name not in missing)
    for name in statistics:
        if name not in STATISTICS:
            raise ValueError(f"statistics must be names out of {', '.join(STATISTICS)}; got {name!r}")
        if name in missing:
            raise ValueError(f"statistics may name {name!r} only where {missing[name]} are given; got None for them")
    return tuple(name for name in STATISTICS if name in statistics)


def names_of(statistics: Iterable[str] | None) -> tuple[str, ...] | None:
    """`statistics` as a tuple of strings.

    Raises:
        TypeError: for a single string (its letters are no names) or anything that holds more than strings.
    """
    if statistics is None:
        return None
    if isinstance(statistics, str) or not isinstance(statistics, Iterable):
        raise TypeError(f"statistics must be a sequence of names, as in ('grad_norm',); got {statistics!r}")
    names = tuple(statistics)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"statistics must be a sequence of names; got {name!r} among them")
    return names


def tensors_of(name: str, tensors: Iterable[Tensor | None]) -> list[Tensor | None]:
    """`tensors` as a list.

    Raises:
        TypeError: for a single tensor (its rows are no gradients) or anything that is not a sequence.
    """
    if isinstance(tensors, Tensor) or not isinstance(tensors, Iterable):
        raise TypeError(f"{name} must be a sequence of tensors; got {type(tensors).__name__}")
    return list(tensors)


def check_tensors(name: str, tensors: Sequence[Tensor | None], device: torch.device) -> None:
    """Check that every entry is None or a tensor that can be measured, on `device`.

    Raises:
        TypeError: for an entry of another type, dtype or layout.
        ValueError: for a tensor on another device.
    """
    for index, tensor in enumerate(tensors):
        if tensor is None or (
            type(tensor) in _PLAIN_TYPES
            and tensor.dtype in _DTYPES
            and tensor.layout is torch.strided
            and not tensor.is_nested
            and tensor.device == device
        ):
            continue
        _check_closely(f"{name}[{index}]", tensor, device)


def _check_closely(label: str, tensor: Tensor, device: torch.device) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{label} must be a tensor or None; got {type(tensor).__name__}")
    if tensor.is_nested:
        raise TypeError(f"{label} must be one tensor of one shape; got a nested tensor")
    if tensor.dtype not in _DTYPES:
        raise TypeError(
            f"{label} must have a floating-point or complex dtype of 16 bits or more per real; got {tensor.dtype}"
        )
    if tensor.layout not in (torch.strided, torch.sparse_coo):
        raise TypeError(f"{label} must have a strided or sparse COO layout; got {tensor.layout}")
    if tensor.device != device:
        raise ValueError(f"{label} must be on the device of the first gradient, {device}; got {tensor.device}")


def check_alike(name: str, tensors: Sequence[Tensor | None], gradients: Sequence[Tensor | None]) -> None:
    """Check that each tensor has the shape of its gradient, and is complex where its gradient is.

    Raises:
        ValueError: if one differs.
    """
    for index, (tensor, gradient) in enumerate(zip(tensors, gradients, strict=True)):
        if tensor is None or gradient is None:
            continue
        if tensor.shape != gradient.shape:
            raise ValueError(
                f"{name}[{index}] must have the shape of gradients[{index}], {tuple(gradient.shape)}; "
                f"got {tuple(tensor.shape)}"
            )
        if tensor.is_complex() != gradient.is_complex():
            raise ValueError(
                f"{name}[{index}] and gradients[{index}] must both be real or both complex; "
                f"got {tensor.dtype} and {gradient.dtype}"
            )


def groups_of(groups: Iterable[int] | None, num_tensors: int) -> Segments:
    """The tensors of each group.

    Args:
        groups: one group index per tensor; None puts all tensors in one group.
        num_tensors: number of gradients, those that are None included.

    Returns:
        One segment per group: max(groups) + 1 of them, some perhaps empty.

    Raises:
        TypeError: for an index that is not an integer.
        ValueError: for a negative index, or a number of indices other than `num_tensors`.
    """
    if groups is None:
        return Segments(None, (num_tensors,))
    if not isinstance(groups, Iterable):
        raise TypeError(f"groups must be a sequence of one integer per gradient; got {type(groups).__name__}")
    indices = tuple(groups)
    if not set(map(type, indices)) <= {int}:
        indices = tuple(_integer(position, index) for position, index in enumerate(indices))
    if len(indices) != num_tensors:
        raise ValueError(f"groups must have one index per gradient, {num_tensors}; got {len(indices)}")
    return _segments(indices)


def _integer(position: int, index: object) -> int:
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        raise TypeError(f"groups[{position}] must be an integer; got {index!r}")
    return operator.index(index)


@functools.lru_cache(maxsize=64)  # an optimizer asks with the same indices at every step
def _segments(indices: tuple[int, ...]) -> Segments:
    if not indices:
        return Segments(None, ())
    if min(indices) < 0:
        position = next(position for position, index in enumerate(indices) if index < 0)
        raise ValueError(f"groups[{position}] must be 0 or more; got {indices[position]}")
    sizes = [0] * (max(indices) + 1)
    for index in indices:
        sizes[index] += 1
    order = tuple(sorted(range(len(indices)), key=indices.__getitem__))
    return Segments(None if order == tuple(range(len(indices))) else order, tuple(sizes))
