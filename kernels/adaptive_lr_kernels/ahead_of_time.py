"""What the compiler makes of the kernels, on a machine without a GPU: registers, spills, width of the loads.

`python -m adaptive_lr_kernels.ahead_of_time` prints it as a table; `--all` for every combination of dtypes.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from adaptive_lr_kernels.chunk_kernel import measure_chunks
from adaptive_lr_kernels.fused_reflex import BLOCK, WARPS, judge_norm, score_one
from adaptive_lr_kernels.part_kernel import merge_parts
from adaptive_lr_kernels.plan import CHUNK_WARPS, DTYPES, FP_FUSION, MERGE_WARPS, MERGE_WIDTH, variant_of
from adaptive_lr_kernels.scaling import scale_chunks

_POINTERS = {
    "addresses": "*i64",
    "numels": "*i64",
    "entry_chunks": "*i32",
    "chunk_entries": "*i32",
    "partials": "*fp64",
    "parts": "*fp64",
    "segments": "*i64",
    "members": "*i32",
    "sums": "*fp64",
    "values": "*fp64",
    "nonfinite": "*i64",
    "damp": "*fp64",
    "skip": "*fp32",
    "entered": "*i64",
    "value": "*fp64",
    "norm": "*fp64",
    "grad_scale": "*fp32",
    "row": "*fp64",
    "skip_flag": "*fp32",
}
"""Types of the pointers that kernels take; their other arguments are 32-bit integers."""

_SCALARS = (
    "damp",
    "skip",
    "entered",
    "norm",
    "value",
    "grad_scale",
    "row",
    "skip_flag",
)  # may be anywhere in a larger tensor

_WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}


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


@dataclass(frozen=True, slots=True)
class Facts:
    """What was compiled.

    Attributes:
        registers: of a thread.
        spills: instructions that read or write local memory.
        shared: bytes of shared memory.
        loop_loads: bits of each global load in the first loop.
    """

    registers: int
    spills: int
    shared: int
    loop_loads: tuple[int, ...]

    def is_wide(self, loads: int) -> bool:
        """Whether the loop makes `loads` loads of 128 bits and no others; or so for several turns, unrolled."""
        return set(self.loop_loads) == {128} and len(self.loop_loads) % loads == 0


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


def compiled(variant: Variant, capability: int) -> Any:
    """What Triton compiles for an NVIDIA GPU of this compute capability (90 for 9.0)."""
    names = variant.kernel.arg_names
    signature = {name: "constexpr" if name in variant.constants else _POINTERS.get(name, "i32") for name in names}
    attributes = {
        (position,): [["tt.divisibility", 16]]
        for position, name in enumerate(names)
        if signature[name].startswith("*") and name not in _SCALARS
    }
    source = ASTSource(variant.kernel, signature, variant.constants, attributes)
    options = {"num_warps": variant.num_warps, "enable_fp_fusion": FP_FUSION}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def facts_of(variant: Variant, capability: int) -> Facts:
    """Compile, and look at the machine code."""
    kernel = compiled(variant, capability)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _run(triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name)
        assembly = _run(triton.knobs.nvidia.nvdisasm.path, "-c", file.name)
    registers = re.search(r"REG:(\d+)", usage)
    assert registers is not None, usage
    return Facts(
        registers=int(registers[1]),
        spills=len(re.findall(r"\b(?:LDL|STL)\b", assembly)),
        shared=int(kernel.metadata.shared),
        loop_loads=_loop_loads(assembly),
    )


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - Triton's own tools


def _loop_loads(assembly: str) -> tuple[int, ...]:
    """Bits of the global loads between the first label that is branched back to, and that branch."""
    lines = assembly.splitlines()
    labels = {match[1]: number for number, line in enumerate(lines) if (match := re.match(r"(\.L_x_\d+):", line))}
    loops = [
        (labels[match[1]], number)
        for number, line in enumerate(lines)
        if (match := re.search(r"BRA.*`\((\.L_x_\d+)\)", line)) and labels[match[1]] < number - 1
    ]
    if not loops:
        return ()
    first, last = min(loops)
    loads = re.findall(r"\bLDG((?:\.\w+)*)", "\n".join(lines[first:last]))
    return tuple(next((_WIDTHS[part] for part in load.split(".") if part in _WIDTHS), 32) for load in loads)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every combination of dtypes and alignment")
    parser.add_argument("--capability", type=int, nargs="+", default=[90], help="compute capabilities, 90 for 9.0")
    arguments = parser.parse_args()
    print(f"Triton {triton.__version__}\n")
    print("| variant | sm | registers | spills | shared bytes | 128-bit loads in the main loop | narrower |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    failures = 0
    for variant, capability in itertools.product(every() if arguments.all else usual(), arguments.capability):
        facts = facts_of(variant, capability)
        wide = facts.loop_loads.count(128)
        narrow = len(facts.loop_loads) - wide
        good = facts.spills == 0 and (variant.loads is None or facts.is_wide(variant.loads))
        failures += not good
        print(
            f"| {variant.name} | {capability} | {facts.registers} | {facts.spills} | {facts.shared} "
            f"| {wide} | {narrow} |" + ("" if good else " **falls short**"),
            flush=True,
        )
    if failures:
        raise SystemExit(f"{failures} variants fall short")


if __name__ == "__main__":
    main()
