"""Several processes that train one model decide as one: what they agree on, and when.

Every process of the group runs the same laws on the same rows, so it comes to the same decisions; nothing is sent
around but the numbers of which the rows are made::

    AdaptiveLR(optimizer)     once: are the processes alike, and what is measured for any of their traces
    optimizer.step()          one all-gather: gradient statistics (`adaptive_lr_kernels.measure`)
                              one more while the update-to-weight ratio of DTensors is watched, or sampled
    control.step(loss)        one all-gather: the mean of each metric
"""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from adaptive_lr.statistics import MEASURED_STATISTICS, UPDATE_STATISTICS, Statistics
from adaptive_lr_kernels import collective, measure, shards, upload

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

SLOTS = 16
"""Values that `agree` sends are padded to a multiple of this, so that processes with different metrics notice."""


UNLIKE = "all ranks of process_group must call step and observe together, with metrics of the same names"

Value = float | Tensor
"""A number, or a 0-d tensor, which is not read."""


class Wanted(NamedTuple):
    """What is measured: the union over the processes, as often only one of them writes a trace."""

    requires: frozenset[str]
    per_group: bool
    ratio: bool
    tensors_every: int  # updates between two of which the ratio of every tensor is wanted; 0: none

    def union(self, other: Wanted) -> Wanted:
        """What either wants; of two intervals the shorter."""
        intervals = [every for every in (self.tensors_every, other.tensors_every) if every]
        return Wanted(
            self.requires | other.requires,
            self.per_group or other.per_group,
            self.ratio or other.ratio,
            min(intervals, default=0),
        )


class Exchange(NamedTuple):
    """What `Ranks.exchange` found, on the device of the parameters."""

    alike: Tensor  # bool, 0-d: whether all processes sent the same mark and the same names
    means: Tensor  # [num_means], in the order of their names
    largest: Tensor  # [num_largest]; NaN wins


