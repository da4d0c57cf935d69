"""A record is the run as it was: whatever was interrupted, resumed or begun anew, and it decides the same again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from adaptive_lr.controllers import Adjustment, Composition, Controller, Reason
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.trace import Header, Trace, Update, describe_controllers, read_trace, replay
from laws import Reflex, Script


class Level(NamedTuple):
    mean: float = 0.0
    factor: float = 1.0


@dataclass(frozen=True)
class Smoother(Controller[Level]):
    """A law whose every decision depends on every row before it, so that one lost bit shows."""

    rates: tuple[float, ...] = (0.1, 0.3)
    phase = Phase.AFTER

    def init(self) -> Level:
        return Level()

    def update(self, state: Level, statistics: Statistics) -> tuple[Level, Adjustment]:
        value = statistics.get("loss") or statistics.get("val_loss")
        if value is None:
            return state, Adjustment(factor=state.factor)
        mean = state.mean + self.rates[statistics.step % len(self.rates)] * (value - state.mean)
        factor = 1.0 / (1.0 + abs(mean))
        return Level(mean, factor), Adjustment(factor, reasons=(Reason("move", "loss", value, mean, f"{mean!r}"),))


# -------------------------------------------------------------------- reading


def test_the_path_may_be_the_directory_or_the_file(tmp_path: Path, run: Callable[..., Any]) -> None:
    run(Trace(tmp_path)).train(1).trace.close()
    assert read_trace(tmp_path) == read_trace(str(tmp_path / "trace.jsonl"))


def test_no_trace_and_no_header_are_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no trace at .*expected trace.jsonl"):
        read_trace(tmp_path)
    for text in ("", '{"version":', '{"schema": 3, "run": {}}'):  # torn, or no trace at all: no word of a last line
        (tmp_path / "trace.jsonl").write_text(text)
        with pytest.raises(ValueError, match="holds no run yet"):
            read_trace(tmp_path)


def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path)).train(2)
    live.trace.close()
    path = tmp_path / "trace.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.warns(RuntimeWarning, match="the last line is torn and left out"):
        record = read_trace(tmp_path)
    assert record.rows == tuple(live.rows[:-1])
    assert record.updates == tuple(live.updates)


@pytest.mark.parametrize("damage", ["{", '{"kind":"row"}', "\0\0\0", '"a"'])
def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(
    tmp_path: Path, run: Callable[..., Any], damage: str
) -> None:
    run(Trace(tmp_path)).train(2).trace.close()
    path = tmp_path / "trace.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = damage
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"trace.jsonl, line 4, is damaged: "):
        read_trace(tmp_path)


def test_arrays_hold_exactly_what_was_used(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    trace.begin(Header("SGD", ("body",), ({"name": "a", "class": "", "configuration": {}},)))
    updates = [
        Update(0, (0.1,), (0.2,), (None,), (None,), 0.5, (0.5,)),
        Update(1, (5e-324, 1 / 3), (0.2, 0.3), (0.9, None), (0.9, None), 1 / 3, (1 / 3,), damp=0.5, skipped=True),
    ]
    for update in updates:
        trace.record_update(update)
    trace.record(Statistics(0, Phase.BEFORE, {"grad_norm": 1.0}))
    trace.record(Statistics(0, Phase.AFTER, {"grad_norm": 1.0, "loss": 2.0}))
    trace.record(Statistics(1, Phase.OBSERVATION, {"loss": 3.0}))
    trace.close()
    record = read_trace(tmp_path)
    np.testing.assert_array_equal(record.steps(), [0, 1])
    np.testing.assert_array_equal(record.lrs(), [0.1, 5e-324])
    np.testing.assert_array_equal(record.lrs("body"), [0.1, 5e-324])
    np.testing.assert_array_equal(record.lrs(1), [math.nan, 1 / 3])
    np.testing.assert_array_equal(record.base_lrs(), [0.2, 0.2])
    np.testing.assert_array_equal(record.momenta(), [math.nan, 0.9])
    np.testing.assert_array_equal(record.factors(), [0.5, 1 / 3])
    np.testing.assert_array_equal(record.factors("a"), [0.5, 1 / 3])
    np.testing.assert_array_equal(record.series("loss"), [[0, 1], [2.0, 3.0]])
    np.testing.assert_array_equal(record.series("grad_norm"), [[0], [1.0]])
    np.testing.assert_array_equal(record.series("grad_norm", phase=Phase.BEFORE), [[0], [1.0]])
    assert record.lrs().dtype == np.float64
    for group in (2, -1, "head"):
        with pytest.raises(ValueError, match="group must be below 2 or one of"):
            record.lrs(group)
    with pytest.raises(ValueError, match=r"controller must be one of \['a'\], got 'b'"):
        record.factors("b")


# -------------------------------------------------------------------- resuming


def test_a_run_begun_anew_in_an_old_directory_is_read_alone(tmp_path: Path, run: Callable[..., Any]) -> None:
    run(Trace(tmp_path)).train(5).trace.close()
    second = run(Trace(tmp_path), (Script(),)).train(2)
    second.trace.close()
    record = read_trace(tmp_path)
    assert record.rows == tuple(second.rows)
    assert record.header.controller_names == ("script",)


@pytest.mark.parametrize("count_rows", [True, False])
@pytest.mark.parametrize("saved_at", range(8))
def test_a_run_resumed_in_a_new_process_reads_as_if_never_interrupted(
    tmp_path: Path, run: Callable[..., Any], saved_at: int, count_rows: bool
) -> None:
    laws = (Smoother(), Reflex(0.5, (1, 6)))
    whole = run(Trace(tmp_path / "whole"), laws).train(10)
    whole.trace.close()
    first = run(Trace(tmp_path / "parts"), laws).train(saved_at)
    saved = first.save()
    first.train(9 - saved_at).trace.close()  # goes on, and dies: what came after the checkpoint is done again
    second = run(Trace(tmp_path / "parts"), laws)
    second.load(saved, count_rows=count_rows)
    second.train(10 - saved_at).trace.close()
    record, expected = read_trace(tmp_path / "parts"), read_trace(tmp_path / "whole")
    assert (record.rows, record.updates) == (expected.rows, expected.updates)
    assert repr(record.decisions) == repr(expected.decisions)
    assert record.resumes == (saved_at,)
    assert record.complete
    assert repr(replay(record)) == repr(record.decisions)


def test_a_run_may_be_resumed_several_times_and_fail_to_start_between(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path), (Smoother(),)).train(4)
    saved = live.save()
    live.train(2).trace.close()
    run(Trace(tmp_path), (Smoother(),)).trace.close()  # dies before it loads the state
    third = run(Trace(tmp_path), (Smoother(),))
    third.load(saved)
    third.train(3)
    again = third.save()
    third.train(2).trace.close()
    fourth = run(Trace(tmp_path), (Smoother(),))
    fourth.load(again)
    fourth.train(1).trace.close()
    record = read_trace(tmp_path)
    assert [update.step for update in record.updates] == list(range(8))
    assert record.resumes == (4, 7)
    assert repr(replay(record)) == repr(record.decisions)


def test_a_state_loaded_in_mid_run_takes_back_what_came_after_it(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path), (Smoother(),)).train(3)
    saved = live.save()
    live.train(4)
    live.load(saved)
    live.train(2).trace.close()
    record = read_trace(tmp_path)
    assert [update.step for update in record.updates] == [0, 1, 2, 3, 4]
    assert repr(replay(record)) == repr(record.decisions)


@pytest.mark.parametrize("observed_before", [True, False])
def test_an_evaluation_counts_if_it_was_made_before_the_state_was_saved(
    tmp_path: Path, run: Callable[..., Any], observed_before: bool
) -> None:
    live = run(Trace(tmp_path), (Smoother(),)).train(3)
    if observed_before:
        live.observe(val_loss=0.5)
    saved = live.save()
    if not observed_before:
        live.observe(val_loss=0.5)
    live.load(saved)
    live.train(1).trace.close()
    record = read_trace(tmp_path)
    assert (Phase.OBSERVATION in [row.phase for row in record.rows]) == observed_before
    assert repr(replay(record)) == repr(record.decisions)


def test_rows_that_were_under_way_when_the_state_was_saved_are_not_doubled(tmp_path: Path) -> None:
    """With a lag, the rows of the last updates before a checkpoint reach the controllers after it."""
    trace = Trace(tmp_path)
    header = Header("SGD", ("0",), lag=2)
    trace.begin(header)
    update = Update(0, (0.1,), (0.1,), (None,), (None,), 1.0, ())
    for step in range(6):
        trace.record_update(Update(step, *[getattr(update, name) for name in Update.__slots__[1:]]))
        if step >= 2:
            trace.record(Statistics(step - 2, Phase.AFTER, {"loss": float(step)}))
    trace.begin(header)
    trace.resume(4, rows=2)  # four updates were done, the rows of two of them were seen
    for step in range(4, 7):
        trace.record_update(Update(step, *[getattr(update, name) for name in Update.__slots__[1:]]))
        trace.record(Statistics(step - 2, Phase.AFTER, {"loss": float(step)}))
    trace.close()
    record = read_trace(tmp_path)
    assert [row.step for row in record.rows] == [0, 1, 2, 3, 4]
    assert [update.step for update in record.updates] == [0, 1, 2, 3, 4, 5, 6]


def test_a_run_resumed_in_another_directory_says_that_its_beginning_is_missing(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    saved = run(Trace(tmp_path / "a"), (Smoother(),)).train(3).save()
    second = run(Trace(tmp_path / "b"), (Smoother(),))
    second.load(saved)
    second.train(2).trace.close()
    record = read_trace(tmp_path / "b")
    assert not record.complete
    assert [update.step for update in record.updates] == [3, 4]
    with pytest.raises(ValueError, match="cannot be replayed: it lacks rows from before update 3"):
        replay(record)


# -------------------------------------------------------------------- replaying


def test_replay_decides_the_same_bit_for_bit(tmp_path: Path, run: Callable[..., Any]) -> None:
    laws = (Smoother(), Reflex(0.25, (2, 5), (7,)))
    live = run(Trace(tmp_path), laws).train(40)
    live.observe(val_loss=0.1 + 0.2)
    live.train(5).trace.close()
    record = read_trace(tmp_path)
    assert repr(replay(record, laws)) == repr(record.decisions) == repr(tuple(live.decisions))
    assert len(record.decisions) == 45 + 1 + 3


def test_replay_rebuilds_the_controllers_that_the_header_names(tmp_path: Path, run: Callable[..., Any]) -> None:
    laws = Composition((Script((1.0, 0.5, 0.75), (1.0, 0.5)), Reflex(0.5, (1,))), min_factor=0.6, max_factor=2.0)
    run(Trace(tmp_path), laws).train(4).trace.close()
    record = read_trace(tmp_path)
    assert repr(replay(record)) == repr(record.decisions)
    assert record.decisions


def test_replay_with_other_controllers_tells_what_they_would_have_done(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path), (Script(),)).train(6)
    live.trace.close()
    other = run(Trace(tmp_path / "other"), (Smoother((0.2,)),)).train(6)
    assert replay(read_trace(tmp_path), Smoother((0.2,))) == tuple(other.decisions)
    assert replay(read_trace(tmp_path), ()) == ()


def test_replay_supplies_the_start_row_of_a_record_without_one(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path), (Script((0.5,)),), begin=False)
    live.trace.begin(Header("SGD", ("0",), describe_controllers(live.composition)))
    live.train(1).trace.close()
    decisions = replay(read_trace(tmp_path))
    assert (decisions[0].phase, decisions[0].factor_after) == (Phase.START, 0.5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:Law", "cannot be imported"),
        ("laws:NoSuchLaw", "cannot be imported"),
        ("laws", "cannot be imported"),
        ("builtins:dict", "must be a Controller and a dataclass"),
        ("os:system", "must be a Controller and a dataclass"),
        ("adaptive_lr.controllers.base:Controller", "must be a Controller and a dataclass"),
    ],
)
def test_replay_makes_nothing_but_controllers(tmp_path: Path, name: str, message: str) -> None:
    trace = Trace(tmp_path)
    trace.begin(Header("SGD", ("0",), ({"name": "law", "class": name, "configuration": {}},)))
    trace.close()
    with pytest.raises(ValueError, match=f"controller {name} {message}.*give controllers="):
        replay(read_trace(tmp_path))


def test_runs_before_the_last_are_counted_and_a_resumption_is_none(tmp_path: Path, run: Callable[..., Any]) -> None:
    first = run(Trace(tmp_path)).train(3)
    saved = first.save()
    first.trace.close()
    assert read_trace(tmp_path).earlier_runs == 0
    resumed = run(Trace(tmp_path))
    resumed.load(saved)
    resumed.train(2).trace.close()
    assert read_trace(tmp_path).earlier_runs == 0
    for anew in (1, 2):
        run(Trace(tmp_path)).train(1).trace.close()
        assert read_trace(tmp_path).earlier_runs == anew
    run(Trace(tmp_path)).trace.close()  # ends before its first update
    run(Trace(tmp_path)).train(1).trace.close()
    assert read_trace(tmp_path).earlier_runs == 3


def test_a_setting_that_cannot_be_written_is_said_when_the_controller_is_rebuilt(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    configuration = {"factors": math.sqrt}
    trace.begin(Header("SGD", ("0",), ({"name": "script", "class": "laws:Script", "configuration": configuration},)))
    trace.close()
    line = json.loads((tmp_path / "trace.jsonl").read_text())
    assert "sqrt" in line["controllers"][0]["configuration"]["factors"]["unwritable"]
    with pytest.raises(ValueError, match=r"laws:Script cannot be rebuilt \(its setting .*sqrt.* could not be written"):
        replay(read_trace(tmp_path))
