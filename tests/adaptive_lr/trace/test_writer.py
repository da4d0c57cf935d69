"""A trace is written completely, and never stops the training it watches."""

from __future__ import annotations

import errno
import gc
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from adaptive_lr.statistics import MEASURED_STATISTICS, Phase, Statistics
from adaptive_lr.trace import Header, Trace, Update, open_trace, read_trace, writer
from laws import Script

UPDATE = Update(0, (0.1,), (0.1,), (None,), (None,), 1.0, ())


class BrokenFile:
    """Stands in for an open file: writes `good` bytes, then fails."""

    def __init__(self, file: Any, error: BaseException, good: int = 0) -> None:
        self.file, self.error, self.good = file, error, good

    def write(self, data: Any) -> int:
        if not self.good:
            raise self.error
        done = self.file.write(data[: self.good])
        self.good = 0
        return int(done)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def use(trace: Trace, steps: int = 5) -> None:
    """Call every method a control calls."""
    trace.begin(Header("SGD", ("0",)))
    for step in range(steps):
        trace.record(Statistics(step, Phase.BEFORE, {"grad_norm": 1.0}))
        trace.record_update(UPDATE)
        trace.record_decisions(())
        trace.flush()
    trace.resume(0)
    trace.close()


def one_warning(caught: list[warnings.WarningMessage], *words: str) -> None:
    messages = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert len(messages) == 1, messages
    for word in words:
        assert word in messages[0], messages[0]


# -------------------------------------------------------------------- what is opened


def test_open_trace_takes_a_path_a_writer_a_trace_or_nothing(tmp_path: Path) -> None:
    assert open_trace(None) is None
    trace = open_trace(tmp_path / "a")
    assert isinstance(trace, Trace)
    assert open_trace(trace) is trace
    text = open_trace(str(tmp_path / "b"), statistics=("grad_max",))
    assert text is not None
    assert text.requires == {"grad_max"}
    with SummaryWriter(str(tmp_path / "c")) as summary_writer:
        on_writer = open_trace(summary_writer)
        assert on_writer is not None
        assert on_writer.path == tmp_path / "c" / "trace.jsonl"


@pytest.mark.parametrize("target", [3, 1.5, object(), ["runs"], True])
def test_anything_else_is_a_type_error_that_names_it(target: Any) -> None:
    with pytest.raises(TypeError, match="a directory or a SummaryWriter, got"):
        open_trace(target)


def test_a_trace_requires_the_statistics_it_was_asked_for(tmp_path: Path) -> None:
    assert Trace(tmp_path / "a").requires == {"grad_norm", "grad_score"}
    assert Trace(tmp_path / "b", statistics="all").requires == MEASURED_STATISTICS
    assert Trace(tmp_path / "c", statistics=()).requires == frozenset()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"statistics": ("grad_nrm",)}, r"got \['grad_nrm'\]"),
        ({"statistics": "grad_norm"}, "got the string 'grad_norm'"),
        ({"every": 0}, "every must be a whole number of steps, at least 1, got 0"),
        ({"every": 1.5}, "got 1.5"),
    ],
)
def test_bad_settings_are_value_errors(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trace(tmp_path, **settings)


# -------------------------------------------------------------------- what is written


def test_everything_recorded_reads_back_in_order(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path), (Script((1.0, 0.5, 0.25)),), groups=("body", "head")).train(6)
    live.observe(val_loss=0.5)
    live.trace.close()
    record = read_trace(tmp_path)
    assert record.rows == tuple(live.rows)
    assert record.updates == tuple(live.updates)
    assert record.decisions == tuple(live.decisions)
    assert record.complete
    assert record.resumes == ()


def test_two_traces_at_once_do_not_mix(tmp_path: Path, run: Callable[..., Any]) -> None:
    a, b = run(Trace(tmp_path / "a")), run(Trace(tmp_path / "b"))
    for _ in range(3):
        a.train(2)
        b.train(1)
    a.trace.close()
    b.trace.close()
    assert read_trace(tmp_path / "a").rows == tuple(a.rows)
    assert read_trace(tmp_path / "b").rows == tuple(b.rows)


def test_records_reach_the_disk_when_the_flush_interval_is_over(
    tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FLUSH_INTERVAL", 0.0)
    live = run(Trace(tmp_path)).train(3)
    assert read_trace(tmp_path).rows == tuple(live.rows)  # neither flushed nor closed
    monkeypatch.setattr(writer, "FLUSH_INTERVAL", 1e9)
    live.train(1)
    live.train(1)
    assert len(read_trace(tmp_path).rows) == len(live.rows) - 3  # the first row found the old interval over


def test_a_collected_trace_writes_its_end(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path)).train(2)
    rows = tuple(live.rows)
    del live
    gc.collect()
    assert read_trace(tmp_path).rows == rows


