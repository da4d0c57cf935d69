"""Tensors spread over processes are measured as the whole tensors are, each element once, alike on every process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import processes
from adaptive_lr_kernels import STATISTICS, measure, shards

Results = list[dict[str, Any]]


@pytest.fixture(scope="module", params=[2, 4])
def results(request: pytest.FixtureRequest) -> Results:
    return processes.run("spread_tensors", request.param)


def test_statistics_are_those_of_the_whole_tensors(results: Results) -> None:
    """Plain, sharded (unevenly, to nothing), replicated, on one- and two-dimensional meshes and slices, in any mix.

    Only float32 and bfloat16 depend on how the elements are grouped, since their squares are added in float32; the
    tolerance is the rounding of at most 64 of them, and of a mean or a cosine it is absolute.
    """
    assert sum(case["exact"] for case in results[0]["random"]) > 5
    for case in results[0]["random"]:
        rounding = 1e-14 if case["exact"] else 64 * 2.0**-24
        for form in ("grouped", "each"):
            for level, values in case[form].items():
                assert values.keys() == case["truth"][level].keys()
                for name, found in values.items():
                    expected = case["truth"][level][name]
                    scale = max(map(abs, case["truth"]["overall"]["grad_max"])) if name == "grad_mean" else 1.0
                    absolute = scale * rounding if name in ("grad_mean", "alignment") else 0.0
                    np.testing.assert_allclose(found, expected, rtol=8 * rounding, atol=absolute, err_msg=name)


def test_every_process_has_the_same_bits(results: Results) -> None:
    for name in ("random", "nonfinite", "replicas that differ", "views"):
        assert len({repr(result[name]) for result in results}) == 1


def test_what_is_not_finite_on_one_process_is_so_everywhere(results: Results) -> None:
    """In a shard, in a replica that is not counted, and in all replicas alike; an infinity stays one."""
    for name, measured in results[0]["nonfinite"].items():
        found = {statistic: values[0] for statistic, values in measured["overall"].items()}
        assert found["nonfinite"] == 1
        assert math.isnan(found["alignment"])
        assert math.isnan(found["grad_variance"])
        if "nan" in name:
            assert all(math.isnan(found[statistic]) for statistic in ("grad_norm", "grad_max", "grad_mean"))
        else:
            assert (found["grad_norm"], found["grad_max"]) == (math.inf, math.inf)
            assert found["grad_mean"] == (-math.inf if "-inf" in name else math.inf)


def test_of_replicas_that_differ_the_first_counts(results: Results) -> None:
    """Except for the largest magnitude, which is anyone's."""
    found = {statistic: values[0] for statistic, values in results[0]["replicas that differ"]["overall"].items()}
    assert (found["grad_norm"], found["grad_mean"], found["grad_max"]) == (2.0, 1.0, len(results))


def test_views_of_shards_are_measured(results: Results) -> None:
    """A transposed bfloat16 DTensor, and a replica that an operation made, against the elements written out."""
    elements = np.concatenate([np.arange(6.0 * len(results)), np.ones(3)])
    found = {statistic: values[0] for statistic, values in results[0]["views"]["overall"].items()}
    np.testing.assert_allclose(found["grad_norm"], np.linalg.norm(elements), rtol=1e-6)
    np.testing.assert_allclose(found["grad_mean"], elements.mean(), rtol=1e-6)
    np.testing.assert_allclose(found["grad_variance"], elements.var(), rtol=1e-6)


def test_a_group_measures_its_own_tensors(results: Results) -> None:
    for rank, result in enumerate(results):
        first = rank // 2 * 2 + 1
        expected = math.sqrt(2 * first**2 + 2 * (first + 1) ** 2)
        np.testing.assert_allclose(result["group of two"]["overall"]["grad_norm"], [expected], rtol=1e-6)


# One process that takes itself for one of four: nothing is sent.


@pytest.fixture(params=range(4))
def rank(request: pytest.FixtureRequest) -> Iterator[int]:
    dist.init_process_group("fake", store=FakeStore(), rank=request.param, world_size=4)
    yield request.param
    dist.destroy_process_group()


def spread(mesh: Any, *placements: Any, held: torch.Tensor | None = None) -> torch.Tensor:
    return DTensor.from_local(torch.ones(2, 2) if held is None else held, mesh, placements, run_check=False)


def counts(tensor: torch.Tensor) -> bool:
    return shards.counted("gradients", [tensor], dist.group.WORLD)[0]


