"""Processes that train one model decide as one: as a single process does that holds the whole model and batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import processes
from adaptive_lr import AdaptiveLR
from adaptive_lr.ranks import SLOTS, Ranks
from spread_ratios import RATIO_KINDS, SEEDS
from spread_training import DONE, POISON, SCALES

Results = list[dict[str, Any]]

TRAINED = [(world, kind, run) for world, runs in DONE.items() for run, kinds in runs.items() for kind in kinds[1:]]


@pytest.fixture(scope="module")
def results() -> dict[int, Results]:
    return {world: processes.run("spread_control", world) for world in DONE}


@pytest.mark.parametrize(("world", "kind", "run"), TRAINED)
def test_all_processes_decide_alike(results: dict[int, Results], world: int, kind: str, run: str) -> None:
    """The same decisions, values to the last bit, rates, factor; and the same weights."""
    first, *others = (result[f"{kind} {run}"] for result in results[world])
    for other in others:
        for name in ("decisions", "norms", "rates", "factor", "stop"):
            assert repr(other[name]) == repr(first[name])
        assert torch.equal(other["weights"], first["weights"])


@pytest.mark.parametrize(("world", "kind", "run"), TRAINED)
def test_they_decide_as_one_process_does(results: dict[int, Results], world: int, kind: str, run: str) -> None:
    """On the same global batch, within the rounding of float32 over the run."""
    spread, single = (results[world][0][f"{of} {run}"] for of in (kind, "single"))
    assert single["decisions"]
    assert [decision[:5] for decision in spread["decisions"]] == [decision[:5] for decision in single["decisions"]]
    values = ([decision[5] for decision in run["decisions"]] for run in (spread, single))
    np.testing.assert_allclose(*values, rtol=1e-4)
    for name, tolerance in (("norms", 1e-5), ("rates", 1e-4), ("factor", 1e-4)):
        np.testing.assert_allclose(spread[name], single[name], rtol=tolerance, err_msg=name)
    difference = (spread["weights"] - single["weights"]).norm() / single["weights"].norm()
    assert difference < 1e-5


@pytest.mark.parametrize("world", DONE)
def test_the_runs_hold_every_kind_of_decision(results: dict[int, Results], world: int) -> None:
    """Otherwise the two tests above would say little."""
    result = results[world][0]
    spikes = [(decision[0], decision[3]) for decision in result["single sgd"]["decisions"]]
    (damped, _), (left_out, _) = SCALES.items()
    assert spikes == [(damped, "damp"), (left_out, "skip"), (POISON, "skip"), (POISON, "back off")]
    assert {decision[3] for decision in result["single destroyed"]["decisions"]} == {"rescue", "hold"}
    assert {"sweep", "peak"} <= {decision[3] for decision in result["single automatic"]["decisions"]}


@pytest.mark.parametrize(("world", "kind"), [(2, "ddp"), (4, "fsdp_tp")])
def test_a_nan_on_one_process_skips_the_update_of_all(results: dict[int, Results], world: int, kind: str) -> None:
    assert all(math.isnan(result[f"{kind} sgd"]["norms"][POISON]) for result in results[world])
    assert all(result[f"{kind} sgd"]["weights"].isfinite().all() for result in results[world])


@pytest.mark.parametrize(("world", "kind", "watched"), [(2, "ddp", 1), (2, "tp", 2), (4, "fsdp_tp", 2)])
def test_a_step_sends_one_message_before_the_update_and_one_after(
    results: dict[int, Results], world: int, kind: str, watched: int
) -> None:
    """One more for the update-to-weight ratio of DTensors while it is watched; and no DTensor operation at all."""
    for result in results[world]:
        found = result[f"messages {kind}"]
        assert found["guarded"] == {"update": watched, "step": 1, "operations": 0}
        assert found["unwatched"] == {"update": 1, "step": 1, "operations": 0}
        assert (found["seen by the counter"] > 0) is (kind != "ddp")


@pytest.mark.parametrize("world", DONE)
def test_the_laws_see_the_mean_of_each_metric(results: dict[int, Results], world: int) -> None:
    """What is not finite on one process is so for all. Only the first writes a trace, and all measure for it."""
    rows = results[world][0]["losses"]
    after = [row for row in rows if row["phase"] == "after"]
    mean = (world - 1) / 2
    assert after[0]["loss"] == mean
    assert math.isnan(after[1]["loss"])
    assert after[2]["loss"] == -math.inf
    assert [row["accuracy"] for row in after] == [2 * mean] * 3
    few, many = (row for row in rows if row["phase"] == "observation")
    assert few["val_loss"] == mean
    assert [many[f"metric {index:02}"] for index in range(2 * SLOTS)] == [mean + index for index in range(2 * SLOTS)]
    assert all(row["update_ratio"] > 0 for row in after)


RATIOS = [(world, kind) for world, kinds in RATIO_KINDS.items() for kind in kinds[1:]]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("world", "kind"), RATIOS)
def test_the_update_to_weight_ratio_is_that_of_whole_tensors(
    results: dict[int, Results], world: int, kind: str, late: bool
) -> None:
    """Of each tensor and of the same bits on each process, whichever of them asked for it, read at once or late."""
    name = f"late ratios {kind}" if late else f"ratios {kind}"
    single = results[world][0]["ratios single"]
    assert set(single["whole"]) == {"0.weight", "2.weight", "4.weight"}
    for result in results[world]:
        for how in ("whole", "sampled"):
            assert result[name][how] == results[world][0][name][how]
            assert result[name][how] == pytest.approx(single[how], rel=1e-5)
            assert set(result[name][f"{how} errors"]) == (set() if how == "whole" else {0.0})


@pytest.mark.parametrize(("world", "kind"), RATIOS)
def test_an_estimate_from_shards_is_of_whole_tensors(results: dict[int, Results], world: int, kind: str) -> None:
    """Unbiased within 5 standard errors and what a quotient of 16 elements allows; errors as they are stated."""
    exact = np.array(list(results[world][0]["ratios single"]["whole"].values()))
    for result in results[world]:
        values, errors = result[f"estimates {kind}"].numpy()
        assert np.array_equal(values, results[world][0][f"estimates {kind}"][0].numpy())
        squares, scatter = values**2, values.std(0)
        assert (abs(squares.mean(0) - exact**2) <= 5 * squares.std(0) / math.sqrt(SEEDS) + 4 * scatter**2).all()
        assert (scatter <= 1.25 * np.sqrt((errors**2).mean(0))).all()


def test_processes_that_differ_are_refused_on_all_of_them(results: dict[int, Results]) -> None:
    for result in results[2]:
        found = result["differences"]
        for name, part in (("lag", "lag"), ("laws", "controller rescue"), ("parameters", "the shapes of the param")):
            assert "all ranks of process_group must attach alike; rank 1 differs from rank 0 in " + part in found[name]
        for name in ("names", "number of names"):
            assert "must call step and observe together, with metrics of the same names" in found[name]
        assert found["alike"] == "accepted"


def test_ordinary_parameters_that_are_no_replicas_are_warned_of(results: dict[int, Results]) -> None:
    for result in results[2]:
        assert "but their norm is 1.73205 on rank 0 and 3.4641 on rank 1" in result["differences"]["weights"]


@pytest.mark.parametrize("world", DONE)
def test_a_group_decides_for_itself(results: dict[int, Results], world: int) -> None:
    """A pair of processes counts the gradient of its first and averages its losses; None is alone with its own."""
    for rank, result in enumerate(results[world]):
        first = rank // 2 * 2
        length = math.sqrt(2.0)
        for name, gradient, loss in (("pair", first, first + 0.5), ("alone", rank, float(rank))):
            before, after = result["groups"][name]
            np.testing.assert_allclose((before[0], after[0], after[1]), (gradient * length, gradient * length, loss))


@pytest.mark.parametrize("world", DONE)
def test_shards_outside_the_group_are_refused(results: dict[int, Results], world: int) -> None:
    for result in results[world]:
        found = result["groups"]
        assert f"DTensor over {world} processes: process_group must hold them all; got None" in found["sharded, alone"]
        if world == 4:
            assert "DTensor over the processes [0, 1, 2, 3]" in found["sharded, too few"]
            assert found["foreign"] == "process_group must hold this process, got a group that it is not a member of"


@pytest.mark.parametrize(("world", "kind"), [(2, "fsdp"), (2, "tp"), (4, "fsdp_tp")])
def test_a_snapshot_of_shards_goes_through_a_file(results: dict[int, Results], world: int, kind: str) -> None:
    """And brings weights and momenta back bit for bit."""
    assert all(result[f"checkpoint {kind}"] for result in results[world])


def test_a_lag_delays_all_processes_alike(results: dict[int, Results]) -> None:
    lagged, single = results[2][0]["lagged"], results[2][0]["single lagged"]
    assert single["decisions"]
    assert [decision[:5] for decision in lagged["decisions"]] == [decision[:5] for decision in single["decisions"]]
    np.testing.assert_allclose(lagged["rates"], single["rates"], rtol=1e-4)
    assert repr(results[2][1]["lagged"]["rates"]) == repr(lagged["rates"])


def test_a_resumed_run_goes_on_exactly(results: dict[int, Results]) -> None:
    for result in results[2]:
        resumed, uninterrupted = result["resumed"], result["fsdp sgd"]
        assert repr(resumed["decisions"]) == repr(uninterrupted["decisions"])
        assert torch.equal(resumed["weights"], uninterrupted["weights"])


# One process that takes itself for one of several: nothing is sent.


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2))]


def fake(world: int) -> None:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)


def test_auto_is_the_default_group_where_there_is_one_of_several() -> None:
    assert Ranks.of("auto", weights()) is None
    for world in (1, 3):
        fake(world)
        try:
            found = Ranks.of("auto", weights())
            assert (found is None) is (world == 1)
            assert found is None or found.group is dist.group.WORLD
            assert Ranks.of(None, weights()) is None
        finally:
            dist.destroy_process_group()


def test_other_things_are_no_process_groups() -> None:
    optimizer = torch.optim.SGD(weights(), lr=0.1)
    with pytest.raises(ValueError, match="process_group must be \"auto\", a ProcessGroup or None, got 'world'"):
        AdaptiveLR(optimizer, process_group="world")
    with pytest.raises(TypeError, match='process_group must be "auto", a ProcessGroup or None, got int'):
        AdaptiveLR(optimizer, process_group=3)
    AdaptiveLR(optimizer).detach()  # nothing was changed


def test_an_exchange_reads_nothing_on_the_host() -> None:
    """So it can be made on a device that is not waited for: here one that holds no values at all."""
    fake(2)
    try:
        ranks = Ranks(dist.group.WORLD, torch.device("meta"))
        found = ranks.exchange((3,), {"loss": torch.ones((), device="meta"), "accuracy": 0.5}, {"update_ratio": 0.1})
        assert (found.alike.shape, found.means.shape, found.largest.shape) == ((), (2,), (1,))
    finally:
        dist.destroy_process_group()


def test_shards_that_look_like_whole_tensors_are_refused() -> None:
    parameters = weights()
    parameters[0]._fsdp_flattened = True  # as the first FSDP marks them
    fake(2)
    try:
        with pytest.raises(ValueError, match="process_group cannot be used with FullyShardedDataParallel"):
            Ranks.of("auto", parameters)
        assert Ranks.of(None, parameters) is None
    finally:
        dist.destroy_process_group()