def test_a_closed_trace_ignores_what_follows(tmp_path: Path, run: Callable[..., Any]) -> None:
    live = run(Trace(tmp_path)).train(2)
    live.trace.close()
    live.trace.close()
    before = (tmp_path / "trace.jsonl").read_bytes()
    live.train(2)
    live.trace.flush()
    assert (tmp_path / "trace.jsonl").read_bytes() == before


def test_tracing_changes_no_random_state_and_no_gradient(tmp_path: Path, run: Callable[..., Any]) -> None:
    parameter = torch.ones(3, requires_grad=True)
    (parameter**2).sum().backward()
    gradient = parameter.grad.clone()  # type: ignore[union-attr]
    before = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    run(Trace(tmp_path), (Script(),)).train(5).trace.close()
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.array_equal(np.random.get_state()[1], before[2])  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


def test_a_torn_last_line_is_removed_before_more_is_appended(tmp_path: Path, run: Callable[..., Any]) -> None:
    run(Trace(tmp_path)).train(2).trace.close()
    with (tmp_path / "trace.jsonl").open("ab") as file:
        file.write(b'{"kind":"row","step":2,"pha')
    live = run(Trace(tmp_path)).train(1)
    live.trace.close()
    assert read_trace(tmp_path).rows == tuple(live.rows)


# -------------------------------------------------------------------- what fails


def test_a_path_that_is_empty_or_a_file_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    place.write_text("not a directory")
    with pytest.raises(ValueError, match="a directory or a SummaryWriter, got a file: "):
        Trace(place)
    with pytest.raises(ValueError, match="a directory or a SummaryWriter, got an empty path: ''"):
        Trace("")
    assert place.read_text() == "not a directory"