def test_each_element_is_counted_by_one_process(rank: int) -> None:
    row = init_device_mesh("cpu", (4,))
    square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    first, second = divmod(rank, 2)
    assert counts(torch.ones(3)) is (rank == 0)
    assert counts(spread(row, Shard(0))) is True
    assert counts(spread(row, Replicate())) is (rank == 0)
    assert counts(spread(square, Shard(0), Shard(1))) is True
    assert counts(spread(square, Replicate(), Shard(0))) is (first == 0)
    assert counts(spread(square, Shard(0), Replicate())) is (second == 0)
    assert counts(spread(square, Replicate(), Replicate())) is (rank == 0)


def test_a_slice_of_a_mesh_stands_for_replicas_over_the_other_dimensions(rank: int) -> None:
    """As of a layer that is sharded for data parallelism alone, in a model that is tensor-parallel elsewhere."""
    square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    assert counts(spread(square["data"], Shard(0))) is (rank % 2 == 0)
    assert counts(spread(square["tensor"], Replicate())) is (rank == 0)


def test_a_slice_counts_where_it_is_all_of_the_group(rank: int) -> None:
    """As where every stage of a pipeline is controlled by itself."""
    square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("stage", "data"))
    stages = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    stage = stages[rank // 2]
    assert shards.counted("gradients", [spread(square["data"], Shard(0)), torch.ones(1)], stage) == (
        True,
        rank % 2 == 0,
    )


@pytest.mark.parametrize("rank", [1], indirect=True)
def test_sums_that_nobody_has_made_are_refused(rank: int) -> None:
    row = init_device_mesh("cpu", (4,))
    with pytest.raises(
        ValueError, match=r"gradients\[1\] must have Shard and Replicate placements only; got .*Partial"
    ):
        measure([torch.ones(1), spread(row, Partial())], process_group=dist.group.WORLD)


@pytest.mark.parametrize("rank", [1], indirect=True)
def test_a_shard_is_never_measured_as_if_it_were_the_whole(rank: int) -> None:
    row = init_device_mesh("cpu", (4,))
    with pytest.raises(ValueError, match=r"gradients\[0\] is a DTensor over 4 processes: process_group must hold them"):
        measure([spread(row, Shard(0))])


@pytest.mark.parametrize("rank", [1], indirect=True)
def test_parameters_and_momenta_must_be_spread_as_their_gradient(rank: int) -> None:
    row = init_device_mesh("cpu", (4,))
    gradient = spread(row, Shard(0))
    for name in ("parameters", "momenta"):
        for other in (spread(row, Shard(1)), torch.ones(2, 2)):
            with pytest.raises(ValueError, match=rf"{name}\[0\] must be spread over the processes as gradients\[0\]"):
                measure([gradient], process_group=dist.group.WORLD, **{name: [other]})


@pytest.mark.parametrize("rank", [1], indirect=True)
def test_what_is_in_a_shard_is_checked_as_any_tensor(rank: int) -> None:
    row = init_device_mesh("cpu", (4,))
    with pytest.raises(TypeError, match=r"gradients\[0\] must have a floating-point or complex dtype.*int64"):
        measure([spread(row, Shard(0), held=torch.ones(2, dtype=torch.int64))], process_group=dist.group.WORLD)


@pytest.mark.parametrize("rank", [1], indirect=True)
def test_statistics_per_tensor_are_there_only_where_they_were_gathered(rank: int) -> None:
    found = measure([torch.ones(2)], process_group=dist.group.WORLD)
    assert len(found.per_tensor) == 0
    with pytest.raises(KeyError, match=r"'grad_norm' was not gathered per tensor: measure\(..., per_tensor=True\)"):
        found.per_tensor["grad_norm"]


@pytest.mark.parametrize("rank", [1], indirect=True)
@pytest.mark.parametrize("per_tensor", [False, True])
def test_nothing_is_read_on_the_host(rank: int, per_tensor: bool) -> None:
    """So nothing waits for a device: here for one that holds no values at all."""
    plain = torch.ones(3, 2, device="meta")
    sharded = spread(init_device_mesh("cpu", (4,)), Shard(0), held=plain)
    found = measure(
        [plain, sharded, None, plain],
        parameters=[plain, sharded, plain, plain],
        momenta=[plain, sharded, None, None],
        groups=[1, 0, 0, 1],
        process_group=dist.group.WORLD,
        per_tensor=per_tensor,
    )
    assert {name: tuple(values.shape) for name, values in found.per_group.items()} == dict.fromkeys(STATISTICS, (2,))
    assert all(values.is_meta for values in found.overall.values())


def test_a_mesh_of_one_process_needs_no_group() -> None:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    try:
        alone = spread(init_device_mesh("cpu", (1,)), Shard(0))
        assert float(measure([alone, torch.ones(12)]).overall["grad_norm"]) == pytest.approx(4.0, rel=1e-6)
    finally:
        dist.destroy_process_group()


def test_placements_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="placed_as must have one entry per gradient, 1; got 2"):
        measure([torch.ones(1)], placed_as=[torch.ones(1)] * 2)
