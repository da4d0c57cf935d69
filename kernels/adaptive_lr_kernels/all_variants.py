"""Compiles every variant of the kernels ahead of time, and says in a table what came out.

`make all-variants` runs it on all of them, in an order that is drawn anew from `--seed`; `--most` takes the first so
many of that order. The exit status is not 0 where a variant falls short: it spills, it takes more registers than it is
given, or its main loop has a load of less than 128 bits although alignment is known.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import triton

from adaptive_lr_kernels.ahead_of_time import Facts, facts_of
from adaptive_lr_kernels.chunk_kernel import measure_chunks
from adaptive_lr_kernels.plan import MOST_REGISTERS, MOST_REGISTERS_MIXED
from adaptive_lr_kernels.variants import Variant, every


@cache
def variants() -> tuple[Variant, ...]:
    """All of them, in the order of `every`."""
    return tuple(every())


def falls_short(variant: Variant, facts: Facts) -> bool:
    """Whether a variant spills, takes too many registers, or loads less than 128 bits at a time where it must not."""
    narrow = variant.loads is not None and not facts.is_wide(variant.loads)
    return facts.spills > 0 or facts.registers > (variant.most_registers or MOST_REGISTERS) or narrow


def family(variant: Variant) -> str:
    """The row of the table that a variant is counted in."""
    name: str = variant.kernel.fn.__name__
    if variant.kernel is measure_chunks:
        streams = sum(variant.constants[stream] is not None for stream in ("G", "P", "M"))
        mixed = ", 16 bits beside float64" if variant.most_registers == MOST_REGISTERS_MIXED else ""
        name += f", {streams} stream{'s' * (streams > 1)}{mixed}"
    aligned = variant.constants.get("ALIGNED")
    return name if aligned is None else name + (", aligned" if aligned else ", unaligned")


@dataclass(slots=True)
class Found:
    """What came out for one family."""

    compiled: int = 0
    registers: int = 0
    spilling: int = 0
    wide: int = 0
    short: list[str] = field(default_factory=list)

    def add(self, variant: Variant, facts: Facts) -> None:
        """Count one more variant."""
        self.compiled += 1
        self.registers = max(self.registers, facts.registers)
        self.spilling += facts.spills > 0
        self.wide += variant.loads is not None and facts.is_wide(variant.loads)
        if falls_short(variant, facts):
            self.short.append(f"{variant.name}: {facts.registers} registers, {facts.spills} spills")


def report(found: dict[str, Found], capability: int, seed: int) -> str:
    """The table."""
    totals = Counter(map(family, variants()))
    compiled = sum(row.compiled for row in found.values())
    drawn = "" if compiled == len(variants()) else f", drawn with seed {seed}"
    lines = [
        "# What the compiler makes of every variant",
        "",
        f"Triton {triton.__version__}, compute capability {capability / 10}: {compiled:,} of {len(variants()):,} "
        f"variants{drawn} (`make all-variants`). A spill is an instruction that reads or writes local memory. Wide: "
        "all loads of the main loop are of 128 bits.",
        "",
        "| kernel | variants | compiled | most registers | with spills | wide |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, total in totals.items():
        row = found.get(name, Found())
        wide = f"{row.wide:,}" if name.endswith(", aligned") else "-"
        lines.append(f"| {name} | {total:,} | {row.compiled:,} | {row.registers} | {row.spilling} | {wide} |")
    short = [line for row in found.values() for line in row.short]
    lines += ["", "None falls short." if not short else "These fall short:", *(f"* {line}" for line in short)]
    return "\n".join(lines) + "\n"


def facts_at(index: int, capability: int) -> tuple[int, Facts]:
    """Compile the variant at `index`."""
    return index, facts_of(variants()[index], capability)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile, and write the table after every hundred."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, required=True, help="where the table is written")
    parser.add_argument("--capability", type=int, default=90, help="compute capability, 90 for 9.0")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--most", type=int, default=len(variants()), help="how many to compile")
    given = parser.parse_args(arguments)
    order = random.Random(given.seed).sample(range(len(variants())), len(variants()))[: given.most]  # noqa: S311
    found: dict[str, Found] = {}
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        results = pool.imap_unordered(partial(facts_at, capability=given.capability), order)
        for number, (index, facts) in enumerate(results, 1):
            variant = variants()[index]
            found.setdefault(family(variant), Found()).add(variant, facts)
            if number % 100 == 0 or number == len(order):
                given.report.write_text(report(found, given.capability, given.seed))
                print(f"{number} of {len(order)}", flush=True)
    if any(row.short for row in found.values()):
        raise SystemExit(f"some variants fall short: see {given.report}")


if __name__ == "__main__":
    main()
