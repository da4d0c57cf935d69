"""What the compiler makes of the kernels for GPUs that are not here."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from adaptive_lr_kernels import ahead_of_time, all_variants, variants
from adaptive_lr_kernels.ahead_of_time import Facts, facts_of
from adaptive_lr_kernels.inputs import STATISTICS
from adaptive_lr_kernels.tables import Reads
from adaptive_lr_kernels.variants import Variant, judging, measuring, merging, scaling, scoring

HALF, SINGLE, DOUBLE = torch.bfloat16, torch.float32, torch.float64

WIDE = [
    (measuring("all five of the gradient", (HALF, None, None)), 90),
    (measuring("all five of the gradient", (HALF, None, None)), 80),
    (measuring("all five of the gradient", (SINGLE, None, None)), 90),
    (measuring("all five of the gradient", (SINGLE, None, None)), 100),
    (measuring("all five of the gradient", (DOUBLE, None, None)), 90),
    (measuring("norm", (SINGLE, None, None), largest=False, moments=False, nonfinite=False), 90),
    (measuring("everything", (SINGLE, SINGLE, SINGLE)), 90),
    (measuring("everything", (HALF, HALF, HALF)), 90),
    (measuring("everything", (HALF, HALF, SINGLE)), 90),
    (scaling(HALF), 90),
    (scaling(SINGLE), 90),
]
OTHERS = [
    measuring("all five of the gradient", (HALF, None, None), aligned=False),
    merging(members=False),
    merging(members=False, narrow=True),
    merging(members=True),
    judging(clip=1.0, scaled=True),
    judging(clip=None, scaled=False),
    judging(clip=None, scaled=False, acts=False),
    scoring(),
]


def test_the_interpreter_is_not_chosen() -> None:
    """It would leave nothing to compile."""
    assert hasattr(variants.measure_chunks, "cache_key")


@pytest.mark.parametrize(("variant", "capability"), WIDE, ids=[f"{v.name}-{c}" for v, c in WIDE])
def test_the_main_loop_loads_128_bits_at_a_time(variant: Variant, capability: int) -> None:
    """As many loads as the bytes of a turn need, none narrower; no register is spilled; two programs fit and more.

    A multiprocessor has 65,536 registers: at 128 per thread, 16 warps are resident, each with 2 to 4 KB under way.
    """
    facts = facts_of(variant, capability)
    assert facts.is_wide(variant.loads)
    assert facts.spills == 0
    assert facts.registers <= 128


@pytest.mark.parametrize("variant", OTHERS, ids=[variant.name for variant in OTHERS])
def test_no_register_is_spilled(variant: Variant) -> None:
    facts = facts_of(variant, 90)
    assert facts.spills == 0
    assert facts.registers <= 128


EVERY = all_variants.variants()
"""Compiled as a whole by `make all-variants`; the draw below has one of each family at least."""


def drawn() -> list[Variant]:
    families: dict[str, list[Variant]] = {}
    for variant in EVERY:
        families.setdefault(all_variants.family(variant), []).append(variant)
    generator = random.Random(0)
    return [generator.choice(members) for members in families.values()] + generator.sample(EVERY, 6)


SHORT_WITHOUT_A_BOUND = [
    measuring("everything", (torch.float16, torch.float16, None)),
    measuring("norm+moments+alignment", (HALF, None, SINGLE), largest=False, nonfinite=False),
    measuring("everything", (DOUBLE, torch.float16, DOUBLE)),
]
"""What the compiler spills if left to itself, or gives too many registers."""


@pytest.mark.parametrize("variant", [*SHORT_WITHOUT_A_BOUND, *drawn()], ids=lambda variant: variant.name)
def test_no_variant_of_a_draw_falls_short(variant: Variant) -> None:
    assert not all_variants.falls_short(variant, facts_of(variant, 90))


def test_every_set_of_statistics_is_among_all_variants() -> None:
    """What `measure` asks the kernels for, whatever the names: chunks and both merges."""
    reads = set(variants.every_reads())
    for number in range(1, len(STATISTICS) + 1):
        for names in itertools.combinations(STATISTICS, number):
            assert Reads.of(names) in reads
    norms = {"LARGEST_READ": False, "MOMENTS_READ": False, "NONFINITE_READ": False, "DOT_READ": False}
    ratio = measuring("", (SINGLE, SINGLE, None), largest=False, moments=False, nonfinite=False).constants
    assert ratio.items() >= norms.items()
    assert ratio in [variant.constants for variant in EVERY]
    merge = merging(members=True, reads=Reads.of(("grad_norm", "param_norm"))).constants
    assert merge in [variant.constants for variant in EVERY]
    assert judging(clip=None, scaled=False, acts=False).constants in [variant.constants for variant in EVERY]


def test_a_variant_that_spills_or_loads_narrowly_falls_short() -> None:
    """And makes the full run fail, whose table names it."""
    variant = measuring("norm", (SINGLE, None, None), largest=False, moments=False, nonfinite=False)
    good = Facts(registers=32, spills=0, shared=0, loop_loads=(128,) * 4)
    assert not all_variants.falls_short(variant, good)
    bad = [replace(good, spills=2), replace(good, registers=129), replace(good, loop_loads=(128, 128, 128, 32))]
    for facts in bad:
        assert all_variants.falls_short(variant, facts)
        found = all_variants.Found()
        found.add(variant, facts)
        assert variant.name in all_variants.report({all_variants.family(variant): found}, 90, 0)


def test_unaligned_elements_are_loaded_one_by_one() -> None:
    """What the wide variants are for; and a check that narrow loads would be seen."""
    facts = facts_of(measuring("norm", (SINGLE, None, None), aligned=False), 90)
    assert set(facts.loop_loads) == {32}
    assert not facts.is_wide(4)


def test_scaled_bfloat16_is_rounded_to_nearest() -> None:
    """The interpreter, which tests the values, cuts off instead."""
    assert "cvt.rn.bf16" in ahead_of_time.compiled(scaling(HALF), 90).asm["ptx"]


def test_every_turn_of_the_loop_is_accounted_for() -> None:
    """The number of loads that is demanded: 16 bytes for each of 128 threads."""
    assert measuring("", (HALF, HALF, SINGLE)).loads == 2 * 1024 * (2 + 2 + 4) // (128 * 16)
    assert len({variant.name for variant in variants.every()}) == len(list(variants.every()))
