"""`measure`: the statistics of all the gradients of an optimizer, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from adaptive_lr_kernels import inputs, shards
from adaptive_lr_kernels.backends import Backend, selected
from adaptive_lr_kernels.collective import gathered
from adaptive_lr_kernels.merge import Mergeable, Segments
from adaptive_lr_kernels.parts import needed, parts_of
from adaptive_lr_kernels.reference import PieceNorms, measure_tensors

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from adaptive_lr_kernels.workspace import Workspace


_HOST = torch.device("cpu")
_NO_GRAPH = nullcontext()


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


class Ungathered(Mapping[str, Tensor]):
    """Stands for statistics of tensors of which this process holds shards, where nobody gathered them."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Tensor:
        raise KeyError(f"{name!r} was not gathered per tensor: measure(..., per_tensor=True) does")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What `measure` found, as tensors on the device of the gradients; `nonfinite` int64, all else float64.

    Attributes:
        overall: name -> 0-d tensor, over all tensors.
        per_group: name -> [num_groups].
        per_tensor: name -> [num_tensors], in the order of the gradients, those that were None included. With a
            process group only where it was asked for.
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
    process_group: ProcessGroup | None = None,
    per_tensor: bool = False,
    placed_as: Iterable[Tensor | None] | None = None,
    workspace: Workspace | None = None,
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

    With a process group the statistics are those of the whole tensors over all its processes, the same bits on each.
    Every process calls with the same tensors in the same order, DTensors or ordinary ones in any mix; it reads its
    local shards, and one small all-gather does the rest. Each element counts once: ordinary tensors are replicas, of
    which the first process's counts, as the first one does along a `Replicate` placement. What is not finite in any
    replica is so everywhere (then `nonfinite` is at least the largest count of one process).

    Args:
        gradients: one tensor per parameter, or None; floating-point or complex, strided or sparse COO, any mix of
            dtypes, all on one device.
        parameters: the parameters, one per gradient, of the same shapes.
        momenta: the momentum buffers, one per gradient, of the same shapes; None where there is none yet.
        groups: the group index of each tensor, 0 or more; None puts all in one group. There are max(groups) + 1
            groups.
        statistics: the names to measure; None measures all that the inputs allow. What is not named costs nothing.
        backend: "triton", the fused kernels, for ordinary tensors (no subclasses) on a GPU; "torch", the reference;
            "auto", the former where it can be, else the latter.
        process_group: the processes over which tensors are spread or replicated; None: this process alone.
        per_tensor: with a process group, whether the statistics of every tensor are gathered, not just of the groups.
            Without one they are there anyway.
        placed_as: one tensor per gradient, where the gradients (and parameters and momenta) are themselves the local
            shards of what is spread as those are; None: they are what they are.
        workspace: what the Triton backend keeps from call to call, results included: they are written again two calls
            later. None: launch tables are shared by all callers that have none, and results stay as they are.

    Returns:
        The measurement. Reading a name merges a few numbers; the gradients have been read already.

    Raises:
        TypeError: for tensors of integer, boolean, quantized or 8-bit dtype or another layout, indices or names of
            the wrong type; for the Triton backend also for subclasses, and tensors without memory.
        ValueError: for differing lengths, shapes, placements or devices, negative group indices, unknown statistics,
            statistics whose input is not given, an unknown backend, a DTensor with a `Partial` placement or over
            processes that are not in the group; the Triton backend on a device that it cannot run on.
        RuntimeError: for the Triton backend while a CUDA graph is captured: see `Measurer`.
    """
    if backend != "auto":
        selected(backend, _HOST)  # an unknown one is refused before anything else
    names = inputs.requested(
        inputs.names_of(statistics), parameters=parameters is not None, momenta=momenta is not None
    )
    given = inputs.tensors_of("gradients", gradients)
    spread = given if placed_as is None else inputs.tensors_of("placed_as", placed_as)
    if len(spread) != len(given):
        raise ValueError(f"placed_as must have one entry per gradient, {len(given)}; got {len(spread)}")
    counted: tuple[bool, ...] = ()
    gradients = given
    if process_group is not None or not shards.ordinary(spread):
        counted = shards.counted("gradients", spread, process_group)
        gradients = shards.localised(given)
    segments = inputs.groups_of(groups, len(gradients))
    device = next((g.device for g in gradients if isinstance(g, Tensor)), _HOST)
    inputs.check_tensors("gradients", gradients, device)
    beside_parameters = beside("parameters", parameters, given, gradients, device)
    beside_momenta = beside("momenta", momenta, given, gradients, device)
    tensors: Mapping[str, Mergeable]
    if selected(backend, device, gradients, beside_parameters, beside_momenta) == "triton":
        # Here, so that Triton is imported only where it is used.
        from adaptive_lr_kernels.measurer import measure_fused

        if process_group is None:
            return measure_fused(names, segments, device, gradients, beside_parameters, beside_momenta, workspace)
        alone = measure_fused(needed(names), segments, device, gradients, beside_parameters, beside_momenta, workspace)
        present = [momentum is not None for momentum in beside_momenta]
        tensors = parts_of(names, alone.per_tensor, gradients, present)
    else:
        with torch.no_grad() if _have_graph(gradients, beside_parameters, beside_momenta) else _NO_GRAPH:
            tensors = measure_tensors(gradients, beside_parameters, beside_momenta, names, device)
        if process_group is not None:
            tensors = {name: q.per_tensor if isinstance(q, PieceNorms) else q for name, q in tensors.items()}
    if process_group is not None and not per_tensor:
        with torch.no_grad():
            merged = gathered(tensors, counted, segments, process_group)
        return Measurement(
            overall=Overall(names, merged, Segments(None, (len(segments.sizes),))),
            per_group=Level(names, merged, None),
            per_tensor=Ungathered(),
        )
    if process_group is not None:
        with torch.no_grad():
            tensors = gathered(tensors, counted, Segments(None, (1,) * len(gradients)), process_group)
    return Measurement(
        overall=Overall(names, tensors, Segments(None, (len(gradients),))),
        per_group=Level(names, tensors, segments),
        per_tensor=Level(names, tensors, None),
    )


def _have_graph(*tensors: Sequence[Tensor | None]) -> bool:
    """Whether autograd would record what is done with the tensors; if not, the switch that stops it is not needed."""
    for listed in tensors:
        for tensor in listed:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def beside(
    name: Literal["parameters", "momenta"],
    tensors: Iterable[Tensor | None] | None,
    given: Sequence[Tensor | None],
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
    shards.check_spread_alike(name, present, "gradients", given)
    present = shards.localised(present)
    inputs.check_tensors(name, present, device)
    inputs.check_alike(name, present, gradients)
    if name == "parameters":
        for index, (tensor, gradient) in enumerate(zip(present, gradients, strict=True)):
            if tensor is None and gradient is not None:
                raise TypeError(f"parameters[{index}] must be a tensor; got None")
    return present
