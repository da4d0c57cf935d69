"""`measure` against the definitions, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptive_lr_kernels import measure, reference
from gradient_models import COMPLEX, REAL, Model, models, unions, values
from gradient_truth import reals, truth

UNIT = {torch.float64: 2.0**-53, torch.complex128: 2.0**-53}  # unit roundoff of the accumulation; float32 for all else


def assert_measured(found: dict[str, float], expected: dict[str, float], scale: float, error: float) -> None:
    """Compare within rounding.

    `error` is n·u: the relative error of a sum of n terms of one sign, in whatever order. So a norm is off by less
    than n·u; a mean by n·u times the root mean square `scale` of the elements; a cosine by n·u for its product and
    each of its norms; a variance by 8·n·u (squares, mean and their difference, which at most doubles the error,
    in the tensors and again between them), and by the square of what its mean is off by: of equal elements, whose mean
    need not be a number of their kind, nothing else is left.
    """
    for name, value in found.items():
        if name == "nonfinite":
            assert value == expected[name]
        elif name == "grad_max":
            np.testing.assert_equal(value, expected[name])
        elif name == "grad_mean":
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=error * scale, err_msg=name)
        elif name == "alignment":
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=3 * error, err_msg=name)
        else:
            least = (error * scale) ** 2 if name == "grad_variance" else 0.0
            np.testing.assert_allclose(value, expected[name], rtol=8 * error, atol=least, err_msg=name)


def check(model: Model) -> None:
    measured = measure(
        model.gradients, parameters=model.parameters, momenta=model.momenta, groups=model.groups, statistics=None
    )
    for found, parts in unions(model, measured):
        elements = torch.cat([torch.zeros(0, dtype=torch.float64), *map(reals, parts[0])]).numpy()
        rounding = max([UNIT.get(t.dtype, 2.0**-24) for part in parts for t in part if t is not None], default=2.0**-53)
        most = max([2 * t.numel() for part in parts for t in part if t is not None], default=0)
        finite = elements[np.isfinite(elements)]
        scale = np.sqrt(np.mean(finite**2)) if finite.size else 0.0
        assert_measured(found, truth(*parts), scale, (most + 8) * rounding)


def test_equal_elements_have_a_variance_of_no_more_than_rounding() -> None:
    """The mean of five such numbers is none of them, whose square distance is all the variance there is."""
    gradients = [torch.full((5,), 4036.7029, dtype=torch.float64)]
    check(Model(gradients, [torch.zeros(5, dtype=torch.float64)], [None], None))


@settings(deadline=None, max_examples=150)
@given(models(), st.sampled_from([1, 5, reference.PIECE]))
def test_agrees_with_the_definitions(model: Model, piece: int) -> None:
    """Any mix of dtypes, shapes, layouts, groups, missing gradients and non-finite values; pieces of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "PIECE", piece)
        check(model)


@settings(deadline=None, max_examples=50)
@given(models())
def test_agrees_with_the_definitions_where_values_may_not_be_read(model: Model) -> None:
    """The path of other devices, run here on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference.Pieces, "on_host", False)
        check(model)


def test_no_value_is_read_off_a_device() -> None:
    """Tensors without values (device `meta`) go through all of it: nothing waits for a device."""
    shapes = [(3, 4), (5,), (), (0,)]
    gradients = [torch.empty(shape, device="meta", dtype=dtype) for shape in shapes for dtype in (*REAL, *COMPLEX)]
    measured = measure(
        [None, *gradients],
        parameters=[gradients[0], *gradients],
        momenta=[None, None, *gradients[1:]],
        groups=[index % 3 for index in range(len(gradients) + 1)],
    )
    for level in (measured.overall, measured.per_group, measured.per_tensor):
        assert {vector.device.type for vector in level.values()} == {"meta"}


def test_a_default_device_changes_nothing() -> None:
    gradients = [torch.randn(5), None]
    with torch.device("meta"):
        measured = measure(gradients, momenta=gradients, groups=[1, 0])
        assert values(measured.overall) == values(measure(gradients, momenta=gradients).overall)


def test_a_missing_gradient_keeps_its_place_and_contributes_nothing() -> None:
    parameters = [torch.ones(4), torch.ones(9)]
    measured = measure([None, torch.ones(9)], parameters=parameters, momenta=parameters)
    assert measured.per_tensor["param_norm"].tolist() == [0, 3]
    assert measured.per_tensor["momentum_norm"].tolist() == [0, 3]
    assert float(measured.overall["param_norm"]) == 3


@pytest.mark.parametrize("gradients", [[], [None], [torch.empty(0)], [None, torch.empty(3, 0)]])
def test_no_elements_measure_zero(gradients: list[Tensor | None]) -> None:
    tensors = [torch.empty(0) if gradient is None else gradient for gradient in gradients]
    measured = measure(gradients, parameters=tensors, momenta=tensors)
    assert set(values(measured.overall).values()) == {0.0}
    assert all(vector.tolist() == [0] for vector in measured.per_group.values())
    assert all(vector.tolist() == [0] * len(gradients) for vector in measured.per_tensor.values())


def test_groups_that_no_tensor_is_in_are_zero() -> None:
    measured = measure([torch.ones(4), torch.ones(9)], groups=[3, 1])
    assert measured.per_group["grad_norm"].tolist() == [0, 3, 0, 2]
    assert measured.per_group["grad_variance"].tolist() == [0, 0, 0, 0]


def test_a_sparse_gradient_without_values_is_all_zeros() -> None:
    gradient = torch.zeros(5, 2).to_sparse()
    measured = measure([gradient, torch.ones(10)], momenta=[torch.ones(5, 2), torch.ones(10)])
    assert measured.per_tensor["grad_norm"][0] == 0
    assert float(measured.overall["grad_mean"]) == 0.5
    assert float(measured.overall["grad_variance"]) == 0.25


def test_gradients_are_not_modified() -> None:
    """Neither values nor autograd state, nor whether a sparse gradient is coalesced."""
    dense = [torch.randn(3, 4, requires_grad=True), torch.randn(5, dtype=torch.complex64).conj()]
    indices = torch.tensor([[0, 0, 2]])
    sparse = torch.sparse_coo_tensor(indices, torch.randn(3, 2), (4, 2), check_invariants=True)
    copies = [tensor.detach().clone() for tensor in [*dense, sparse]]
    measured = measure([*dense, sparse], parameters=[*dense, sparse], momenta=[*dense, sparse])
    for vector in measured.overall.values():
        assert not vector.requires_grad
    for tensor, copy in zip([*dense, sparse], copies, strict=True):
        assert torch.equal(tensor.detach().to_dense(), copy.to_dense())
    assert not sparse.is_coalesced()
    assert dense[0].grad is None
    assert dense[0]._version == 0


def test_reading_later_gives_what_was_measured() -> None:
    """An optimizer changes gradients in place before anything is read."""
    gradient = torch.randn(100)
    first, second = measure([gradient], momenta=[gradient]), measure([gradient.clone()], momenta=[gradient.clone()])
    gradient.mul_(7).add_(1)
    assert values(first.overall) == values(second.overall)


def test_the_same_gradients_give_the_same_bits() -> None:
    gradients = [torch.randn(size) for size in (1000, 3, 77)]
    first, second = (measure(gradients, groups=[1, 0, 1], momenta=gradients) for _ in range(2))
    for name in first.overall:
        assert torch.equal(first.per_group[name], second.per_group[name])
        assert torch.equal(first.overall[name], second.overall[name])
