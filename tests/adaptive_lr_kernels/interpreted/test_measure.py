"""The Triton backend against the definitions in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import gradient_truth
from adaptive_lr_kernels import STATISTICS, measure, tables
from adaptive_lr_kernels.plan import variant_of
from gradient_models import REAL, Model, laid_out, models, unions

DOUBLE = (torch.float64, torch.complex128)

TERMS = 16 + 3
"""Roundings behind a sum in lanes, at most: the product, the additions of a lane (chunks of 4096 in 256 lanes or more),
and the conversion to float64; all later additions are in float64."""


def assert_measured(found: dict[str, float], expected: dict[str, float], scale: float, unit: float) -> None:
    """Compare within rounding, `unit` being the unit roundoff of the lanes and e = TERMS * unit.

    Sums of squares are off by e relatively, norms by half of that; the mean by e times the root mean square `scale`
    of the elements; a cosine by e for its product and half for each norm. Where a variance is taken from a difference
    the squared mean is at most half the mean square, so that its error is at most 2 (1 + sqrt 2) e inside a chunk
    and, with the shifts of the chunks' means, twice that between them.
    """
    error = TERMS * unit
    for name, value in found.items():
        if name in ("nonfinite", "grad_max"):
            np.testing.assert_equal(value, expected[name], err_msg=name)
        elif name == "grad_mean":
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=error * scale, err_msg=name)
        elif name == "alignment":
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=2 * error, err_msg=name)
        else:
            np.testing.assert_allclose(value, expected[name], rtol=10 * error, err_msg=name)


def check(
    gradients: list[Tensor | None],
    parameters: list[Tensor],
    momenta: list[Tensor | None],
    groups: list[int] | None = None,
) -> None:
    """Every statistic of every tensor, group and the whole."""
    measured = measure(gradients, parameters=parameters, momenta=momenta, groups=groups, backend="triton")
    for found, chosen in unions(Model(gradients, parameters, momenta, groups), measured):
        dtypes = {tensor.dtype for tensors in chosen for tensor in tensors if tensor is not None}
        elements = torch.cat([torch.zeros(1, dtype=torch.float64), *map(gradient_truth.reals, chosen[0])])
        scale = float(elements[elements.isfinite()].square().mean().sqrt()) * 2
        unit = 2.0**-53 if dtypes and dtypes <= set(DOUBLE) else 2.0**-24
        assert_measured(found, gradient_truth.truth(*chosen), scale, unit)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(models(most=4), st.sampled_from([16, tables.LEAST_CHUNK]))
def test_agrees_with_the_definitions(model: Model, chunk: int) -> None:
    """Any mix of dtypes, shapes, layouts, groups, missing gradients and non-finite values; one chunk and many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "chunk_size", lambda numel: chunk)
        check(model.gradients, model.parameters, model.momenta, model.groups)


@pytest.mark.parametrize("dtype", REAL)
def test_sizes_around_every_boundary(dtype: torch.dtype) -> None:
    """Of the tail, the lanes, the rows and the chunk; at addresses that allow wide loads and at others."""
    width, unroll, _ = variant_of((dtype,))
    sizes = {1, 15, 16, 17, width - 1, width, width + 17, unroll * width + 1, tables.LEAST_CHUNK + 16}
    aligned = [torch.randn(size, dtype=torch.float64).to(dtype) for size in sorted(sizes)]
    gradients = [*aligned, *(laid_out(gradient, "offset") for gradient in aligned)]
    measured = measure(gradients, backend="triton")
    scale = 2.0
    unit = 2.0**-53 if dtype == torch.float64 else 2.0**-24
    for index, gradient in enumerate(gradients):
        found = {name: float(vector[index]) for name, vector in measured.per_tensor.items()}
        assert_measured(found, gradient_truth.truth([gradient], [None], [None]), scale, unit)
    assert torch.equal(measured.per_tensor["grad_max"][: len(aligned)], measured.per_tensor["grad_max"][len(aligned) :])


