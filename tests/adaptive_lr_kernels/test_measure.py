"""`measure` against the definitions, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from adaptive_lr_kernels import STATISTICS, measure, reference
from gradient_truth import reals, truth

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
UNIT = {torch.float64: 2.0**-53, torch.complex128: 2.0**-53}  # unit roundoff of the accumulation; float32 for all else


def assert_measured(found: dict[str, float], expected: dict[str, float], scale: float, error: float) -> None:
    """Compare within rounding.

    `error` is n·u: the relative error of a sum of n terms of one sign, in whatever order. So a norm is off by less
    than n·u; a mean by n·u times the root mean square `scale` of the elements; a cosine by n·u for its product and
    each of its norms; a variance by 8·n·u (squares, mean and their difference, which at most doubles the error,
    in the tensors and again between them).
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
            np.testing.assert_allclose(value, expected[name], rtol=8 * error, err_msg=name)


def values(level, index: int | None = None) -> dict[str, float]:
    return {name: float(vector if index is None else vector[index]) for name, vector in level.items()}


# Arbitrary models.


@dataclass
class Model:
    gradients: list[Tensor | None]
    parameters: list[Tensor]
    momenta: list[Tensor | None]
    groups: list[int] | None
    piece: int


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same elements, elsewhere in memory."""
    if layout == "transposed" and tensor.dim() >= 2:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided" and tensor.dim() >= 1:
        room = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), 77.0)
        room[..., 1::2] = tensor
        return room[..., 1::2]
    if layout == "expanded" and tensor.dim() >= 1 and tensor.numel():
        return tensor[:1].expand(tensor.shape)
    if layout == "conjugate" and tensor.is_complex():
        return tensor.conj()
    if layout == "sparse" and tensor.dim() >= 1 and tensor.dtype not in (torch.float16, torch.bfloat16):
        thinned = torch.where(torch.rand(tensor.shape) < 0.5, tensor, 0).to_sparse()
        indices = torch.cat([thinned.indices(), thinned.indices()], 1)  # not coalesced: every index twice
        stored = torch.cat([thinned.values(), thinned.values()])
        return torch.sparse_coo_tensor(indices, stored, tensor.shape, check_invariants=True)
    return tensor


@st.composite
def models(draw) -> Model:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def tensor(shape, dtype, *, sparse: bool) -> Tensor:
        scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 3e3]))
        drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
        if dtype.is_complex:
            drawn = drawn + (1j * torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
        if drawn.numel() and draw(st.integers(0, 9)) == 0:
            position = draw(st.integers(0, drawn.numel() - 1))
            drawn.view(-1)[position] = draw(st.sampled_from([math.inf, -math.inf, math.nan]))
        layouts = ["contiguous", "transposed", "strided", "expanded", "conjugate", *(["sparse"] if sparse else [])]
        return laid_out(drawn, draw(st.sampled_from(layouts)))

    gradients: list[Tensor | None] = []
    parameters, momenta = [], []
    for _ in range(draw(st.integers(0, 6))):
        shape = tuple(draw(st.lists(st.integers(0, 6), max_size=3)))
        kind = draw(st.sampled_from([REAL, REAL, COMPLEX]))
        gradients.append(tensor(shape, draw(st.sampled_from(kind)), sparse=True) if draw(st.integers(0, 5)) else None)
        parameters.append(tensor(shape, draw(st.sampled_from(kind)), sparse=False))
        momenta.append(tensor(shape, draw(st.sampled_from(kind)), sparse=True) if draw(st.integers(0, 5)) else None)
    count = len(gradients)
    groups = draw(st.none() | st.lists(st.integers(0, 4), min_size=count, max_size=count))
    return Model(gradients, parameters, momenta, groups, draw(st.sampled_from([1, 5, reference.PIECE])))


def check(model: Model) -> None:
    measured = measure(
        model.gradients, parameters=model.parameters, momenta=model.momenta, groups=model.groups, statistics=None
    )
    everything = list(range(len(model.gradients)))
    groups = model.groups if model.groups is not None else [0] * len(everything)
    num_groups = 1 if model.groups is None else max(model.groups, default=-1) + 1
    assert tuple(measured.overall) == tuple(measured.per_group) == tuple(measured.per_tensor) == STATISTICS
    unions = [(values(measured.overall), everything)]
    unions += [(values(measured.per_tensor, index), [index]) for index in everything]
    unions += [
        (values(measured.per_group, group), [i for i in everything if groups[i] == group])
        for group in range(num_groups)
    ]
    for name in STATISTICS:
        assert measured.overall[name].shape == ()
        assert measured.per_group[name].shape == (num_groups,)
        assert measured.per_tensor[name].shape == (len(everything),)
        assert measured.overall[name].dtype == (torch.int64 if name == "nonfinite" else torch.float64)
    for found, members in unions:
        parts = [[tensors[i] for i in members] for tensors in (model.gradients, model.parameters, model.momenta)]
        elements = reals_of(parts[0]).numpy()
        rounding = max([UNIT.get(t.dtype, 2.0**-24) for part in parts for t in part if t is not None], default=2.0**-53)
        most = max([2 * t.numel() for part in parts for t in part if t is not None], default=0)
        finite = elements[np.isfinite(elements)]
        scale = np.sqrt(np.mean(finite**2)) if finite.size else 0.0
        assert_measured(found, truth(*parts), scale, (most + 8) * rounding)


def reals_of(tensors: list[Tensor | None]) -> Tensor:
    return torch.cat([torch.zeros(0, dtype=torch.float64), *map(reals, tensors)])


@settings(deadline=None, max_examples=150)
@given(models())
def test_agrees_with_the_definitions(model: Model) -> None:
    """Any mix of dtypes, shapes, layouts, groups, missing gradients and non-finite values; pieces of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "PIECE", model.piece)
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


