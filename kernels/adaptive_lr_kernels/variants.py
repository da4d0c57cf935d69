"""The specialisations of the kernels that there are, as far as a compiler needs to know them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from adaptive_lr_kernels.chunk_kernel import measure_chunks
from adaptive_lr_kernels.part_kernel import merge_parts
from adaptive_lr_kernels.plan import CHUNK_WARPS, DTYPES, MERGE_WARPS, MERGE_WIDTH, variant_of
from adaptive_lr_kernels.reflex_kernel import BLOCK, WARPS, judge_norm, score_one
from adaptive_lr_kernels.scaling import scale_chunks


@dataclass(frozen=True, slots=True)
class Variant:
    """One specialisation of a kernel.

    Attributes:
        name: for the reader.
        kernel: the function.
        constants: its compile-time arguments.
        num_warps: of a program.
        loads: 128-bit loads that one turn of the main loop must make; None where there is nothing to demand.
    """

    name: str
    kernel: Any
    constants: dict[str, Any] = field(hash=False)
    num_warps: int
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
    return Variant(
        f"{name} ({label})" + ("" if aligned else ", unaligned"), measure_chunks, constants, CHUNK_WARPS, loads
    )


def scaling(dtype: torch.dtype, *, aligned: bool = True) -> Variant:
    """A specialisation of `scale_chunks`."""
    shape = variant_of((dtype,))
    constants = {"DTYPE": DTYPES[dtype], "ALIGNED": aligned, "WIDTH": shape.width, "UNROLL": shape.unroll}
    name = f"scale ({str(dtype).removeprefix('torch.')})" + ("" if aligned else ", unaligned")
    return Variant(name, scale_chunks, constants, CHUNK_WARPS, shape.unroll if aligned else None)


def merging(*, members: bool) -> Variant:
    """`merge_parts` with all that it can read."""
    reads = ("G", "P", "M", "LARGEST", "MOMENTS", "NONFINITE", "DOT")
    constants = {"MEMBERS": members, "WIDTH": MERGE_WIDTH} | {f"{read}_READ": True for read in reads}
    return Variant("merge tensors" if members else "merge chunks", merge_parts, constants, MERGE_WARPS, None)


def judging(*, clip: float | None, scaled: bool, acts: bool = True) -> Variant:
    """`judge_norm` for a window of 128; where it only scores, its thresholds are infinite."""
    damp_above, skip_above = (4.0, 6.0) if acts else (math.inf, math.inf)
    constants: dict[str, float | None] = {"WINDOW": 128, "WARMUP": 16, "SPREAD_FLOOR": 0.25, "CLIP": clip}
    constants |= {"DAMP_ABOVE": damp_above, "SKIP_ABOVE": skip_above, "WIDTH": 128, "BLOCK": BLOCK} | (
        {} if scaled else {"grad_scale": None}
    )
    name = "judge" + ("" if acts else ", score alone") + (", clip" if clip else "") + (", scaled" if scaled else "")
    return Variant(name, judge_norm, constants, WARPS, None)


def scoring() -> Variant:
    """`score_one` for a window of 128."""
    constants = {"WINDOW": 128, "WARMUP": 16, "RELATIVE_FLOOR": 0.01, "WIDTH": 128, "BLOCK": BLOCK}
    return Variant("score", score_one, constants, WARPS, None)


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
    yield merging(members=True)
    yield scaling(half)
    yield scaling(single)
    yield judging(clip=1.0, scaled=True)
    yield scoring()


def every() -> Iterator[Variant]:
    """Every combination of dtypes and alignment, with all statistics and with few."""
    dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    optional = (None, *dtypes)
    for streams in itertools.product(optional, optional, optional):
        if any(streams):
            read = streams[0] is not None  # without gradients, only norms of the others are asked for
            for aligned in (True, False):
                yield measuring(
                    "everything", streams, largest=read, moments=read, nonfinite=read, dot=read, aligned=aligned
                )
    for dtype, aligned in itertools.product(dtypes, (True, False)):
        for flags in itertools.product((True, False), repeat=3):
            if not all(flags):
                label = "+".join(
                    name for name, flag in zip(("largest", "moments", "nonfinite"), flags, strict=True) if flag
                )
                largest, moments, nonfinite = flags
                yield measuring(
                    f"norm+{label}", (dtype, None, None),
                    largest=largest, moments=moments, nonfinite=nonfinite, aligned=aligned,
                )  # fmt: skip
        yield scaling(dtype, aligned=aligned)
    yield merging(members=False)
    yield merging(members=True)
    for clip, scaled in itertools.product((None, 1.0), (False, True)):
        yield judging(clip=clip, scaled=scaled)
    yield scoring()