def test_nothing_is_made_before_there_is_something_to_write(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    trace.close()
    use(trace)
    assert not (tmp_path / "runs").exists()


def test_a_file_that_takes_the_directorys_place_warns_once_and_training_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    trace = Trace(place)
    place.write_text("not a directory")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(trace)
    one_warning(caught, str(place), "File exists", "training goes on")


def test_a_full_disk_warns_once_and_training_goes_on(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    (tmp_path / "trace.jsonl").symlink_to("/dev/full")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(Trace(tmp_path))
    one_warning(caught, str(tmp_path), "No space left on device")


@pytest.mark.parametrize("broken", ["record", "view"])
def test_a_disk_that_fills_in_mid_run_warns_once_and_keeps_what_was_written(tmp_path: Path, broken: str) -> None:
    trace = Trace(tmp_path)
    trace.begin(Header("SGD", ("0",)))
    for step in range(3):
        trace.record(Statistics(step, Phase.AFTER, {"loss": 1.0}))
    trace.flush()
    file: Any = trace._record if broken == "record" else trace._view._sink._file  # type: ignore[union-attr, attr-defined]
    file._file = BrokenFile(file._file, OSError(errno.ENOSPC, "No space left on device"), good=10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(trace)
    one_warning(caught, str(tmp_path), "No space left on device")
    if broken == "record":
        with pytest.warns(RuntimeWarning, match="the last line is torn"):
            assert len(read_trace(tmp_path).rows) == 3


def test_a_directory_removed_in_mid_run_warns_once(tmp_path: Path) -> None:
    trace = Trace(tmp_path / "runs")
    trace.begin(Header("SGD", ("0",)))
    trace.flush()
    for path in (tmp_path / "runs").iterdir():
        path.unlink()
    (tmp_path / "runs").rmdir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(trace)
    one_warning(caught, str(tmp_path / "runs"), "was removed")


def test_a_failure_while_the_trace_is_collected_is_a_warning_too(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    trace.begin(Header("SGD", ("0",)))
    trace._record._file = BrokenFile(trace._record._file, OSError(errno.EIO, "Input/output error"))  # type: ignore[union-attr, assignment]
    with pytest.warns(RuntimeWarning, match="the end of a trace could not be written: Input/output error"):
        del trace
        gc.collect()


def test_a_row_that_cannot_be_written_ends_the_trace_and_not_the_training(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    with pytest.warns(RuntimeWarning, match="TypeError"):
        trace.record(Statistics(0, Phase.AFTER, {"loss": object()}))  # type: ignore[dict-item]
    use(trace)


def test_a_missing_tensorboard_leaves_the_exact_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(Trace(tmp_path))
    one_warning(caught, str(tmp_path), "TensorBoard cannot be imported", "only trace.jsonl is written")
    assert [path.name for path in tmp_path.iterdir()] == ["trace.jsonl"]
    assert len((tmp_path / "trace.jsonl").read_bytes().splitlines()) == 12


def test_a_second_trace_in_the_same_directory_ends_the_first_with_one_warning(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    first = run(Trace(tmp_path)).train(2)
    second = run(Trace(tmp_path)).train(1)
    with pytest.warns(RuntimeWarning, match="another trace has begun in this directory"):
        use(first.trace, steps=1)
    second.train(2)
    second.trace.close()
    assert read_trace(tmp_path).rows == tuple(second.rows)
    assert len((tmp_path / "trace.jsonl").read_bytes().splitlines()) == 1 + 7 + 1 + 10  # all of both, nothing mixed


def test_a_keyboard_interrupt_passes_and_nothing_is_lost_or_written_twice(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    live = run(Trace(tmp_path)).train(2)
    raw = live.trace._record._file
    live.trace._record._file = BrokenFile(raw, KeyboardInterrupt(), good=100)
    with pytest.raises(KeyboardInterrupt):
        live.trace.flush()
    live.trace._record._file = raw
    live.train(1)
    live.trace.close()
    assert read_trace(tmp_path).rows == tuple(live.rows)
    assert len((tmp_path / "trace.jsonl").read_bytes().splitlines()) == 1 + len(live.rows) + len(live.updates)


def test_a_closed_summary_writer_is_opened_again_as_its_own_methods_do(tmp_path: Path, run: Callable[..., Any]) -> None:
    summary_writer = SummaryWriter(str(tmp_path))
    summary_writer.close()
    live = run(Trace(summary_writer)).train(2)
    live.trace.close()
    summary_writer.close()
    assert read_trace(tmp_path).rows == tuple(live.rows)


def test_a_summary_writer_whose_thread_fails_warns_once_and_never_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)  # the writer's own thread raises
    summary_writer = SummaryWriter(str(tmp_path))

    def fail(data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    trace = Trace(summary_writer)
    trace.begin(Header("SGD", ("0",)))
    asynchronous: Any = summary_writer.file_writer.event_writer._async_writer  # type: ignore[union-attr]
    asynchronous._writer.write = fail
    began = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use(trace, steps=200)
    one_warning(caught, str(tmp_path), "No space left on device")
    assert time.monotonic() - began < 10.0
    asynchronous._worker.join(10.0)
    assert not asynchronous._worker.is_alive()


# -------------------------------------------------------------------- the process


def in_process(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    begin = """
        import errno, os, signal, sys
        from torch.utils.tensorboard import SummaryWriter
        from adaptive_lr.statistics import Phase, Statistics
        from adaptive_lr.trace import Header, Trace, Update
        def use(trace, steps):
            trace.begin(Header("SGD", ("0",)))
            for step in range(steps):
                trace.record(Statistics(step, Phase.AFTER, {"loss": 1.0}))
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(code), str(directory)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_end_is_written_at_exit_once_even_after_a_fork(tmp_path: Path) -> None:
    done = in_process(
        """
        trace = Trace(sys.argv[1])
        use(trace, 3)
        child = os.fork()
        if child == 0:
            sys.exit(0)  # runs the child's exit handlers
        os.waitpid(child, 0)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len((tmp_path / "trace.jsonl").read_bytes().splitlines()) == 4


def test_exit_is_clean_with_a_summary_writer_whose_thread_has_failed(tmp_path: Path) -> None:
    done = in_process(
        """
        import threading
        threading.excepthook = lambda arguments: None  # the traceback of the writer's own thread
        writer = SummaryWriter(sys.argv[1])
        def fail(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        writer.file_writer.event_writer._async_writer._writer.write = fail
        trace = Trace(writer)
        use(trace, 100)
        """,
        tmp_path,
    )
    assert done.returncode == 0
    assert done.stderr.count("RuntimeWarning") == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_process_loses_only_what_was_not_flushed(tmp_path: Path) -> None:
    done = in_process(
        """
        trace = Trace(sys.argv[1])
        use(trace, 3)
        trace.flush()
        trace.record(Statistics(3, Phase.AFTER, {"loss": 1.0}))
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    assert done.returncode == -9
    assert [row.step for row in read_trace(tmp_path).rows] == [0, 1, 2]
