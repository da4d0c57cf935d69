"""The specialisations of the kernels that there are, as far as a compiler needs to know them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from adaptive_lr_kernels.chunk_kernel import measure_chunks
from adaptive_lr_kernels.inputs import STATISTICS
from adaptive_lr_kernels.part_kernel import merge_parts
from adaptive_lr_kernels.plan import (
    CHUNK_WARPS,
    DTYPES,
    MERGE_WARPS,
    MERGE_WIDTH,
    NARROW_WARPS,
    NARROW_WIDTH,
    variant_of,
)
from adaptive_lr_kernels.reflex_kernel import BLOCK, JUDGE_WARPS, WARPS, judge_norm, score_one
from adaptive_lr_kernels.scaling import scale_chunks
from adaptive_lr_kernels.tables import Reads


@dataclass(frozen=True, slots=True)
class Variant:
    """One specialisation of a kernel.

    Attributes:
        name: for the reader.
        kernel: the function.
        constants: its compile-time arguments.
        num_warps: of a program.
        most_registers: of a thread; None where the compiler decides.
        loads: 128-bit loads that one turn of the main loop must make; None where there is nothing to demand.
    """

    name: str
    kernel: Any
    constants: dict[str, Any] = field(hash=False)
    num_warps: int
    most_registers: int | None
    loads: int | None


def measuring(
    name: str,
    dtypes: Sequence[torch.dtype | None],
    *,
    largest: bool = True,
    moments: bool = True,
    nonfinite: bool = True,
    dot: bool = True,
    aligned: bool = True,
) -> Variant:
    """A specialisation of `measure_chunks` for these dtypes of gradient, parameter and momentum."""
    shape = variant_of(dtypes)
    gradient, parameter, momentum = (None if dtype is None else DTYPES[dtype] for dtype in dtypes)
    constants = {
        "G": gradient,
        "P": parameter,
        "M": momentum,
        "LARGEST_READ": largest,
        "MOMENTS_READ": moments,
        "NONFINITE_READ": nonfinite,
        "DOT_READ": dot and momentum is not None,
        "ALIGNED": aligned,
        "WIDTH": shape.width,
        "UNROLL": shape.unroll,
    }
    bytes_per_turn = shape.width * shape.unroll * sum(dtype.itemsize for dtype in dtypes if dtype is not None)
    loads = bytes_per_turn // (32 * CHUNK_WARPS * 16) if aligned else None
    label = ", ".join("-" if dtype is None else str(dtype).removeprefix("torch.") for dtype in dtypes)
    name = f"{name} ({label})" + ("" if aligned else ", unaligned")
    return Variant(name, measure_chunks, constants, CHUNK_WARPS, shape.most_registers, loads)


def scaling(dtype: torch.dtype, *, aligned: bool = True) -> Variant:
    """A specialisation of `scale_chunks`."""
    shape = variant_of((dtype,))
    constants = {"DTYPE": DTYPES[dtype], "ALIGNED": aligned, "WIDTH": shape.width, "UNROLL": shape.unroll}
    name = f"scale ({str(dtype).removeprefix('torch.')})" + ("" if aligned else ", unaligned")
    return Variant(name, scale_chunks, constants, CHUNK_WARPS, None, shape.unroll if aligned else None)


ALL = Reads.of(STATISTICS)


def merging(*, members: bool, narrow: bool = False, reads: Reads = ALL) -> Variant:
    """`merge_parts` with what is read."""
    constants: dict[str, Any] = {"MEMBERS": members, "WIDTH": NARROW_WIDTH if narrow else MERGE_WIDTH}
    constants |= {"G_READ": reads.gradient, "P_READ": reads.parameter, "M_READ": reads.momentum}
    constants |= {"LARGEST_READ": reads.largest, "MOMENTS_READ": reads.moments, "NONFINITE_READ": reads.nonfinite}
    constants |= {"DOT_READ": reads.dot}
    name = ("merge tensors" if members else "merge few chunks" if narrow else "merge chunks") + (
        "" if reads == ALL else f" of {_named(reads)}"
    )
    return Variant(name, merge_parts, constants, NARROW_WARPS if narrow else MERGE_WARPS, None, None)


def _named(reads: Reads) -> str:
    parts = {
        "norm": reads.gradient, "largest": reads.largest, "moments": reads.moments, "nonfinite": reads.nonfinite,
        "parameter": reads.parameter, "momentum": reads.momentum, "alignment": reads.dot,
    }  # fmt: skip
    return "+".join(name for name, read in parts.items() if read)


def judging(*, clip: float | None, scaled: bool, acts: bool = True) -> Variant:
    """`judge_norm`; where it only scores, its thresholds are infinite."""
    damp_above, skip_above = (4.0, 6.0) if acts else (math.inf, math.inf)
    constants: dict[str, float | None] = {"DAMP_ABOVE": damp_above, "SKIP_ABOVE": skip_above, "CLIP": clip}
    constants |= {"WARMUP": 16, "SPREAD_FLOOR": 0.35, "BOUND": 2.0, "WITHIN": 0.9205, "LEAST_MEMORY": 8.0}
    constants |= {"LEVEL_MEMORY": 32.0, "LEVEL_SHARE": 12.0, "SCALE_MEMORY": 256.0, "SCALE_SHARE": 3.0}
    constants |= {"TREND": 0.015625, "ADOPT_AFTER": 16} | ({} if scaled else {"grad_scale": None})
    name = "judge" + ("" if acts else ", score alone") + (", clip" if clip else "") + (", scaled" if scaled else "")
    return Variant(name, judge_norm, constants, JUDGE_WARPS, None, None)


def scoring() -> Variant:
    """`score_one` for a window of 128."""
    constants = {"WINDOW": 128, "WARMUP": 16, "RELATIVE_FLOOR": 0.01, "WIDTH": 128, "BLOCK": BLOCK}
    return Variant("score", score_one, constants, WARPS, None, None)


def usual() -> Iterator[Variant]:
    """The variants that training runs meet most."""
    half, single, double = torch.bfloat16, torch.float32, torch.float64
    for dtype in (half, torch.float16, single, double):
        yield measuring("all five of the gradient", (dtype, None, None))
    for dtype in (half, single):
        yield measuring("norm", (dtype, None, None), largest=False, moments=False, nonfinite=False)
        yield measuring("norm and non-finite count", (dtype, None, None), largest=False, moments=False)
    yield measuring("everything", (single, single, single))
    yield measuring("everything", (half, half, half))
    yield measuring("everything", (half, half, single))
    yield measuring("all five of the gradient", (half, None, None), aligned=False)
    yield measuring("everything", (single, single, single), aligned=False)
    yield merging(members=False)
    yield merging(members=False, narrow=True)
    yield merging(members=True)
    yield scaling(half)
    yield scaling(single)
    yield judging(clip=1.0, scaled=True)
    yield scoring()


def every_reads() -> Iterator[Reads]:
    """Every set of what a measurement can read."""
    for gradient, largest, moments, nonfinite, parameter, momentum, dot in itertools.product((True, False), repeat=7):
        of_gradient = largest or moments or nonfinite or dot
        if (gradient or not of_gradient) and (momentum or not dot) and (gradient or parameter or momentum):
            yield Reads(gradient, largest, moments, nonfinite, parameter, momentum, dot)


def every() -> Iterator[Variant]:
    """Every combination of dtypes, alignment and statistics that can be launched."""
    dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    for reads in every_reads():
        streams = (dtypes if read else (None,) for read in (reads.gradient, reads.parameter, reads.momentum))
        for stream_dtypes, aligned in itertools.product(itertools.product(*streams), (True, False)):
            yield measuring(
                _named(reads), stream_dtypes, largest=reads.largest, moments=reads.moments,
                nonfinite=reads.nonfinite, dot=reads.dot, aligned=aligned,
            )  # fmt: skip
        yield merging(members=False, reads=reads)
        yield merging(members=False, narrow=True, reads=reads)
        yield merging(members=True, reads=reads)
    for dtype, aligned in itertools.product(dtypes, (True, False)):
        yield scaling(dtype, aligned=aligned)
    for clip, scaled, acts in itertools.product((None, 1.0), (False, True), (False, True)):
        if acts or clip is None:
            yield judging(clip=clip, scaled=scaled, acts=acts)
    yield scoring()
