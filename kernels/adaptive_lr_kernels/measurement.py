"""`measure`: the statistics of all the gradients of an optimizer, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adaptive_lr_kernels import inputs
from adaptive_lr_kernels.merge import Mergeable, Segments
from adaptive_lr_kernels.reference import measure_tensors

Backend = Literal["auto", "triton", "torch"]


class Level(Mapping[str, Tensor]):
    """The measured statistics at one level, merged from the tensors when a name is first read.

    Reading later gives the same values: all that depends on the gradients was read by `measure`.
    """

    __slots__ = ("_merged", "_names", "_segments", "_tensors")

    def __init__(self, names: tuple[str, ...], tensors: Mapping[str, Mergeable], segments: Segments | None) -> None:
        self._names = names
        self._tensors = tensors
        self._segments = segments
        self._merged: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._merged:
            if name not in self._names:
                raise KeyError(f"{name!r} was not measured; measured: {', '.join(self._names) or 'nothing'}")
            tensors = self._tensors[name]
            merged = tensors if self._segments is None else tensors.merge(self._segments)
            self._merged[name] = merged.value(name)
        return self._merged[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)})"


class Overall(Level):
    """The measured statistics over all tensors, as 0-d tensors."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Tensor:
        return super().__getitem__(name).squeeze(0)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What `measure` found, as tensors on the device of the gradients; `nonfinite` int64, all else float64.

    Attributes:
        overall: name -> 0-d tensor, over all tensors.
        per_group: name -> [num_groups].
        per_tensor: name -> [num_tensors], in the order of the gradients, those that were None included.
    """

    overall: Mapping[str, Tensor]
    per_group: Mapping[str, Tensor]
    per_tensor: Mapping[str, Tensor]


def measure(
    gradients: Iterable[Tensor | None],
    *,
    parameters: Iterable[Tensor] | None = None,
    momenta: Iterable[Tensor | None] | None = None,
    groups: Iterable[int] | None = None,
    statistics: Iterable[str] | None = None,
    backend: Backend = "auto",
) -> Measurement:
    """Measure gradients, with their parameters and momentum buffers if given: per tensor, per group and overall.

    | name | what it is |
    | --- | --- |
    | `grad_norm` | Euclidean norm |
    | `grad_max` | largest magnitude |
    | `grad_mean`, `grad_variance` | mean and population variance over all elements (measured together) |
    | `nonfinite` | number of infinities and NaNs |
    | `param_norm` | Euclidean norm of the parameters |
    | `momentum_norm` | Euclidean norm of the momentum buffers |
    | `alignment` | cosine of gradient and momentum over the tensors that have both; 0 where either is zero |

    A tensor whose gradient is None keeps its place, contributes nothing (not even its parameter and momentum)
    and has 0 in every statistic; so has an empty tensor, and an empty group. Complex tensors are read as pairs of
    reals, also for the largest magnitude, the mean and the variance. Sparse gradients are read as if dense.

    Non-finite input is not hidden: the norm is infinite or NaN, as are maximum, mean and variance, and the
    alignment is NaN. Values are squared in float32 (float64 in float64), so a norm is also infinite where a square
    overflows, from magnitudes of 1.8e19 (1.3e154) on, with `nonfinite` 0; magnitudes below 1e-19 (1e-154) lose
    precision in it, and vanish from it below 3e-23 (2e-162).

    Nothing is modified, and nothing waits for a device, unless a sparse gradient has still to be coalesced.

    Args:
        gradients: one tensor per parameter, or None; floating-point or complex, strided or sparse COO, any mix of
            dtypes, all on one device.
        parameters: the parameters, one per gradient, of the same shapes.
        momenta: the momentum buffers, one per gradient, of the same shapes; None where there is none yet.
        groups: the group index of each tensor, 0 or more; None puts all in one group. There are max(groups) + 1
            groups.
        statistics: the names to measure; None measures all that the inputs allow. What is not named costs nothing.
        backend: "torch"; "auto", which is the same in this version; "triton" is not available in this version.

    Returns:
        The measurement. Reading a name merges a few numbers; the gradients have been read already.

    Raises:
        TypeError: for tensors of integer, boolean, quantized or 8-bit dtype or another layout, DTensors, indices or
            names of the wrong type.
        ValueError: for differing lengths, shapes or devices, negative group indices, unknown statistics, statistics
            whose input is not given, an unknown backend.
        NotImplementedError: for the Triton backend.
    """
    if backend not in ("auto", "torch"):
        _refuse(backend)
    names = inputs.requested(
        inputs.names_of(statistics), parameters=parameters is not None, momenta=momenta is not None
    )
    gradients = inputs.tensors_of("gradients", gradients)
    segments = inputs.groups_of(groups, len(gradients))
    device = next((g.device for g in gradients if isinstance(g, Tensor)), torch.device("cpu"))
    inputs.check_tensors("gradients", gradients, device)
    beside_parameters = _beside("parameters", parameters, gradients, device)
    beside_momenta = _beside("momenta", momenta, gradients, device)
    with torch.no_grad():
        tensors = measure_tensors(gradients, beside_parameters, beside_momenta, names, device)
    return Measurement(
        overall=Overall(names, tensors, Segments(None, (len(gradients),))),
        per_group=Level(names, tensors, segments),
        per_tensor=Level(names, tensors, None),
    )


def _beside(
    name: Literal["parameters", "momenta"],
    tensors: Iterable[Tensor | None] | None,
    gradients: Sequence[Tensor | None],
    device: torch.device,
) -> list[Tensor | None]:
    """The checked parameters or momenta, None where the gradient is None; nothing where none were given."""
    if tensors is None:
        return []
    listed = inputs.tensors_of(name, tensors)
    if len(listed) != len(gradients):
        raise ValueError(f"{name} must have one entry per gradient, {len(gradients)}; got {len(listed)}")
    present = [tensor if gradient is not None else None for tensor, gradient in zip(listed, gradients, strict=True)]
    inputs.check_tensors(name, present, device)
    inputs.check_alike(name, present, gradients)
    if name == "parameters":
        for index, (tensor, gradient) in enumerate(zip(present, gradients, strict=True)):
            if tensor is None and gradient is not None:
                raise TypeError(f"parameters[{index}] must be a tensor; got None")
    return present


def _refuse(backend: str) -> None:
    if backend == "triton":
        raise NotImplementedError('backend "triton" is not available: this version has no Triton kernels yet')
    raise ValueError(f'backend must be "auto", "triton" or "torch"; got {backend!r}')
