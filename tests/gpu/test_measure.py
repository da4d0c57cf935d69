"""The fused kernels on a GPU: right numbers, the same bits every time, and inside CUDA graphs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from adaptive_lr_kernels import Measurement, measure

SHAPES = [(1,), (7,), (0,), (129,), (64, 33), (1000, 257), (3, 5, 7, 11), (300_001,), (2**20 + 3,), (2048, 2048)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]

COUNTS = ("nonfinite",)
LEVELS = ("overall", "per_group", "per_tensor")


def tensors(device: torch.device, seed: int, dtypes: list[torch.dtype] = DTYPES) -> list[Tensor]:
    """Normal values in awkward shapes, layouts and dtypes."""
    generator = torch.Generator(device).manual_seed(seed)
    made = [
        torch.randn(shape, device=device, generator=generator).to(dtypes[index % len(dtypes)])
        for index, shape in enumerate(SHAPES)
    ]
    made[4] = made[4].t().contiguous().t()  # dense, in another order
    made[7] = torch.cat((made[7][:1], made[7]))[1:]  # at an odd offset
    return made


def wide(given: list[Tensor]) -> list[Tensor]:
    """The same values in float64, in which the reference makes no error that counts."""
    return [tensor.double() for tensor in given]


def assert_close(measured: Measurement, expected: Measurement) -> None:
    """Equal within the rounding of float32 squares added in lanes, 4e-6; counts exactly."""
    for level in LEVELS:
        ours, reference = getattr(measured, level), getattr(expected, level)
        assert list(ours) == list(reference)
        for name in reference:
            if name in COUNTS:
                assert torch.equal(ours[name], reference[name]), (level, name)
            else:
                # The mean of normal values is near 0: its error is in units of the deviation, which is 1.
                absolute = 1e-6 if name in ("grad_mean", "alignment") else 1e-12
                torch.testing.assert_close(ours[name], reference[name], rtol=1e-5, atol=absolute)


@pytest.mark.parametrize("dtypes", [[dtype] for dtype in DTYPES] + [DTYPES, [torch.float64]], ids=str)
def test_the_kernels_agree_with_the_reference(device: torch.device, dtypes: list[torch.dtype]) -> None:
    gradients, parameters, momenta = (tensors(device, seed, dtypes) for seed in range(3))
    groups = [index % 3 for index in range(len(gradients))]
    assert_close(
        measure(gradients, parameters=parameters, momenta=momenta, groups=groups, backend="triton"),
        measure(wide(gradients), parameters=wide(parameters), momenta=wide(momenta), groups=groups, backend="torch"),
    )


def test_auto_is_the_kernels_on_a_gpu(device: torch.device) -> None:
    gradients = tensors(device, 0)
    auto, fused = (measure(gradients, backend=backend) for backend in ("auto", "triton"))
    for name in fused.per_tensor:
        assert torch.equal(auto.per_tensor[name], fused.per_tensor[name])


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_planted_values_are_counted_and_not_hidden(device: torch.device, value: float) -> None:
    gradients = tensors(device, 1)
    planted = 0
    for gradient in gradients:
        if gradient.numel():
            gradient[(0,) * gradient.dim()] = gradient[(-1,) * gradient.dim()] = value
            planted += min(gradient.numel(), 2)
    measured = measure(gradients, backend="triton")
    assert int(measured.overall["nonfinite"]) == planted
    norm = float(measured.overall["grad_norm"])
    assert math.isnan(norm) if math.isnan(value) else norm == math.inf


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_elements_beyond_two_to_the_31_are_read(device: torch.device, dtype: torch.dtype) -> None:
    """All that is not 0 lies at the very end, where a 32-bit offset does not reach."""
    count, last = 2**31 + 4099, 1000
    if torch.cuda.mem_get_info(device)[0] < 2 * count * dtype.itemsize:
        pytest.skip("needs more free memory")
    gradient = torch.zeros(count, dtype=dtype, device=device)
    values = (1.0 + torch.randn(last, device=device)).to(dtype)  # of a sum that is far from 0
    values[-1] = -30.0
    gradient[-last:] = values
    exact = values.double()
    measured = measure([torch.ones(3, device=device, dtype=dtype), gradient], backend="triton").per_tensor
    assert float(measured["grad_norm"][1]) == pytest.approx(float(exact.norm()), rel=1e-6)
    assert float(measured["grad_max"][1]) == 30.0
    assert float(measured["grad_mean"][1]) == pytest.approx(float(exact.sum()) / count, rel=1e-5)
    assert float(measured["grad_variance"][1]) == pytest.approx(float(exact.square().sum()) / count, rel=1e-5)
    assert int(measured["nonfinite"][1]) == 0
    gradient[-1] = math.nan
    assert int(measure([gradient], statistics=("nonfinite",), backend="triton").overall["nonfinite"]) == 1


def test_fifty_reruns_give_the_same_bits(device: torch.device) -> None:
    gradients, parameters, momenta = (tensors(device, seed) for seed in range(3))
    groups = [index % 3 for index in range(len(gradients))]

    def bits() -> list[Tensor]:
        measured = measure(gradients, parameters=parameters, momenta=momenta, groups=groups, backend="triton")
        return [getattr(measured, level)[name].clone() for level in LEVELS for name in measured.overall]

    first = bits()
    for _ in range(50):
        for one, other in zip(first, bits(), strict=True):
            assert torch.equal(one, other)


def test_a_captured_measurement_follows_new_gradients(device: torch.device) -> None:
    from adaptive_lr_kernels.measurer import Measurer

    gradients = tensors(device, 0)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    measurer = Measurer()
    with torch.cuda.stream(stream):
        measurer.measure(gradients)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        measured = measurer.measure(gradients)
    for seed in range(1, 4):
        for gradient, values in zip(gradients, tensors(device, seed), strict=True):
            gradient.copy_((seed * values.float()).to(gradient.dtype))
        graph.replay()
        torch.cuda.synchronize(device)
        assert_close(measured, measure(wide(gradients), backend="torch"))
