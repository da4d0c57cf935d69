"""Statistics of all processes of a group: one vector of this process's share, one all-gather, an ordered merge.

Every process sends the same number of values and merges the same rows in the same order, so that all arrive at the
same bits. Nothing is read on the host.

What a process sends is in two halves: of the tensors that it counts (see `shards.counted`), and of the replicas that
another process counts. The second half adds nothing, but whatever in it is not finite is everyone's, and so is a
larger magnitude: a process that is broken is not hidden by the ones that are not.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from adaptive_lr_kernels.merge import Alignment, Maxima, Mergeable, Moments, Norms, Segments, Sums

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

MergeableT = TypeVar("MergeableT", bound=Mergeable)


def all_gather(vector: Tensor, group: ProcessGroup) -> Tensor:
    """The vectors [num_values] of all processes, in the order of their ranks: [num_processes, num_values].

    One collective, over tensors of the same size on every process. A vector on the CPU travels through the GPU where
    the group has no other way.
    """
    import torch.distributed as dist

    if vector.device.type == "cpu" and dist.get_backend(group) == "nccl":
        vector = vector.to("cuda")
    gathered = vector.new_empty(dist.get_world_size(group) * len(vector))
    # torch 2.13 has given it another name.
    gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    gather(gathered, vector, group=group)
    return gathered.view(-1, len(vector))


def gathered(
    found: Mapping[str, Mergeable], counted: Sequence[bool], segments: Segments, group: ProcessGroup
) -> dict[str, Mergeable]:
    """Merge what every process measured of its share of the tensors.

    Args:
        found: for each name, the statistics of each tensor's share [num_tensors]; the same names everywhere.
        counted: whether this process counts its share, per tensor.
        segments: the tensors of each group; as many groups everywhere.
        group: the processes.

    Returns:
        For each name, the statistics of each group [num_groups] over all processes.
    """
    share = Share(found, counted, segments)
    return share.merged(all_gather(share.vector, group)) if len(share.vector) else dict(found)


class Share:
    """This process's share of some statistics, as one vector.

    Attributes:
        vector: float64 [num_values], to be gathered from all processes, alone or beside other values.
    """

    __slots__ = ("_names", "_quantities", "vector")

    def __init__(self, found: Mapping[str, Mergeable], counted: Sequence[bool], segments: Segments) -> None:
        halves = _halves(segments.order, tuple(segments.sizes), tuple(counted))
        self._names = {name: id(quantity) for name, quantity in found.items()}
        # Mean and variance are two names of one quantity, which is sent once.
        self._quantities = {id(quantity): quantity.merge(halves) for quantity in found.values()}
        vectors = [vector for quantity in self._quantities.values() for vector in _vectors(quantity)]
        self.vector = (
            torch.cat([vector.double() for vector in vectors])
            if vectors
            else torch.zeros(0, dtype=torch.float64, device="cpu")
        )

    def merged(self, rows: Tensor) -> dict[str, Mergeable]:
        """The statistics of each group, out of the vectors of all processes [num_processes, num_values]."""
        num_processes = len(rows)
        merged: dict[int, Mergeable] = {}
        start = 0
        for key, quantity in self._quantities.items():
            owned: list[Tensor] = []
            replicas: list[Tensor] = []
            num_groups = 0
            for vector in _vectors(quantity):
                num_groups = len(vector) // 2
                values = rows[:, start : start + len(vector)].t().to(vector.dtype)  # [2 num_groups, num_processes]
                start += len(vector)
                owned.append(values[:num_groups].reshape(-1))
                replicas.append(values[num_groups:])
            by_group = Segments(None, (num_processes,) * num_groups)
            whole = _filled(quantity, iter(owned)).merge(by_group)
            merged[key] = _with_replicas(whole, _filled(quantity, iter(replicas)))
        return {name: merged[key] for name, key in self._names.items()}


@functools.lru_cache(maxsize=64)  # an optimizer asks for the same at every step
def _halves(order: tuple[int, ...] | None, sizes: tuple[int, ...], counted: tuple[bool, ...]) -> Segments:
    """The counted tensors of each group, then the replicas of each group."""
    indices = iter(range(len(counted)) if order is None else order)
    groups = [[next(indices) for _ in range(size)] for size in sizes]
    parts = [[index for index in group if counted[index] is kept] for kept in (True, False) for group in groups]
    ordered = tuple(index for part in parts for index in part)
    natural = ordered == tuple(range(len(ordered)))
    return Segments(None if natural else ordered, tuple(len(part) for part in parts))


def _vectors(quantity: Any) -> Iterator[Tensor]:
    """The vectors that a quantity is made of, in the order of its fields."""
    for field in fields(quantity):
        value = getattr(quantity, field.name)
        if isinstance(value, Tensor):
            yield value
        else:
            yield from _vectors(value)


def _filled(quantity: Any, vectors: Iterator[Tensor]) -> Any:
    """A quantity of the same kind, made of other vectors."""
    values = (getattr(quantity, field.name) for field in fields(quantity))
    return type(quantity)(*[next(vectors) if isinstance(v, Tensor) else _filled(v, vectors) for v in values])


def _with_replicas(whole: MergeableT, replicas: MergeableT) -> MergeableT:
    """What was counted [num_groups], and what the replicas [num_groups, num_processes] have to say."""
    known: Any = whole
    others: Any = replicas
    match whole:
        case Maxima():
            return type(whole)(torch.maximum(known.maxima, others.maxima.amax(1)))
        case Sums() if not known.sums.is_floating_point():
            # Counts of what is not finite. Where replicas are alike theirs is part of the sum already.
            return type(whole)(torch.maximum(known.sums, others.sums.amax(1)))
        case Sums():
            return type(whole)(known.sums + _nonfinite(others.sums))
        case Norms():
            return type(whole)(known.norms + _nonfinite(others.norms))
        case Moments():
            means, variances = known.means + _nonfinite(others.means), known.variances + _nonfinite(others.variances)
            return type(whole)(known.counts, means, variances)
        case Alignment():
            names = (field.name for field in fields(whole))
            return type(whole)(*(_with_replicas(getattr(known, name), getattr(others, name)) for name in names))
    raise TypeError(f"found must hold statistics of adaptive_lr_kernels.merge, got {type(whole).__name__}")


def _nonfinite(values: Tensor) -> Tensor:
    """The sum over the processes of what is not finite: 0 where everything is."""
    return torch.where(values.isfinite(), 0.0, values).sum(1)
