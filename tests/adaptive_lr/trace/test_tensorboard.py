"""What TensorBoard reads from a trace is what was recorded, at the step where it was used."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.custom_scalar import layout_pb2
from torch.utils.tensorboard import SummaryWriter

from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.trace import Header, Trace, Update
from adaptive_lr.trace.event_file import _masked_checksum
from laws import Script


def accumulated(directory: Path) -> Any:
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), read by TensorBoard; scalars of the old style are read as scalars or as tensors."""
    accumulator = accumulated(directory)
    found = {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}
    for tag in accumulator.Tags()["tensors"]:
        events = accumulator.Tensors(tag)
        if events[0].tensor_proto.dtype == 1:
            found[tag] = [(event.step, event.tensor_proto.float_val[0]) for event in events]
    return found


def texts(directory: Path, tag: str) -> list[tuple[int, str]]:
    events = accumulated(directory).Tensors(f"{tag}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events]


def single(value: float) -> float:
    """The float32 that an event file can hold."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


@pytest.mark.parametrize("target", ["directory", "writer"])
def test_every_quantity_has_its_tag_and_its_step(tmp_path: Path, run: Callable[..., Any], target: str) -> None:
    writer = SummaryWriter(str(tmp_path)) if target == "writer" else None
    live = run(Trace(tmp_path if writer is None else writer), (Script((1.0, 0.5)),), groups=("body", "head")).train(5)
    live.observe(val_loss=0.25, accuracy=0.75)
    live.trace.close()
    if writer is not None:
        writer.close()
    found = scalars(tmp_path)
    updates = live.updates
    for index, group in enumerate(("body", "head")):
        assert found[f"lr/{group}"] == [(u.step, single(u.lr[index])) for u in updates]
        assert found[f"lr_base/{group}"] == [(u.step, single(u.base_lr[index])) for u in updates]
        assert found[f"momentum/{group}"] == [(u.step, single(0.9)) for u in updates]
    assert found["lr_factor/script"] == found["lr_factor/total"] == [(u.step, u.factor) for u in updates]
    after = [row for row in live.rows if row.phase is Phase.AFTER]
    assert found["loss/train"] == [(row.step, single(row.values["loss"])) for row in after]
    assert found["gradient/grad_norm"] == [(row.step, single(row.values["grad_norm"])) for row in after]
    assert found["gradient_group/head/grad_norm"] == [(r.step, single(r.groups[1]["grad_norm"])) for r in after]
    assert found["loss/val_loss"] == [(5, 0.25)]
    assert found["metric/accuracy"] == [(5, 0.75)]
    assert found["reflex/damp"] == [(step, 1.0) for step in range(5)]
    assert found["reflex/skipped"] == [(step, 0.0) for step in range(5)]


def test_all_scalars_of_a_step_share_one_event(tmp_path: Path, run: Callable[..., Any]) -> None:
    run(Trace(tmp_path)).train(4).trace.close()
    (path,) = tmp_path.glob("*tfevents*")
    events = [event for event in EventFileLoader(str(path)).Load() if event.HasField("summary")]
    steps = [event.step for event in events if event.summary.value[0].tag == "gradient/grad_norm"]
    assert steps == [0, 1, 2, 3]
    assert len(events) == 4 + 2  # and the layout and the setup
    assert len(events[-1].summary.value) == 2 + 3 + 2 + 2 + 1  # gradient; lr and factor; reflex; momentum; loss


def test_optimizers_without_momentum_and_groups_added_later_are_shown(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    trace.begin(Header("SGD", ("body",)))
    trace.record_update(Update(0, (0.1,), (0.1,), (None,), (None,), 1.0, ()))
    trace.record_update(Update(1, (0.1, 0.2), (0.1, 0.2), (None, 0.5), (None, 0.5), 1.0, ()))
    trace.close()
    found = scalars(tmp_path)
    assert found["lr/body"] == [(0, single(0.1)), (1, single(0.1))]
    assert found["lr/1"] == [(1, single(0.2))]
    assert found["momentum/1"] == [(1, 0.5)]
    assert "momentum/body" not in found


def test_every_thins_steps_but_never_evaluations_or_the_record(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path, every=3)).train(8)
    live.observe(val_loss=1.0)
    live.trace.close()
    found = scalars(tmp_path)
    assert [step for step, _ in found["lr/0"]] == [step for step, _ in found["loss/train"]] == [0, 3, 6]
    assert found["loss/val_loss"] == [(8, 1.0)]
    assert len((tmp_path / "trace.jsonl").read_bytes().splitlines()) == 1 + len(live.rows) + len(live.updates)


def test_values_that_float32_cannot_hold_break_nothing(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, 1e300, 5e-324, -0.0, 1.0]
    trace = Trace(tmp_path)
    for step, value in enumerate(values):
        trace.record(Statistics(step, Phase.AFTER, {"loss": value}))
    trace.close()
    found = [value for _, value in scalars(tmp_path)["loss/train"]]
    assert [struct.pack("<f", value) for value in found[1:]] == [struct.pack("<f", single(v)) for v in values[1:]]
    assert math.isnan(found[0])


def test_the_layout_shows_base_factors_and_effective_rate_together(tmp_path: Path, run: Callable[..., Any]) -> None:
    run(Trace(tmp_path), (Script(),), groups=("a.b", "c")).train(1).trace.close()
    (event,) = accumulated(tmp_path).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    (category,) = layout.category
    expressions = {chart.title: list(chart.multiline.tag) for chart in category.chart}
    assert expressions["learning rate of group a.b: base and effective"] == [r"lr(_base)?/a\.b$"]
    assert [r"lr(_base|_factor)?/"] in expressions.values()
    assert len(expressions) == len(category.chart) == 9


def test_decisions_and_the_setup_are_text(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path), (Script((1.0, 1.0, 0.5)),)).train(2)
    live.trace.close()
    found = texts(tmp_path, "decisions/script")
    assert [step for step, _ in found] == [0, 0, 1]  # after the START row and after each update
    assert "**step 1, script: script**" in found[-1][1]
    assert "> row 2" in found[-1][1]
    assert "factor 1 → 0.5" in found[-1][1]
    (setup,) = texts(tmp_path, "setup")
    assert "**SGD**" in setup[1]
    assert "| factors | `(1.0, 1.0, 0.5)` |" in setup[1]


def test_a_resumed_run_hides_the_events_it_replaces(tmp_path: Path, run: Callable[..., Any]) -> None:
    first = run(Trace(tmp_path)).train(4)
    saved = first.save()
    first.train(6).trace.close()
    second = run(Trace(tmp_path))
    second.load(saved)
    second.train(2).trace.close()
    assert [step for step, _ in scalars(tmp_path)["lr/0"]] == [0, 1, 2, 3, 4, 5]


def test_a_new_run_in_an_old_directory_hides_the_old_one(tmp_path: Path, run: Callable[..., Any]) -> None:
    run(Trace(tmp_path)).train(5).trace.close()
    run(Trace(tmp_path)).train(2).trace.close()
    assert [step for step, _ in scalars(tmp_path)["lr/0"]] == [0, 1]


def test_nothing_that_a_user_wrote_to_a_summary_writer_is_hidden(tmp_path: Path, run: Callable[..., Any]) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("mine/samples", 1.0, 100_000)
        live = run(Trace(writer)).train(3)
        saved = live.save()
        live.train(1)
        live.load(saved)
        live.train(1).trace.close()
        writer.add_scalar("mine/samples", 2.0, 200_000)
    assert scalars(tmp_path)["mine/samples"] == [(100_000, 1.0), (200_000, 2.0)]


@settings(deadline=None, max_examples=150)
@given(st.binary(min_size=4, max_size=1600))
def test_the_checksum_is_tensorboards(data: bytes) -> None:
    assert struct.unpack("<I", _masked_checksum(data))[0] == masked_crc32c(data)


@pytest.mark.parametrize("size", [4, 8, 511, 512, 513, 1024, 1027, 5000])
def test_the_checksum_is_right_at_the_edges_of_its_blocks(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert struct.unpack("<I", _masked_checksum(data))[0] == masked_crc32c(data)


@pytest.mark.parametrize(("every", "points"), [(1, [1, 0, 2, 0, 0, 1]), (4, [1, 2])])
def test_waits_for_the_device_are_counted_from_point_to_point(tmp_path: Path, every: int, points: list[int]) -> None:
    trace = Trace(tmp_path, every=every)
    trace.begin(Header("SGD", ("0",)))
    for step, stalls in enumerate([1, 0, 2, 0, 0, 1]):
        trace.record_update(Update(step, (0.1,), (0.1,), (None,), (None,), 1.0, (), stalls=stalls))
    trace.close()
    assert scalars(tmp_path)["host/stalls"] == [(step * every, count) for step, count in enumerate(points)]


def test_a_run_whose_rows_are_read_at_once_shows_no_waits(tmp_path: Path, run: Callable[..., Any]) -> None:
    run(Trace(tmp_path)).train(3).trace.close()
    assert "host/stalls" not in scalars(tmp_path)