# Single facts.


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
    """In one piece, the float32 norm of 2**23 normal values is off by 2e-4; in pieces of 2**19 by about 4e-6.

    Five times that is allowed, and three norms' worth for the alignment.
    """
    gradient = torch.randn(2**23)
    exact = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
    measured = measure([gradient], momenta=[gradient], statistics=("grad_norm", "alignment"))
    assert float(measured.overall["grad_norm"]) == pytest.approx(exact, rel=2e-5)
    assert float(measured.overall["alignment"]) == pytest.approx(1, abs=6e-5)


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


class Operations(TorchDispatchMode):
    """Records the name of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


TELLTALE = {
    "grad_norm": {"_foreach_norm"},
    "grad_max": {"aminmax"},
    "grad_mean": {"mean", "_foreach_norm"},
    "grad_variance": {"mean", "_foreach_norm"},
    "nonfinite": {"count_nonzero", "_foreach_norm"},
    "param_norm": {"_foreach_norm"},
    "momentum_norm": {"_foreach_norm"},
    "alignment": {"dot", "_foreach_norm"},
}


@pytest.mark.parametrize("name", STATISTICS)
def test_what_is_not_asked_for_is_not_computed(name: str) -> None:
    """Each statistic runs its own passes over the gradients, and no other's."""
    gradient = torch.tensor([1.0, -2.0, math.inf])
    with Operations() as operations:
        measured = measure([gradient], parameters=[gradient], momenta=[gradient], statistics=(name,))
        assert tuple(measured.overall) == (name,)
        float(measured.overall[name])
    passes = set().union(*TELLTALE.values()) & set(operations.names)
    assert passes == TELLTALE[name]
    with pytest.raises(KeyError, match="was not measured"):
        measured.overall["grad_norm" if name != "grad_norm" else "grad_max"]


def test_nothing_asked_for_reads_nothing() -> None:
    with Operations() as operations:
        assert dict(measure([torch.ones(3)], statistics=()).overall) == {}
    assert set(operations.names) <= {"ones"}


def test_the_norm_costs_as_many_operations_for_any_number_of_tensors() -> None:
    """One foreach operation, not one operation per tensor (but each norm is read: `_local_scalar_dense`)."""
    counts = []
    for number in (6, 60):
        gradients = [torch.ones(3)] * number
        with Operations() as operations:
            measured = measure(
                gradients, groups=[index * 2 // number for index in range(number)], statistics=("grad_norm",)
            )
            measured.overall["grad_norm"], measured.per_group["grad_norm"]
        counts.append(len([name for name in operations.names if name != "_local_scalar_dense"]))
    assert counts[0] == counts[1]


def test_statistics_are_listed_in_one_order_and_once() -> None:
    measured = measure([torch.ones(3)], statistics=["nonfinite", "grad_norm", "nonfinite"])
    assert list(measured.overall) == ["grad_norm", "nonfinite"]
    assert len(measured.overall) == 2
    assert "grad_max" not in measured.overall
    assert "nonfinite" in repr(measured)


def test_without_parameters_and_momenta_all_means_the_gradient_statistics() -> None:
    assert tuple(measure([torch.ones(3)]).overall) == STATISTICS[:5]
    assert tuple(measure([torch.ones(3)], parameters=[torch.ones(3)]).overall) == STATISTICS[:6]


def test_the_same_gradients_give_the_same_bits() -> None:
    gradients = [torch.randn(size) for size in (1000, 3, 77)]
    first, second = (measure(gradients, groups=[1, 0, 1], momenta=gradients) for _ in range(2))
    for name in first.overall:
        assert torch.equal(first.per_group[name], second.per_group[name])
        assert torch.equal(first.overall[name], second.overall[name])
