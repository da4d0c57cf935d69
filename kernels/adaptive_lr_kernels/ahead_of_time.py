"""What the compiler makes of the kernels, on a machine without a GPU: registers, spills, width of the loads.

`python -m adaptive_lr_kernels.ahead_of_time` prints it as a table for the usual variants; `all_variants.py` counts all.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from adaptive_lr_kernels.plan import FP_FUSION
from adaptive_lr_kernels.variants import Variant, usual

_POINTERS = {
    "addresses": "*i64",
    "numels": "*i64",
    "entry_chunks": "*i32",
    "chunk_entries": "*i32",
    "partials": "*fp64",
    "parts": "*fp64",
    "past": "*fp64",
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
    options = {"num_warps": variant.num_warps, "enable_fp_fusion": FP_FUSION, "maxnreg": variant.most_registers}
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
    parser.add_argument("--capability", type=int, nargs="+", default=[90], help="compute capabilities, 90 for 9.0")
    arguments = parser.parse_args()
    print(f"Triton {triton.__version__}\n")
    print("| variant | sm | registers | spills | shared bytes | 128-bit loads in the main loop | narrower |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    failures = 0
    for variant, capability in itertools.product(usual(), arguments.capability):
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
