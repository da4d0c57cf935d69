"""What `measure` makes of numbers that are hard: large, small, many, far from their mean, not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from adaptive_lr_kernels import measure, reference
from gradient_models import REAL
from gradient_truth import reals


def test_float16_whose_squares_overflow_has_its_norm() -> None:
    gradient = torch.full((1000,), 3e4, dtype=torch.float16)
    assert float(measure([gradient]).overall["grad_norm"]) == pytest.approx(3e4 * 1000**0.5, rel=1e-6)


def test_float64_is_accumulated_in_float64() -> None:
    """A last bit that float32 cannot hold decides the result."""
    gradient = torch.tensor([1.0, 2.0**-40], dtype=torch.float64)
    measured = measure([gradient, torch.ones(2)], momenta=[gradient, torch.ones(2)])
    assert float(measured.per_tensor["grad_mean"][0]) == (1 + 2.0**-40) / 2
    assert float(measured.per_tensor["grad_max"][0]) == 1.0
    assert float(measure([gradient - 1]).overall["grad_norm"]) == float(torch.linalg.vector_norm(gradient - 1))


def test_many_tensors_add_up_in_float64() -> None:
    """4096 tensors of norm 1 beside one of norm 2**12: in float32, each would be half a unit in the last place."""
    gradients = [torch.tensor([4096.0 * 64]), *[torch.ones(1)] * 4096]
    assert float(measure(gradients).overall["grad_norm"]) == math.sqrt((4096 * 64) ** 2 + 4096)


def test_a_large_tensor_loses_no_digits() -> None:
    """In one piece, the float32 norm of 2**23 normal values is off by 2e-4; in pieces by less than 1e-5.

    Twice that is allowed, and three norms' worth for the alignment.
    """
    gradient = torch.randn(2**23)
    exact = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
    measured = measure([gradient], momenta=[gradient], statistics=("grad_norm", "alignment"))
    assert float(measured.overall["grad_norm"]) == pytest.approx(exact, rel=2e-5)
    assert float(measured.overall["alignment"]) == pytest.approx(1, abs=6e-5)


def _values(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(
    ("gradient", "error"),
    [
        (_values(reference.PIECE), 1.5e-5),
        (_values(1024, 768).T, 1.5e-5),
        (_values(reference.PIECE, 2)[:, 0], 1.5e-5),
        (_values(1024, 2304)[:, :768], 1.5e-5),
        (_values(3, 2048, 512)[:, ::2].permute(2, 0, 1), 1.5e-5),
        (_values(reference.PIECE, dtype=torch.complex64).conj().imag, 1.5e-5),
        (_values(1, 768).expand(1024, 768), 5e-5),
        (_values(1024, 1).expand(1024, 768), 5e-5),
        (torch.full((1024, 768), 0.1), 7e-4),
        (torch.tensor(0.1).expand(1024, 768), 7e-4),
        (torch.tensor(0.1).expand(3000, 900), 7e-4),
    ],
    ids=[
        "contiguous", "transposed", "gaps", "columns", "permuted gaps", "negated", "expanded rows", "expanded columns",
        "equal", "one value", "one value, several pieces",
    ],
)  # fmt: skip
def test_the_layout_of_a_tensor_costs_no_digits(gradient: torch.Tensor, error: float) -> None:
    """Left to torch, the norms with gaps are off by 2e-4 and more, those of one value by 5e-3."""
    exact = float(torch.linalg.vector_norm(gradient.double().contiguous()))
    measured = measure([gradient], parameters=[gradient], statistics=("grad_norm", "param_norm")).overall
    assert float(measured["grad_norm"]) == pytest.approx(exact, rel=error)
    assert measured["param_norm"] == measured["grad_norm"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e5])
def test_variance_is_exact_where_the_mean_is_far_above_the_deviation(dtype: torch.dtype, ratio: float) -> None:
    """Within 1e-9 of numpy's two-pass variance of the same elements, in one tensor and merged over several."""
    gradients = [(torch.randn(size, dtype=torch.float64) + ratio).to(dtype) for size in (1, 7, 1000, 4096)]
    measured = measure(gradients, groups=[0, 1, 1, 0])
    elements = [reals(gradient).numpy() for gradient in gradients]
    assert float(measured.overall["grad_variance"]) == pytest.approx(np.var(np.concatenate(elements)), rel=1e-9)
    expected = [np.var(np.concatenate([elements[0], elements[3]])), np.var(np.concatenate([elements[1], elements[2]]))]
    np.testing.assert_allclose(measured.per_group["grad_variance"], expected, rtol=1e-9)
    np.testing.assert_allclose(measured.per_tensor["grad_variance"], list(map(np.var, elements)), rtol=1e-9)


def test_variance_of_a_large_shifted_tensor_is_exact_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PIECE", 100)
    gradient = torch.randn(37, 41) + 1e4
    assert float(measure([gradient]).overall["grad_variance"]) == pytest.approx(
        np.var(reals(gradient).numpy()), rel=1e-9
    )


@pytest.mark.parametrize("magnitude", [1e-30, 1e-22, 1e20])
def test_variance_survives_squares_that_leave_float32(magnitude: float) -> None:
    gradient = torch.randn(100) * magnitude
    expected = np.var(reals(gradient).numpy())
    assert float(measure([gradient]).overall["grad_variance"]) == pytest.approx(expected, rel=1e-9)


def test_an_overflowing_square_is_an_infinite_norm_and_no_nonfinite_value() -> None:
    measured = measure([torch.full((3,), 1e20)], momenta=[torch.ones(3)])
    assert float(measured.overall["grad_norm"]) == math.inf
    assert int(measured.overall["nonfinite"]) == 0
    assert float(measured.overall["grad_max"]) == float(torch.tensor(1e20))
    assert math.isnan(float(measured.overall["alignment"]))


@pytest.mark.parametrize("planted", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("dtype", REAL)
def test_nonfinite_values_are_counted_and_not_hidden(planted: float, dtype: torch.dtype) -> None:
    gradient = torch.ones(10, dtype=dtype)
    gradient[[0, -1]] = planted
    measured = measure([torch.ones(3), gradient, None], groups=[0, 1, 1])
    assert measured.per_tensor["nonfinite"].tolist() == [0, 2, 0]
    assert measured.per_group["nonfinite"].tolist() == [0, 2]
    np.testing.assert_equal(float(measured.overall["grad_norm"]), abs(planted))
    np.testing.assert_equal(float(measured.overall["grad_max"]), abs(planted))
    assert float(measured.per_group["grad_norm"][0]) == pytest.approx(3**0.5)


def test_alignment_is_one_for_itself_minus_one_for_the_opposite_zero_for_nothing() -> None:
    gradient = torch.randn(5, 3)
    opposite = measure([gradient, gradient, gradient], momenta=[gradient, -2 * gradient, torch.zeros(5, 3)])
    np.testing.assert_allclose(opposite.per_tensor["alignment"], [1, -1, 0], atol=1e-6)


def test_alignment_leaves_out_tensors_without_momentum() -> None:
    gradient = torch.randn(7)
    measured = measure([gradient, torch.randn(5)], momenta=[gradient, None])
    assert float(measured.overall["alignment"]) == pytest.approx(1, abs=1e-6)
    assert float(measured.per_tensor["alignment"][1]) == 0


def test_alignment_never_leaves_its_interval() -> None:
    """Rounding alone would take the cosine of a vector with itself past 1 in many of these."""
    gradients = [torch.randn(5) for _ in range(200)]
    alignments = measure(gradients, momenta=gradients).per_tensor["alignment"]
    assert alignments.max() <= 1
    assert alignments.min() > 1 - 1e-6
