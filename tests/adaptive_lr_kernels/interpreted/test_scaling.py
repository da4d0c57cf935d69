"""Gradients scaled by a number on the device."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptive_lr_kernels.scaling import GradientScaling

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
NOT_SKIPPED, SKIPPED = torch.tensor(0.0), torch.tensor(1.0)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def gradient_of(size: int, dtype: torch.dtype, layout: str) -> Tensor:
    whole = torch.randn(4 * size + 5, dtype=torch.float64)
    drawn = (whole + 1j * whole.flip(0) if dtype.is_complex else whole).to(dtype)
    views = {
        "aligned": drawn[:size],
        "offset": drawn[1 : size + 1],
        "strided": drawn[: 2 * size : 2],
        "transposed": drawn[: 4 * size].view(4, size).t(),
        "conjugate": drawn[:size].conj() if dtype.is_complex else drawn[:size],
    }
    return views[layout]


def expected(gradient: Tensor, damp: float) -> Tensor:
    """The product in float32 (float64 for float64), rounded once to the dtype of the gradient."""
    reals = torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient
    wide = torch.float64 if reals.dtype == torch.float64 else torch.float32
    product = (reals.to(wide) * torch.tensor(damp, dtype=torch.float64).to(wide)).to(reals.dtype)
    return torch.view_as_complex(product.contiguous()) if gradient.is_complex() else product


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 15, 17, 33]),
            st.sampled_from(DTYPES),
            st.sampled_from(["aligned", "offset", "strided", "transposed", "conjugate"]),
        ),
        max_size=4,
    ),
    st.sampled_from([0.3, 1e-3, 0.9999]),
)
def test_products_are_those_of_torch_to_the_bit(kinds: list[tuple[int, torch.dtype, str]], damp: float) -> None:
    """Any mix of dtypes and layouts; what lies between and around the gradients is not touched."""
    gradients = [gradient_of(*kind) for kind in kinds]
    wholes = [gradient._base if gradient._base is not None else gradient for gradient in gradients]
    outside = [whole.clone() for whole in wholes]
    products = [expected(gradient, damp) for gradient in gradients]
    GradientScaling().scale([*gradients, None], scalar(damp), NOT_SKIPPED)
    for gradient, product, whole, before in zip(gradients, products, wholes, outside, strict=True):
        if gradient.dtype == torch.bfloat16:
            # The interpreter cuts off what the compiled kernel rounds to nearest: one unit in the last place, 2**-7.
            torch.testing.assert_close(gradient, product, rtol=2.0**-7, atol=0)
        else:
            assert torch.equal(gradient, product)
        touched = torch.as_strided(before, gradient.shape, gradient.stride(), gradient.storage_offset())
        touched.copy_(torch.as_strided(whole, gradient.shape, gradient.stride(), gradient.storage_offset()))
        assert torch.equal(whole, before)


def test_several_chunks_are_scaled_once() -> None:
    gradients = [torch.randn(3 * 4096 + 5), torch.randn(7)]
    products = [expected(gradient, 0.25) for gradient in gradients]
    GradientScaling().scale(gradients, scalar(0.25), NOT_SKIPPED)
    assert all(map(torch.equal, gradients, products))


@pytest.mark.parametrize("layout", ["aligned", "offset", "strided"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_skipped_gradient_is_zero_whatever_it_was(dtype: torch.dtype, layout: str) -> None:
    """Not a product: 0 x NaN is NaN."""
    gradient = gradient_of(20, dtype, layout)
    gradient[[0, 3, -1]] = math.nan
    gradient[4] = math.inf
    GradientScaling().scale([gradient], scalar(1.0), SKIPPED)
    assert not gradient.any()


def test_nothing_to_do_writes_nothing() -> None:
    """Not even a NaN's bits: read-only memory would do."""
    gradient = torch.randn(50)
    gradient[7] = math.nan
    bits = gradient.view(torch.int32).clone()
    GradientScaling().scale([gradient], scalar(1.0), NOT_SKIPPED)
    assert torch.equal(gradient.view(torch.int32), bits)


def test_bad_input_is_refused() -> None:
    scaling = GradientScaling()
    with pytest.raises(TypeError, match=r"damp must be one torch\.float64 number; got \(\) of torch\.float32"):
        scaling.scale([torch.ones(2)], torch.tensor(1.0), NOT_SKIPPED)
    with pytest.raises(TypeError, match=r"gradients\[0\] must be dense; got a sparse tensor"):
        scaling.scale([torch.ones(2).to_sparse()], scalar(1.0), NOT_SKIPPED)
    with pytest.raises(TypeError, match=r"gradients\[1\] must have a floating-point or complex dtype"):
        scaling.scale([torch.ones(2), torch.ones(2, dtype=torch.int64)], scalar(1.0), NOT_SKIPPED)
    with pytest.raises(ValueError, match="skip must be on the device of damp"):
        scaling.scale([torch.ones(2)], scalar(1.0), torch.ones((), device="meta"))
