"""Launch tables of the Triton backend: which program reads what. They depend on shapes, dtypes and alignment alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adaptive_lr_kernels.merge import Segments
from adaptive_lr_kernels.upload import uploaded

LEAST_CHUNK, MOST_CHUNK = 2**12, 2**16
"""Bounds of the elements of a chunk, powers of two. Smaller, the fixed cost shows; larger, lanes lose digits."""

PROGRAMS = 2**11
"""Chunks are as large as leaves at least this many: a GPU of 132 multiprocessors holds about half as many at a time."""

ALIGNMENT = 16
"""Bytes of the widest load."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What the kernels are compiled to read; what is not asked for costs nothing."""

    gradient: bool
    largest: bool
    moments: bool
    nonfinite: bool
    parameter: bool
    momentum: bool
    dot: bool

    @classmethod
    def of(cls, names: Collection[str]) -> Reads:
        """What the statistics `names` need."""
        moments = "grad_mean" in names or "grad_variance" in names
        return cls(
            gradient=moments or any(name in names for name in ("grad_norm", "grad_max", "nonfinite", "alignment")),
            largest="grad_max" in names,
            moments=moments,
            nonfinite="nonfinite" in names,
            parameter="param_norm" in names,
            momentum="momentum_norm" in names or "alignment" in names,
            dot="alignment" in names,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """The streams of one tensor, as reals in the order of storage.

    Attributes:
        index: of the tensor among the gradients.
        numel: reals to read from each stream.
        dtypes: of gradient, parameter and momentum in memory, as reals; None for what is not read.
    """

    index: int
    numel: int
    dtypes: tuple[torch.dtype | None, torch.dtype | None, torch.dtype | None]


@dataclass(frozen=True, slots=True)
class Launch:
    """Chunks that one compiled variant reads."""

    first_chunk: int
    num_chunks: int
    dtypes: tuple[torch.dtype | None, torch.dtype | None, torch.dtype | None]
    aligned: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables on the device, and the launches that use them.

    Attributes:
        order: indices of `entries` as the tables list them, launch by launch.
        launches: one per combination of dtypes and alignment.
        chunk: elements of a chunk.
        numels: int64 [num_entries].
        entry_chunks: int32 [num_entries], the first chunk of each.
        chunk_entries: int32 [num_chunks], the entry of each.
        segments: int64 [4][num_columns]: first part, number of parts, elements, elements stored in the parts. The
            columns are the tensors, whose parts are chunks, the groups and the overall, whose parts are tensors.
        members: int32, the tensors of the groups and of the overall.
        num_tensors: tensors, those without an entry included.
        most_chunks: chunks of the tensor that has most.
    """

    order: tuple[int, ...]
    launches: tuple[Launch, ...]
    chunk: int
    numels: Tensor
    entry_chunks: Tensor
    chunk_entries: Tensor
    segments: Tensor
    members: Tensor
    num_tensors: int
    most_chunks: int

    @property
    def num_chunks(self) -> int:
        """Chunks of all launches."""
        return len(self.chunk_entries)

    @property
    def num_columns(self) -> int:
        """Tensors, groups and the overall."""
        return self.segments.shape[1]


def tables_of(
    entries: Sequence[Entry], aligned: Sequence[bool], sizes: Sequence[int], groups: Segments, device: torch.device
) -> Tables:
    """The tables of one shape signature.

    Args:
        entries: the tensors that have anything to read.
        aligned: whether all streams of each entry start at a multiple of `ALIGNMENT` bytes.
        sizes: elements of every tensor as reals, those without an entry and zeros that are not stored included.
        groups: the tensors of each group.
        device: where the tables are to be.
    """
    keys = [(*map(str, entry.dtypes), not fits) for entry, fits in zip(entries, aligned, strict=True)]
    order = sorted(range(len(entries)), key=keys.__getitem__)
    listed = [entries[position] for position in order]
    numels = np.array([entry.numel for entry in listed], dtype=np.int64)
    chunk = chunk_size(int(numels.sum()))
    lengths = -(-numels // chunk)
    firsts = np.cumsum(lengths) - lengths

    launches: list[Launch] = []
    for position, entry, first, length in zip(order, listed, firsts.tolist(), lengths.tolist(), strict=True):
        last = launches[-1] if launches else None
        if last is not None and (last.dtypes, last.aligned) == (entry.dtypes, aligned[position]):
            launches[-1] = Launch(last.first_chunk, last.num_chunks + length, last.dtypes, last.aligned)
        else:
            launches.append(Launch(first, length, entry.dtypes, aligned[position]))

    indices = [entry.index for entry in listed]
    tensors = np.zeros((4, len(sizes)), dtype=np.int64)
    tensors[0, indices], tensors[1, indices], tensors[3, indices] = firsts, lengths, numels
    tensors[2] = sizes
    members, wholes = _wholes(tensors[2], groups)
    return Tables(
        order=tuple(order),
        launches=tuple(launches),
        chunk=chunk,
        numels=uploaded(torch.from_numpy(numels), device),
        entry_chunks=uploaded(torch.from_numpy(firsts.astype(np.int32)), device),
        chunk_entries=uploaded(torch.from_numpy(np.repeat(np.arange(len(listed), dtype=np.int32), lengths)), device),
        segments=uploaded(torch.from_numpy(np.concatenate([tensors, wholes], axis=1)), device),
        members=uploaded(torch.from_numpy(members), device),
        num_tensors=len(sizes),
        most_chunks=int(lengths.max(initial=0)),
    )


def chunk_size(numel: int) -> int:
    """Elements of a chunk where `numel` are to be read in all."""
    size = 1 << max(numel // PROGRAMS, 1).bit_length() - 1
    return min(max(size, LEAST_CHUNK), MOST_CHUNK)


def _wholes(sizes: NDArray[np.int64], groups: Segments) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Members and segments of the groups, and of the overall behind them."""
    everything = range(len(sizes))
    order = np.array([*(groups.order if groups.order is not None else everything), *everything], dtype=np.int32)
    lengths = np.array([*groups.sizes, len(sizes)], dtype=np.int64)
    firsts = np.cumsum(lengths) - lengths
    counts = [sizes[order[first : first + length]].sum() for first, length in zip(firsts, lengths, strict=True)]
    return order, np.array([firsts, lengths, counts, counts], dtype=np.int64)
