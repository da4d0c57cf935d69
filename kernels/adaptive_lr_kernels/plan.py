"""The launches for one shape signature, and all the memory that they use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from adaptive_lr_kernels.chunk_kernel import PARTIALS, measure_chunks
from adaptive_lr_kernels.part_kernel import VALUES, merge_parts
from adaptive_lr_kernels.tables import ALIGNMENT, Launch, Reads, Tables

FP_FUSION = True
"""Products and sums may be contracted. Stated at every launch, since the default differs between versions of Triton."""

CHUNK_WARPS = 4
MERGE_WIDTH, MERGE_WARPS = 1024, 8
NARROW_WIDTH, NARROW_WARPS = 32, 1
"""Lanes and warps of a program that merges parts: of many, and of few where there are many such programs."""

RESIDENT = 256
"""Wide programs that a GPU of 132 multiprocessors holds at a time, two on each, where all statistics are merged; of
narrow ones it holds sixteen times as many."""

DTYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


MOST_REGISTERS, MOST_REGISTERS_MIXED = 128, 168
"""Of a thread that reads several streams; at least four programs stay resident, or three. The second is for streams of
16 bits beside float64, whose lanes are many and wide. Left to itself, the compiler aims at fewer than the first for
some 16-bit streams, and spills two."""


class Variant(NamedTuple):
    """Lanes of a program, rows of lanes that it reads at once, and a bound on the registers of a thread."""

    width: int
    unroll: int
    most_registers: int | None


def variant_of(dtypes: Sequence[torch.dtype | None]) -> Variant:
    """As many lanes as make 16-byte loads of the narrowest stream; four of these at once, from one stream."""
    read = [dtype for dtype in dtypes if dtype is not None]
    narrowest, widest = min(dtype.itemsize for dtype in read), max(dtype.itemsize for dtype in read)
    width = 32 * CHUNK_WARPS * ALIGNMENT // narrowest
    if len(read) == 1:
        return Variant(width, 4, None)
    if widest == 4 * narrowest:
        return Variant(width, 1, MOST_REGISTERS_MIXED)
    if narrowest == widest == torch.float32.itemsize:
        return Variant(width, 2, None)  # the usual ones, which need no bound: see the README
    return Variant(width, 2, MOST_REGISTERS)


def is_narrow(num_tensors: int, most_chunks: int) -> bool:
    """Whether chunks are merged by narrow programs.

    They are where the largest tensor takes one no more turns than it takes wide programs to get through all tensors.
    """
    return most_chunks <= NARROW_WIDTH * max(1, num_tensors // RESIDENT)


class Results(NamedTuple):
    """Tables of results: float64 [len(VALUES)][num_columns] and int64 [num_columns]."""

    values: Tensor
    nonfinite: Tensor


class Plan:
    """Buffers and launches for one set of tables.

    Args:
        tables: which program reads what.
        reads: what is asked for.
        keep: sets of results to write in turn; 0 for new ones at every launch.
    """

    def __init__(self, tables: Tables, reads: Reads, keep: int) -> None:
        device = tables.numels.device
        self.tables = tables
        self._reads = reads
        # What no launch writes, as the momentum of a tensor that has none, stays 0 for good.
        self._partials = torch.zeros((len(PARTIALS), tables.num_chunks), dtype=torch.float64, device=device)
        self._sums = torch.zeros((len(PARTIALS), tables.num_columns), dtype=torch.float64, device=device)
        self._results = [self._new_results() for _ in range(keep)]
        self._turn = 0

    def launch(self, addresses: Tensor) -> Results:
        """Measure what is at `addresses`, int64 [3][num_entries] on the device."""
        results = self._next_results()
        for launch in self.tables.launches:
            self._measure(addresses, launch)
        num_tensors = self.tables.num_tensors
        self._merge(self._partials, results, 0, num_tensors)
        self._merge(self._sums, results, num_tensors, self.tables.num_columns - num_tensors)
        return results

    def _next_results(self) -> Results:
        if not self._results:
            return self._new_results()
        self._turn = (self._turn + 1) % len(self._results)
        return self._results[self._turn]

    def _new_results(self) -> Results:
        device, num_columns = self._sums.device, self.tables.num_columns
        return Results(
            torch.empty((len(VALUES), num_columns), dtype=torch.float64, device=device),
            torch.empty(num_columns, dtype=torch.int64, device=device),
        )

    def _measure(self, addresses: Tensor, launch: Launch) -> None:
        tables, reads = self.tables, self._reads
        gradient, parameter, momentum = (None if dtype is None else DTYPES[dtype] for dtype in launch.dtypes)
        variant = variant_of(launch.dtypes)
        measure_chunks[(launch.num_chunks,)](
            addresses,
            tables.numels,
            tables.entry_chunks,
            tables.chunk_entries,
            self._partials,
            len(tables.numels),
            tables.num_chunks,
            launch.first_chunk,
            tables.chunk,
            G=gradient,
            P=parameter,
            M=momentum,
            LARGEST_READ=reads.largest,
            MOMENTS_READ=reads.moments,
            NONFINITE_READ=reads.nonfinite,
            DOT_READ=reads.dot and momentum is not None,
            ALIGNED=launch.aligned,
            WIDTH=variant.width,
            UNROLL=variant.unroll,
            num_warps=CHUNK_WARPS,
            maxnreg=variant.most_registers,
            enable_fp_fusion=FP_FUSION,
        )

    def _merge(self, parts: Tensor, results: Results, first_column: int, num_segments: int) -> None:
        if num_segments == 0:
            return
        tables, reads, members = self.tables, self._reads, parts is self._sums
        narrow = not members and is_narrow(num_segments, tables.most_chunks)
        merge_parts[(num_segments,)](
            parts,
            tables.segments,
            tables.members,
            self._sums,
            results.values,
            results.nonfinite,
            parts.shape[1],
            tables.num_columns,
            first_column,
            tables.chunk,
            MEMBERS=members,
            G_READ=reads.gradient,
            P_READ=reads.parameter,
            M_READ=reads.momentum,
            LARGEST_READ=reads.largest,
            MOMENTS_READ=reads.moments,
            NONFINITE_READ=reads.nonfinite,
            DOT_READ=reads.dot,
            WIDTH=NARROW_WIDTH if narrow else MERGE_WIDTH,
            num_warps=NARROW_WARPS if narrow else MERGE_WARPS,
            enable_fp_fusion=FP_FUSION,
        )