class Ranks:
    """The processes that decide together.

    Args:
        group: their process group, of more than one process.
        device: where the parameters are, and the values that are exchanged.
    """

    def __init__(self, group: ProcessGroup, device: torch.device) -> None:
        self.group = group
        self._device = device

    @classmethod
    def of(cls, process_group: ProcessGroup | Literal["auto"] | None, parameters: Iterable[Tensor]) -> Ranks | None:
        """The processes of a group, or None where this one decides alone.

        Args:
            process_group: a group; "auto": the default group, if there is one; None: no group.
            parameters: those under control.

        Raises:
            TypeError: `process_group` is something else.
            ValueError: this process is not in the group; a parameter is a DTensor over processes that are not all in
                it, or a shard of the first FSDP (`FullyShardedDataParallel`).
        """
        parameters = list(parameters)
        group = _group(process_group)
        shards.counted("parameters", parameters, group)
        if group is None:
            return None
        if any(getattr(parameter, "_fsdp_flattened", False) for parameter in parameters):
            raise ValueError(
                "process_group cannot be used with FullyShardedDataParallel, whose shards look like whole tensors; "
                "shard the model with torch.distributed.fsdp.fully_shard, or give process_group=None and a loss that "
                "was reduced over the processes"
            )
        device = shards.local(parameters[0]).device if parameters else torch.device("cpu")
        return cls(group, device)

    def join(self, terms: Mapping[str, object], parameters: Iterable[Tensor], wanted: Wanted) -> Wanted:
        """Meet the other processes, once, at attachment.

        Args:
            terms: what must be the same on all of them, by name; anything that compares and pickles.
            parameters: those under control; their shapes must be the same on all processes.
            wanted: what this process wants measured.

        Returns:
            What any process wants measured.

        Warns:
            UserWarning: ordinary parameters are not replicas.

        Raises:
            ValueError: a term differs.
        """
        import torch.distributed as dist

        parameters = list(parameters)
        shapes = repr([tuple(parameter.shape) for parameter in parameters])
        mine = {**terms, "the shapes of the parameters": hashlib.sha256(shapes.encode()).hexdigest()}
        everyone: list[Any] = [None] * dist.get_world_size(self.group)
        dist.all_gather_object(everyone, (mine, wanted, _size(parameters)), group=self.group)
        first, united, size = everyone[0]
        for rank, (theirs, others, _) in enumerate(everyone):
            differing = [name for name, value in theirs.items() if value != first.get(name)]
            if differing:
                raise ValueError(
                    f"all ranks of process_group must attach alike; rank {rank} differs from rank 0 in "
                    f"{', '.join(differing)}"
                )
            united = united.union(others)
        for rank, (_, _, other) in enumerate(everyone):
            if abs(other - size) > 1e-5 * abs(size):
                warnings.warn(
                    "ordinary parameters are taken to be replicas, alike on all ranks of process_group, but their norm "
                    f"is {size:g} on rank 0 and {other:g} on rank {rank}. If they stay different (models of their own, "
                    "or shards that are no DTensors), give process_group=None: of replicas only rank 0's count",
                    UserWarning,
                    stacklevel=4,
                )
                break
        return united  # type: ignore[no-any-return]

    def exchange(self, mark: tuple[object, ...], means: Mapping[str, Value], largest: Mapping[str, Value]) -> Exchange:
        """Send values once, and combine those of all processes; nothing is read on the host.

        Args:
            mark: what must be the same on all processes now.
            means: values of which the mean over the processes is wanted; the same names everywhere.
            largest: values of which the largest is wanted; the same names everywhere.
        """
        known = zlib.crc32(repr((mark, list(means), list(largest))).encode())
        values: list[Value] = [float(known), *means.values(), *largest.values()]
        values += [0.0] * (-len(values) % SLOTS)
        received = collective.all_gather(self._vector(values), self.group)
        end = 1 + len(means)
        return Exchange(
            alike=(received[:, 0] == known).all(),
            means=received[:, 1:end].mean(0),
            largest=received[:, end : end + len(largest)].amax(0),
        )

    def agree(self, row: Statistics) -> Statistics:
        """The row that all processes go on with: the mean of each metric over them, whatever is not finite included.

        The gradient statistics in it are those of all processes already. What is known after an update (its ratio to
        the weights, its base learning rate) is the largest of any process.

        Raises:
            ValueError: the processes are at different steps or have metrics of different names; on all of them.
        """
        metrics = {name: row.values[name] for name in sorted(row.values.keys() - MEASURED_STATISTICS)}
        update = {name: row.values[name] for name in UPDATE_STATISTICS if name in row.values}
        found = self.exchange((row.step, str(row.phase), row.updated), metrics, update)
        if not bool(found.alike):
            raise ValueError(f"{UNLIKE}; this one is at step {row.step} with {list(metrics)}")
        agreed = dict(zip((*metrics, *update), (*found.means.tolist(), *found.largest.tolist()), strict=True))
        return dataclasses.replace(row, values={name: agreed.get(name, value) for name, value in row.values.items()})

    def _vector(self, values: list[Value]) -> Tensor:
        known = [0.0 if isinstance(value, Tensor) else value for value in values]
        vector = upload.vector(known, self._device)
        for index, value in enumerate(values):
            if isinstance(value, Tensor):
                vector[index] = value.detach().to(self._device, non_blocking=True)
        return vector


def _size(parameters: Iterable[Tensor]) -> float:
    """The norm of the ordinary parameters, which are replicas if they are what they are taken for."""
    ordinary = [
        parameter.detach()
        for parameter in parameters
        if parameter.is_floating_point() and parameter.element_size() > 1
        if not parameter.is_meta and not shards.is_distributed(parameter)
    ]
    return float(measure(ordinary, statistics=("grad_norm",)).overall["grad_norm"])


def _group(process_group: Any) -> ProcessGroup | None:
    dist = torch.distributed
    if process_group is None or not dist.is_available():
        return None
    if isinstance(process_group, str):
        if process_group != "auto":
            raise ValueError(f'process_group must be "auto", a ProcessGroup or None, got {process_group!r}')
        group = dist.group.WORLD if dist.is_initialized() else None
    elif process_group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError("process_group must hold this process, got a group that it is not a member of")
    elif isinstance(process_group, dist.ProcessGroup):
        group = process_group
    else:
        raise TypeError(f'process_group must be "auto", a ProcessGroup or None, got {type(process_group).__name__}')
    return None if group is None or dist.get_world_size(group) == 1 else group
