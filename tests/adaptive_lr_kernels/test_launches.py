"""What the host asks of Triton's compiler and launcher, up to the launch itself, without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from adaptive_lr.scores import NORM_LAW
from adaptive_lr_kernels import plans
from adaptive_lr_kernels.fused_reflex import judge_fused
from adaptive_lr_kernels.measurer import Measurer
from adaptive_lr_kernels.reflex import Past, ReflexSettings
from adaptive_lr_kernels.scaling import GradientScaling


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str]]:
    """Kernel, number of programs and hash of the compiled variant of each launch; nothing is run."""
    launched: list[tuple[str, int, str]] = []
    driver = SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", 90, 32),
        get_active_torch_device=lambda: torch.device("cpu"),
    )

    def compiled(kernel: JITFunction, grid: tuple[int, ...]) -> Callable[..., object]:
        def launch(*args: object, **kwargs: object) -> object:
            made = kernel.run(*args, grid=grid, warmup=True, **kwargs)
            launched.append((kernel.fn.__name__, grid[0], made.hash))
            return made

        return launch

    monkeypatch.setattr(JITFunction, "__getitem__", compiled)
    monkeypatch.setattr(plans, "INTERPRETED", True)  # lets tensors on the CPU through
    monkeypatch.setattr(triton.runtime.driver, "_active", driver)
    return launched


def names(launches: list[tuple[str, int, str]]) -> list[str]:
    return [name for name, _, _ in launches]


def test_a_measurement_is_three_launches(launches: list[tuple[str, int, str]]) -> None:
    """For any number of tensors of one kind; chunks, then tensors, then groups and the overall."""
    tensors = [torch.zeros(size) for size in (3, 5000, 70)] * 10
    Measurer(groups=[0, 1, 2] * 10).measure(tensors, tensors, tensors)
    assert [(name, programs) for name, programs, _ in launches] == [
        ("measure_chunks", 10 * (1 + 2 + 1)),
        ("merge_parts", 30),
        ("merge_parts", 4),
    ]


def test_other_sizes_and_addresses_compile_nothing_anew(launches: list[tuple[str, int, str]]) -> None:
    """One tensor or sixteen, one chunk or many: numbers are arguments that Triton does not specialise on."""
    measurer = Measurer(("grad_norm", "nonfinite"))
    room = torch.zeros(100_000)
    for sizes in ((1,), (16,), (3, 50_000), (16,) * 16, (7,) * 33):
        gradients, at = [], 0
        for size in sizes:
            gradients.append(room[at : at + size])
            at += -(-size // 16) * 16
        measurer.measure(gradients)
    assert len({made for name, _, made in launches if name == "measure_chunks"}) == 1
    assert len({made for name, _, made in launches if name == "merge_parts"}) == 2


def test_every_combination_of_dtypes_and_alignment_is_a_launch(launches: list[tuple[str, int, str]]) -> None:
    room = torch.zeros(64)
    half = torch.zeros(64, dtype=torch.bfloat16)
    Measurer(("grad_norm",)).measure([room[:16], half[:16], room[1:17], half[16:32], None, room[:0]])
    assert names(launches) == ["measure_chunks"] * 3 + ["merge_parts"] * 2
    assert len({made for _, _, made in launches}) == 5


def test_the_reflex_and_the_scaling_compile_from_what_the_host_gives(launches: list[tuple[str, int, str]]) -> None:
    law = ReflexSettings(4.0, 6.0, None, NORM_LAW)
    judged = judge_fused(Past.empty("cpu"), torch.zeros(3, dtype=torch.float64)[1], law, grad_scale=torch.ones(()))
    GradientScaling().scale([torch.zeros(5), torch.zeros(5, dtype=torch.float16)], judged.damp, judged.skip)
    assert names(launches) == ["judge_norm", "scale_chunks", "scale_chunks"]


def test_few_chunks_are_merged_by_one_warp_and_many_by_a_wide_program() -> None:
    from adaptive_lr_kernels.plan import is_narrow

    assert is_narrow(1, 1)
    assert is_narrow(172, 32)
    assert not is_narrow(172, 72)  # GPT-2's blocks: all tensors fit at a time
    assert not is_narrow(1, 15_000)
    assert is_narrow(10_000, 1_000)


def test_the_number_of_chunks_decides_how_they_are_merged_and_not_how_the_tensors_are(
    launches: list[tuple[str, int, str]],
) -> None:
    Measurer(("grad_norm",)).measure([torch.zeros(3)])
    Measurer(("grad_norm",)).measure([torch.zeros(33 * 2**12)])
    narrow, first, wide, second = (key for name, _, key in launches if name == "merge_parts")
    assert narrow != wide
    assert first == second