def test_dense_layouts_are_read_in_the_order_of_their_memory() -> None:
    """Channels-last and transposed tensors, with parameters and momenta in the same and in other orders."""
    image = torch.randn(2, 5, 3, 3).to(memory_format=torch.channels_last)
    matrix = torch.randn(7, 5).t()
    gradients = [image, image, matrix, matrix]
    momenta = [torch.randn_like(image), torch.randn(2, 5, 3, 3), torch.randn_like(matrix), torch.randn(5, 7)]
    check(gradients, [torch.randn(gradient.shape) for gradient in gradients], momenta, [0, 1, 0, 1])


@pytest.mark.parametrize("planted", [math.inf, -math.inf, math.nan])
def test_nonfinite_values_are_counted_wherever_they_are(planted: float) -> None:
    """In the first and the last element of a tensor and of a chunk, alone and among others, in every dtype."""
    gradients, counts = [], []
    for dtype in REAL:
        for places in ((0,), (-1,), (0, -1), (4095, 4096), (4096 + 15, -3)):
            gradient = torch.ones(4096 + 19, dtype=dtype)
            gradient[list(places)] = planted
            gradients.append(gradient)
            counts.append(len(places))
    measured = measure(gradients, backend="triton", statistics=("grad_norm", "grad_max", "nonfinite"))
    assert measured.per_tensor["nonfinite"].tolist() == counts
    assert int(measured.overall["nonfinite"]) == sum(counts)
    np.testing.assert_equal(measured.per_tensor["grad_max"].numpy(), abs(planted))
    np.testing.assert_equal(measured.per_tensor["grad_norm"].numpy(), abs(planted))


def test_one_statistic_alone_is_the_same_as_among_all() -> None:
    """Each is compiled without the others."""
    gradients = [torch.randn(33), torch.randn(40).bfloat16(), None, torch.tensor([1.0, math.nan])]
    beside = [torch.zeros(1) if g is None else torch.randn_like(g) for g in gradients]
    everything = measure(gradients, parameters=beside, momenta=beside, groups=[0, 1, 0, 1], backend="triton")
    for name in STATISTICS:
        alone = measure(
            gradients, parameters=beside, momenta=beside, groups=[0, 1, 0, 1], statistics=(name,), backend="triton"
        )
        for level in ("overall", "per_group", "per_tensor"):
            first, second = getattr(alone, level)[name], getattr(everything, level)[name]
            assert torch.equal(first.nan_to_num(7.0), second.nan_to_num(7.0)), (name, level)
        with pytest.raises(KeyError, match="was not measured"):
            alone.overall["grad_norm" if name != "grad_norm" else "grad_max"]


@pytest.mark.parametrize("ratio", [1e2, 1e5])
def test_variance_is_exact_where_the_mean_is_far_above_the_deviation(ratio: float) -> None:
    """Within 1e-9 of the two-pass variance, in one tensor and merged over several: those chunks are read again."""
    gradients = [(torch.randn(size, dtype=torch.float64) + ratio).float() for size in (1, 7, 1000, 4096 + 100)]
    measured = measure(gradients, groups=[0, 1, 1, 0], backend="triton")
    elements = [gradient.double().numpy() for gradient in gradients]
    np.testing.assert_allclose(measured.per_tensor["grad_variance"], list(map(np.var, elements)), rtol=1e-9)
    expected = [np.var(np.concatenate([elements[0], elements[3]])), np.var(np.concatenate([elements[1], elements[2]]))]
    np.testing.assert_allclose(measured.per_group["grad_variance"], expected, rtol=1e-9)
    assert float(measured.overall["grad_variance"]) == pytest.approx(np.var(np.concatenate(elements)), rel=1e-9)


