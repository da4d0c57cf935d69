"""Tensors that are spread over processes: what this process holds of each, and whether it counts here.

A DTensor is read through its local shard, without a DTensor operation and without communication. Each element of the
whole tensor is to be counted by exactly one process:

* over a mesh dimension with a `Shard` placement every process counts what it holds;
* over one with a `Replicate` placement only the process at coordinate 0 does;
* a mesh that is a slice of a larger one (the data-parallel dimension of a mesh with a tensor-parallel one) stands for
  replicas over the other dimensions; only the slice that holds the first process (of the group, in the larger mesh)
  counts;
* an ordinary tensor is taken to be a replica on every process of the group, and the first process counts it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Parameter

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_ORDINARY = frozenset((Tensor, Parameter, NoneType))


def is_distributed(tensor: object) -> bool:
    """Whether this is a DTensor. Never imports torch.distributed.tensor: where nobody has, there is none."""
    kind = _dtensor()
    return kind is not None and isinstance(tensor, kind)


def local(tensor: Tensor) -> Tensor:
    """What this process holds: the local shard of a DTensor, detached, perhaps empty; any other tensor as it is."""
    kind = _dtensor()
    return _shard(tensor) if kind is not None and isinstance(tensor, kind) else tensor


def ordinary(tensors: Sequence[object]) -> bool:
    """Whether all are tensors or parameters of torch itself, or None: then none of them is spread."""
    return set(map(type, tensors)) <= _ORDINARY


def localised(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """`local` of each tensor; None stays None."""
    kind = _dtensor()
    if kind is None:
        return list(tensors)
    return [_shard(tensor) if isinstance(tensor, kind) else tensor for tensor in tensors]


def counted(name: str, tensors: Sequence[object], group: ProcessGroup | None) -> tuple[bool, ...]:
    """Whether this process is the one that counts what it holds of each tensor.

    Args:
        name: what the tensors are called in an error.
        tensors: DTensors, and any other objects, which count as replicas.
        group: the processes among which each element is to be counted once; None: this process is alone.

    Raises:
        ValueError: for a DTensor with a `Partial` placement (its elements are sums that nobody has made yet), or one
            over processes that are not all in the group.
    """
    first, members = _members(group)
    kind = _dtensor()
    if kind is None:
        return (first,) * len(tensors)
    known: dict[tuple[int, Any], bool] = {}  # a model has thousands of tensors and a handful of placements
    found = []
    for index, tensor in enumerate(tensors):
        if not isinstance(tensor, kind):
            found.append(first)
            continue
        spec = tensor._spec
        key = (id(spec.mesh), spec.placements)
        if key not in known:
            known[key] = _counts(f"{name}[{index}]", spec.mesh, spec.placements, members)
        found.append(known[key])
    return tuple(found)


def check_spread_alike(
    name: str, tensors: Sequence[Tensor | None], other_name: str, others: Sequence[Tensor | None]
) -> None:
    """Check that each tensor has the mesh and the placements of the other.

    Raises:
        ValueError: if one differs, so that the local shards do not hold the same elements.
    """
    if _dtensor() is None:
        return
    for index, (tensor, other) in enumerate(zip(tensors, others, strict=True)):
        if tensor is None or other is None:
            continue
        mine, theirs = getattr(tensor, "_spec", None), getattr(other, "_spec", None)
        if mine is theirs or not (is_distributed(tensor) or is_distributed(other)):
            continue
        if mine is None or theirs is None or (mine.placements, mine.mesh) != (theirs.placements, theirs.mesh):
            raise ValueError(
                f"{name}[{index}] must be spread over the processes as {other_name}[{index}] is, "
                f"{_described(other)}; got {_described(tensor)}"
            )


def _dtensor() -> Any:
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def _shard(tensor: Any) -> Tensor:
    shard: Any = tensor._local_tensor  # to_local() makes a view of every parameter, and an autograd node with it
    wait = getattr(shard, "wait", None)  # of a collective that is still under way
    return shard if wait is None else wait()  # type: ignore[no-any-return]


def _members(group: ProcessGroup | None) -> tuple[bool, frozenset[int] | None]:
    """Whether this process is the first of the group, and the global ranks of all of its processes."""
    if group is None:
        return True, None
    import torch.distributed as dist

    return dist.get_rank(group) == 0, frozenset(dist.get_process_group_ranks(group))


def _counts(label: str, mesh: Any, placements: tuple[Any, ...], members: frozenset[int] | None) -> bool:
    for placement in placements:
        if placement.is_partial():
            raise ValueError(
                f"{label} must have Shard and Replicate placements only; got {placements}: "
                "redistribute it (its sum over the processes has not been made yet)"
            )
    if members is None:
        if mesh.size() > 1:
            raise ValueError(
                f"{label} is a DTensor over {mesh.size()} processes: process_group must hold them all; got None"
            )
        return True
    ranks = mesh.mesh.flatten().tolist()
    if not members.issuperset(ranks):
        raise ValueError(
            f"{label} is a DTensor over the processes {ranks}: process_group must hold them all; got {sorted(members)}"
        )
    coordinate = mesh.get_coordinate()
    if coordinate is None:  # a process outside the mesh holds nothing
        return False
    replica = any(
        placement.is_replicate() and position for placement, position in zip(placements, coordinate, strict=True)
    )
    # Of a mesh that is a slice, all slices of the larger one hold the same; the one with its first process counts.
    first = next(rank for rank in mesh._get_root_mesh().mesh.flatten().tolist() if rank in members)
    return not replica and first in ranks


def _described(tensor: Any) -> str:
    return f"{tensor.placements} on {tensor.device_mesh}" if is_distributed(tensor) else "on each process as a whole"
