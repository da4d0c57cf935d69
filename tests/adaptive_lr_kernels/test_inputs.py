"""Bad input gets a sentence that names the argument, the rule and the value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr_kernels import measure
from adaptive_lr_kernels.plain_norm import plain_norm

ONE = torch.ones(2, 3)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.float8_e4m3fn])
def test_gradients_of_other_dtypes_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"gradients\[1\] must have a floating-point or complex dtype.*{dtype}"):
        measure([ONE, torch.ones(2).to(dtype)])


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch is about to drop quantized tensors
def test_quantized_gradients_are_refused() -> None:
    with pytest.raises(TypeError, match=r"gradients\[0\] must have a floating-point.*qint8"):
        measure([torch.quantize_per_tensor(ONE, 0.1, 0, torch.qint8)])


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_other_layouts_are_refused() -> None:
    with pytest.raises(
        TypeError, match=r"gradients\[0\] must have a strided or sparse COO layout; got torch.sparse_csr"
    ):
        measure([ONE.to_sparse_csr()])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused(layout: torch.layout) -> None:
    """By name; they have no shape to compare, and no norm."""
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)
    assert plain_norm([nested]) is None
    with pytest.raises(TypeError, match=r"gradients\[1\] must be one tensor of one shape; got a nested tensor"):
        measure([ONE, nested])
    with pytest.raises(TypeError, match=r"momenta\[0\] must be one tensor of one shape; got a nested tensor"):
        measure([ONE], momenta=[nested])


def test_other_subclasses_are_measured() -> None:
    custom = type("Custom", (torch.Tensor,), {})
    assert float(measure([torch.full((4,), 2.0).as_subclass(custom)]).overall["grad_norm"]) == 4


def test_tensors_on_two_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gradients\[1\] must be on the device of the first gradient, cpu; got meta"):
        measure([ONE, ONE.to("meta")])
    with pytest.raises(ValueError, match=r"parameters\[0\] must be on the device.*cpu; got meta"):
        measure([ONE], parameters=[ONE.to("meta")])


@pytest.mark.parametrize("name", ["parameters", "momenta"])
def test_lengths_that_differ_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must have one entry per gradient, 2; got 1"):
        measure([ONE, ONE], **{name: [ONE]})


@pytest.mark.parametrize("name", ["parameters", "momenta"])
def test_shapes_that_differ_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}\[0\] must have the shape of gradients\[0\], \(2, 3\); got \(3, 2\)"):
        measure([ONE], **{name: [ONE.t()]})


def test_a_complex_gradient_of_a_real_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match=r"momenta\[0\] and gradients\[0\] must both be real or both complex"):
        measure([ONE.to(torch.complex64)], momenta=[ONE])


def test_a_missing_parameter_is_refused() -> None:
    with pytest.raises(TypeError, match=r"parameters\[0\] must be a tensor; got None"):
        measure([ONE], parameters=[None])


@pytest.mark.parametrize("gradients", [ONE, None, 3.0])
def test_gradients_that_are_no_sequence_are_refused(gradients: object) -> None:
    with pytest.raises(TypeError, match="gradients must be a sequence of tensors; got"):
        measure(gradients)


@pytest.mark.parametrize("gradients", [[1.0], "ab", {"weight": ONE}])
def test_entries_that_are_no_tensors_are_refused(gradients: object) -> None:
    with pytest.raises(TypeError, match=r"gradients\[0\] must be a tensor or None; got (float|str)"):
        measure(gradients)


def test_unknown_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match=r"statistics must be names out of grad_norm, .*; got 'norm'"):
        measure([ONE], statistics=("norm",))


@pytest.mark.parametrize("statistics", ["grad_norm", 3])
def test_statistics_that_are_no_sequence_are_refused(statistics: object) -> None:
    with pytest.raises(TypeError, match="statistics must be a sequence of names, as in"):
        measure([ONE], statistics=statistics)


def test_statistics_that_are_no_strings_are_refused() -> None:
    with pytest.raises(TypeError, match="statistics must be a sequence of names; got 3"):
        measure([ONE], statistics=("grad_norm", 3))


@pytest.mark.parametrize(
    ("name", "needed"), [("param_norm", "parameters"), ("momentum_norm", "momenta"), ("alignment", "momenta")]
)
def test_statistics_whose_input_is_missing_are_refused(name: str, needed: str) -> None:
    with pytest.raises(ValueError, match=f"statistics may name '{name}' only where {needed} are given"):
        measure([ONE], statistics=(name,))


def test_negative_groups_are_refused() -> None:
    with pytest.raises(ValueError, match=r"groups\[1\] must be 0 or more; got -1"):
        measure([ONE, ONE], groups=[0, -1])


@pytest.mark.parametrize("index", [0.0, True, "0", None])
def test_groups_that_are_no_integers_are_refused(index: object) -> None:
    """Also just after the equal integer was accepted and remembered."""
    measure([ONE, ONE], groups=[0, 1])
    with pytest.raises(TypeError, match=r"groups\[1\] must be an integer; got"):
        measure([ONE, ONE], groups=[0, index])


def test_groups_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must have one index per gradient, 1; got 2"):
        measure([ONE], groups=[0, 0])


def test_groups_that_are_no_sequence_are_refused() -> None:
    with pytest.raises(TypeError, match="groups must be a sequence of one integer per gradient; got int"):
        measure([ONE], groups=0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 6), max_size=12))
def test_groups_may_be_any_integers_in_any_order(indices: list[int]) -> None:
    gradients = [torch.full((1,), float(2**position)) for position in range(len(indices))]
    expected = [
        sum(4.0**position for position, index in enumerate(indices) if index == group) ** 0.5
        for group in range(max(indices, default=-1) + 1)
    ]
    for groups in (
        indices,
        tuple(indices),
        np.array(indices, dtype=np.int32),
        torch.tensor(indices, dtype=torch.int64),
    ):
        found = measure(gradients, groups=groups).per_group["grad_norm"]
        np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ValueError, match=r'backend must be "auto", "triton" or "torch"; got \'cuda\''):
        measure([ONE], backend="cuda")


def test_auto_is_torch_on_the_cpu() -> None:
    gradients = [torch.randn(10)]
    automatic, plain = measure(gradients), measure(gradients, backend="torch")
    assert {name: float(value) for name, value in automatic.overall.items()} == {
        name: float(value) for name, value in plain.overall.items()
    }
