"""The update-to-weight ratio of each tensor: exact from whole weights, estimated with a known error from samples."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.update_ratio import SAMPLE, WEIGHT_FLOOR, Ratios, UpdateRatioMeter, sample_places

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.complex64)
CPU = torch.device("cpu")


def holding(*parameters: torch.Tensor) -> Any:
    """What stands for an optimizer of parameters that have a gradient."""
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    return SimpleNamespace(param_groups=[{"params": list(parameters)}])


def compared(before: list[torch.Tensor], after: list[torch.Tensor], seed: int | None) -> Ratios:
    """The ratios of tensors that an update takes from here to there; without a seed from whole copies."""
    parameters = [tensor.clone().requires_grad_() for tensor in before]
    meter, optimizer = UpdateRatioMeter(), holding(*parameters)
    weights = meter.copy(optimizer) if seed is None else meter.sample(optimizer, seed)
    with torch.no_grad():
        for parameter, value in zip(parameters, after, strict=True):
            parameter.copy_(value)
    found = meter.ratios(weights)
    assert found is not None
    return found


def truth(before: torch.Tensor, after: torch.Tensor) -> float:
    """By the definition, in float64."""
    wide = torch.complex128 if before.is_complex() else torch.float64
    before, after = before.to(wide), after.to(wide)
    fan_in = before.numel() / before.shape[0] if before.dim() >= 2 else before.numel()
    floor = WEIGHT_FLOOR / math.sqrt(fan_in) * math.sqrt(before.numel())
    return float((after - before).norm() / max(float(before.norm()), floor))


@st.composite
def updates(draw: Any, sizes: Any = st.integers(1, 12), dtypes: Any = DTYPES) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix before and after an update."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.tuples(sizes, sizes))
    dtype = draw(st.sampled_from(dtypes))
    weight, size = draw(st.sampled_from([0.0, 1e-4, 1.0, 1e3])), draw(st.sampled_from([1e-6, 1e-2, 3.0]))
    real = torch.float64 if not dtype.is_complex else torch.complex128
    before = (weight * torch.randn(shape, generator=generator, dtype=real)).to(dtype)
    after = before + (size * torch.randn(shape, generator=generator, dtype=real)).to(dtype)
    if draw(st.booleans()):  # in another order in memory
        before, after = before.t(), after.t()
    return before, after


@settings(deadline=None, max_examples=60)
@given(st.lists(updates(), min_size=1, max_size=4), st.integers(0, 2**31))
def test_a_sample_that_covers_the_tensors_gives_the_exact_ratio_without_error(
    changes: list[tuple[torch.Tensor, torch.Tensor]], seed: int
) -> None:
    """Of any dtype, shape, order in memory, and where the floor counts; to the rounding of float64."""
    found = compared([before for before, _ in changes], [after for _, after in changes], seed)
    assert found.values.tolist() == pytest.approx([truth(*change) for change in changes], rel=1e-12)
    assert found.errors is not None
    assert found.errors.tolist() == [0.0] * len(changes)


@settings(deadline=None, max_examples=40)
@given(st.lists(updates(), min_size=1, max_size=4))
def test_whole_copies_give_the_exact_ratio(changes: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """To the rounding of the dtypes, in which the difference is taken."""
    found = compared([before for before, _ in changes], [after for _, after in changes], None)
    assert found.errors is None
    for value, (before, after) in zip(found.values.tolist(), changes, strict=True):
        assert value == pytest.approx(truth(before, after), rel=1e-2 if before.dtype is torch.bfloat16 else 1e-5)


@settings(deadline=None, max_examples=60)
@given(updates(st.integers(33, 90), (torch.float64, torch.complex128)), st.integers(0, 2**31))
def test_an_estimate_is_within_six_of_its_errors(change: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
    """Of normal values the estimate is nearly normal, beyond six of whose deviations lies one in 5e8.

    (Where the dtype rounds most of an update away, it is an update of few elements.)
    """
    found = compared([change[0]], [change[1]], seed)
    assert found.errors is not None
    assert 0.0 < float(found.errors[0]) < 0.1 * float(found.values[0])
    assert abs(float(found.values[0]) - truth(*change)) < 6.0 * float(found.errors[0])


def test_one_place_of_each_stretch_is_in_a_sample_and_another_one_next_time() -> None:
    sizes = [SAMPLE + 1, 5 * SAMPLE, 1_000_003, 3 * 2**31 + 5]
    places = sample_places(sizes, 7, CPU)
    assert torch.equal(places, sample_places(sizes, 7, CPU))
    others = sample_places(sizes, 8, CPU)
    for size, row, other in zip(sizes, places.tolist(), others.tolist(), strict=True):
        for index, place in enumerate(row):
            assert math.floor(index * size / SAMPLE) <= place <= (index + 1) * size / SAMPLE
        assert row != other
        assert max(row) < size


def test_a_tensor_no_larger_than_a_sample_is_read_whole() -> None:
    for row, size in zip(sample_places([1, 5, SAMPLE], 3, CPU).tolist(), (1, 5, SAMPLE), strict=True):
        assert row[:size] == list(range(size))
        assert set(row[size:]) <= {size - 1}


def test_every_element_is_as_likely_as_any_other() -> None:
    """Over 2,000 samples of a tensor of 1.5 samples: each count within 6 binomial deviations of its expectation."""
    size, draws = 3 * SAMPLE // 2, 2000
    counts = torch.zeros(size)
    for seed in range(draws):
        counts += torch.bincount(sample_places([size], seed, CPU)[0], minlength=size)
    share = SAMPLE / size
    deviation = math.sqrt(draws * share * (1 - share))
    assert float((counts - draws * share).abs().max()) < 6.0 * deviation


def normal(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Independent normal values."""
    return torch.randn(200, 300, generator=generator), 0.01 * torch.randn(200, 300, generator=generator)