def test_squares_that_leave_float32_do_what_is_documented() -> None:
    """Mean and variance survive; the norm is infinite where a square overflows, and nothing is counted for it."""
    gradients = [torch.randn(100) * magnitude for magnitude in (1e-30, 1e-22, 1e20)]
    measured = measure(gradients, backend="triton")
    expected = [np.var(gradient.double().numpy()) for gradient in gradients]
    np.testing.assert_allclose(measured.per_tensor["grad_variance"], expected, rtol=1e-9)
    assert measured.per_tensor["grad_norm"][2] == math.inf
    assert measured.per_tensor["nonfinite"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("gradients", [[], [None], [torch.zeros(0)], [None, torch.zeros(3, 0)]])
def test_no_elements_measure_zero(gradients: list[Tensor | None]) -> None:
    tensors = [torch.zeros(0) if gradient is None else gradient for gradient in gradients]
    measured = measure(gradients, parameters=tensors, momenta=tensors, backend="triton")
    assert {float(value) for value in measured.overall.values()} == {0.0}
    assert all(vector.tolist() == [0] for vector in measured.per_group.values())
    assert all(vector.tolist() == [0] * len(gradients) for vector in measured.per_tensor.values())


def test_groups_that_no_tensor_is_in_are_zero() -> None:
    measured = measure([torch.ones(4), torch.ones(9)], groups=[3, 1], backend="triton")
    assert measured.per_group["grad_norm"].tolist() == [0, 3, 0, 2]
    assert measured.per_group["grad_variance"].tolist() == [0, 0, 0, 0]


def test_sparse_gradients_are_read_as_if_dense() -> None:
    """From their values where nothing is read with them, else from a dense copy."""
    dense = [torch.where(torch.rand(20, 3) < 0.3, torch.randn(20, 3), 0.0), torch.randn(5)]
    sparse = [dense[0].to_sparse(), dense[1]]
    for beside in ({}, {"momenta": [torch.randn(20, 3).to_sparse(), torch.randn(5)]}):
        first, second = (measure(gradients, backend="triton", **beside) for gradients in (sparse, dense))
        for name in first.overall:
            torch.testing.assert_close(first.per_tensor[name], second.per_tensor[name], rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(first.overall[name], second.overall[name], rtol=1e-6, atol=1e-9)


def test_the_reference_says_the_same() -> None:
    """Within the rounding of both: the reference adds up to 70 float32 terms one after the other in a few lanes."""
    gradients = [torch.randn(7, 10), None, torch.randn(64).bfloat16(), torch.randn(5, dtype=torch.complex64)]
    beside = [torch.ones(2) if g is None else torch.randn_like(g) for g in gradients]
    fused, plain = (
        measure(gradients, parameters=beside, momenta=beside, groups=[2, 0, 0, 1], backend=backend)
        for backend in ("triton", "torch")
    )
    for name in STATISTICS:
        for level in ("overall", "per_group", "per_tensor"):
            first, second = getattr(fused, level)[name], getattr(plain, level)[name]
            torch.testing.assert_close(first, second, rtol=100 * 2.0**-24, atol=100 * 2.0**-24)


def test_reruns_give_the_same_bits() -> None:
    gradients = [torch.randn(size) for size in (5000, 3, 77)]
    first, second = (
        measure([g.clone() for g in gradients], momenta=gradients, groups=[1, 0, 1], backend="triton") for _ in range(2)
    )
    for name in first.overall:
        for level in ("overall", "per_group", "per_tensor"):
            assert torch.equal(getattr(first, level)[name], getattr(second, level)[name])


def test_gradients_are_not_modified_and_results_stay() -> None:
    gradient = torch.randn(100, requires_grad=True)
    copy = gradient.detach().clone()
    first = measure([gradient], backend="triton")
    norm = float(first.overall["grad_norm"])
    measure([gradient.detach() * 2], backend="triton")
    assert float(first.overall["grad_norm"]) == norm
    assert torch.equal(gradient.detach(), copy)
    assert not first.overall["grad_norm"].requires_grad


def test_subclasses_are_refused_by_name() -> None:
    """Their memory may not be their own."""
    custom = type("Custom", (torch.Tensor,), {})
    with pytest.raises(TypeError, match=r'gradients\[1\] must be an ordinary tensor for backend "triton"; got Custom'):
        measure([torch.ones(2), torch.ones(2).as_subclass(custom)], backend="triton")


def test_tensors_without_memory_are_refused() -> None:
    """As torch makes for known zeros: there is nothing to point at."""
    with pytest.raises(TypeError, match="every tensor must have memory"):
        measure([torch.ones(2), torch._efficientzerotensor(3)], backend="triton")