def by_rows(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of very different size in weights and update alike."""
    scales = torch.logspace(-2, 2, 200).unsqueeze(1)
    return scales * torch.randn(200, 300, generator=generator), 0.01 * scales.flip(0) * torch.ones(200, 300)


def by_columns(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One column holds nearly everything, and recurs with a period of 256: every k-th element would see all or none."""
    weights, update = 0.1 * torch.randn(200, 256, generator=generator), 1e-4 * torch.ones(200, 256)
    update[:, 17] = 0.1
    return weights, update


def few_rows(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """An embedding of which one row in ten was touched."""
    touched = torch.rand(200, 1, generator=generator) < 0.1
    return torch.randn(200, 300, generator=generator), 0.01 * touched * torch.randn(200, 300, generator=generator)


def proportional(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight decay alone."""
    weights = torch.randn(200, 300, generator=generator)
    return weights, -0.01 * weights


@pytest.mark.parametrize("case", [normal, by_rows, by_columns, few_rows, proportional])
def test_the_estimate_is_unbiased_and_its_error_is_no_larger_than_stated(case: Any) -> None:
    """Over 400 samples: the mean square ratio within 5 standard errors, the error within its own scatter (7 %)."""
    weights, update = case(torch.Generator().manual_seed(0))
    before, after = weights.double(), (weights + update).double()
    exact, draws = truth(before, after), 400
    parameter = before.clone().requires_grad_()
    meter, optimizer = UpdateRatioMeter(), holding(parameter)
    found = []
    for seed in range(draws):
        with torch.no_grad():
            parameter.copy_(before)
        kept = meter.sample(optimizer, seed)
        with torch.no_grad():
            parameter.copy_(after)
        found.append(meter.ratios(kept))
    values = np.array([float(ratios.values[0]) for ratios in found])
    stated = np.array([float(ratios.errors[0]) for ratios in found])
    scatter = values.std()
    # A quotient's bias is of the order of its variance, which counts beside the scatter of the mean.
    room = 5.0 * (values**2).std() / math.sqrt(draws) + 4.0 * scatter**2
    assert abs((values**2).mean() - exact**2) <= max(room, 1e-12 * exact**2)
    rms = math.sqrt(np.mean((values - exact) ** 2))
    assert rms <= 1.15 * math.sqrt(np.mean(stated**2)) + 1e-9 * exact
    if case is normal:
        assert rms == pytest.approx(exact / math.sqrt(SAMPLE), rel=0.15)
        assert stated.mean() == pytest.approx(exact / math.sqrt(SAMPLE), rel=0.05)
    if case is proportional:
        assert values == pytest.approx(np.full(draws, 0.01), rel=1e-6)  # of float32 products


def test_a_weight_at_zero_counts_with_its_floor_in_an_estimate_too() -> None:
    generator = torch.Generator().manual_seed(1)
    before, after = torch.zeros(100, 64), 0.01 * torch.randn(100, 64, generator=generator)
    found = compared([before], [after], 5)
    assert found.errors is not None
    # The mean square of normal values is known to sqrt(2 / SAMPLE), its root to half of that.
    assert float(found.errors[0]) == pytest.approx(truth(before, after) / math.sqrt(2 * SAMPLE), rel=0.1)
    assert abs(float(found.values[0]) - truth(before, after)) < 6.0 * float(found.errors[0])


def test_a_complex_tensor_that_is_stored_conjugated_is_read_as_it_is() -> None:
    parameter = torch.randn(40, 40, dtype=torch.complex128).conj().requires_grad_()
    assert parameter.is_conj()
    meter = UpdateRatioMeter()
    before = meter.sample(holding(parameter), 5)
    with torch.no_grad():
        parameter.mul_(1.5)
    found = meter.ratios(before)
    assert found is not None
    assert float(found.values[0]) == pytest.approx(0.5)


def test_nothing_changed_is_a_ratio_of_0_without_error() -> None:
    weights = torch.randn(100, 64)
    found = compared([weights], [weights], 5)
    assert (found.values.tolist(), found.errors.tolist()) == ([0.0], [0.0])  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", [None, 0])
def test_what_is_not_finite_shows(seed: int | None) -> None:
    weights = torch.ones(3, 4)
    for value in (math.nan, math.inf):
        found = compared([weights, weights], [torch.full((3, 4), value), 2 * weights], seed).values.tolist()
        assert not math.isfinite(found[0])
        assert found[1] == 1.0


def test_vectors_count_where_there_is_nothing_else_and_tensors_without_gradient_do_not() -> None:
    matrix, vector = torch.ones(2, 3, requires_grad=True), torch.ones(5, requires_grad=True)
    meter = UpdateRatioMeter()
    for keep in (meter.copy, lambda optimizer: meter.sample(optimizer, 0)):
        assert keep(holding(vector, matrix)).parameters == [matrix]
        assert keep(holding(vector)).parameters == [vector]
        nothing = keep(SimpleNamespace(param_groups=[{"params": [torch.ones(2, 2, requires_grad=True)]}]))
        assert nothing.parameters == []
        assert meter.ratios(nothing) is None
