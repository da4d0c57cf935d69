"""The benchmark: rivals compute what they are compared on, times are compared turn by turn, tables hold it all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptive_lr_kernels import measure
from benchmarks import rivals
from benchmarks.cases import FULL, Row, rows_of, statistics_cases
from benchmarks.control_cases import FOREVER, WATCHED, Controlled, control_cases, training_cases
from benchmarks.gpt import Size
from benchmarks.report import draw, table, write
from benchmarks.tensors import MLP, Model, even, gpt2_blocks
from benchmarks.timing import Timing, Way, compare

CPU = torch.device("cpu")


@pytest.fixture
def model() -> Model:
    return Model.of(((40, 3), (7,), (300,)), CPU, torch.float32, momenta=True)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    tiny = Size("tiny GPT", width=16, layers=1, heads=2, context=8, vocabulary=20, sequences=2)
    made = list(control_cases("a perceptron", MLP, CPU, bandwidth=1e10, turns=2))
    made += training_cases(tiny, CPU, turns=2)
    return [*made, *statistics_cases(CPU, torch.float32, 1000, 100, bandwidth=1e10, turns=2)]


@pytest.fixture
def record(rows: list[Row]) -> dict[str, Any]:
    return {
        "device": "a device",
        "quick": True,
        "versions": {"torch": "2"},
        "read_bandwidth": 1e10,
        "turns": 2,
        "rows": [row.plain() for row in rows],
    }


def test_the_rivals_compute_the_same_statistics(model: Model) -> None:
    ours = measure(model.gradients, parameters=model.parameters, momenta=model.momenta)
    names = [name for name in FULL if name != "nonfinite"]
    found = dict(zip((*FULL[:4], "flags", *FULL[5:]), rivals.full_sequence(model), strict=True))
    for name in names:
        torch.testing.assert_close(found[name].double(), ours.per_tensor[name], rtol=1e-4, atol=1e-6)
    assert not found["flags"].any()
    torch.testing.assert_close(rivals.foreach_norm(model).double(), ours.overall["grad_norm"], rtol=1e-6, atol=0.0)
    assert rivals.norm_items(model) == pytest.approx(ours.per_tensor["grad_norm"].tolist())
    assert len(rivals.gradient_items(model)) == 5 * 3
    assert len(rivals.full_items(model)) == 8 * 3


def test_clipping_leaves_gradients_that_need_none(model: Model) -> None:
    before = [gradient.clone() for gradient in model.gradients]
    rivals.clip(model)
    assert all(map(torch.equal, before, model.gradients))


def test_sizes_are_what_they_say() -> None:
    assert sum(torch.Size(shape).numel() for shape in MLP) == 25_920
    assert sum(torch.Size(shape).numel() for shape in gpt2_blocks()) == 85_075_968
    assert len(gpt2_blocks()) == 172
    assert len(even(1000, 10)) == 10


def test_ratios_are_taken_turn_by_turn() -> None:
    """A turn in which the machine was slow counts for both."""
    one, other = Timing(0, 0, None, (2.0, 20.0, 2.2)), Timing(0, 0, None, (1.0, 10.0, 1.0))
    assert one.ratio(other) == 2.0
    assert one.minus(other).turns == (1.0, 10.0, 2.2 - 1.0)


def test_all_ways_take_turns() -> None:
    calls: list[str] = []
    ways = {name: Way(lambda name=name: calls.append(name)) for name in "ab"}
    timings = compare(ways, CPU, turns=3)
    changes = [name for name, before in zip(calls, ["", *calls], strict=False) if name != before]
    assert changes == list("ab" * 4)  # the first time, to see how long they take
    assert all(len(timing.turns) == 3 for timing in timings.values())


def test_control_at_rest_and_watching_are_what_they_say() -> None:
    model = Model.of(MLP, CPU, torch.float32, momenta=False)
    steady, watched = Controlled(model, WATCHED), Controlled(model, FOREVER)
    for _ in range(3 * WATCHED):
        steady.step()
        watched.step()
    for run, watching in ((steady, False), (watched, True)):
        states = run.control.state_dict()["deliberation"]["controllers"]
        assert next(law["state"]["watching"] for law in states if law["name"] == "rescue") is watching
        assert run.control.factor == 1.0


def test_the_baseline_has_ratio_one(rows: list[Row]) -> None:
    assert {row.case for row in rows} > {"norm", "gradient statistics", "all statistics", "control of a perceptron"}
    assert all(row.ratio == 1.0 for row in rows if row.way == row.baseline)


def test_the_share_of_the_bandwidth_is_bytes_over_time(model: Model) -> None:
    timing = Timing(0.5, 0.5, None, (0.5,))
    (row,) = rows_of("case", {"way": timing}, "way", model, read=100, bandwidth=1000.0)
    assert row.bandwidth_share == pytest.approx(0.2)


def test_the_table_has_every_row_and_says_that_a_quick_run_is_one(record: dict[str, Any]) -> None:
    text = table(record)
    assert text.count("\n| ") == len(record["rows"]) + 2 * len({row["case"] for row in record["rows"]})
    assert "quick run" in text
    record["quick"] = False
    assert "quick run" not in table(record)


def test_record_table_and_figure_are_written(record: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write(record, tmp_path, "device")
    assert json.loads((tmp_path / "device.json").read_text()) == record
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".md", ".png"}


def test_without_matplotlib_one_sentence_replaces_the_figure(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    draw(record, tmp_path, "device")
    assert capsys.readouterr().out.startswith("no figure: matplotlib is not installed")
    assert [file.suffix for file in tmp_path.iterdir()] == [".md"]


def test_nothing_beyond_torch_numpy_and_scipy_is_imported() -> None:
    """So that it runs on a GPU machine that has little more."""
    code = (
        "import sys\n"
        "for name in ('matplotlib', 'tensorboard', 'click', 'rich', 'sklearn', 'joblib', 'hypothesis'):\n"
        "    sys.modules[name] = None\n"
        "import benchmarks.__main__\n"
    )
    paths = [str(Path(__file__).parents[2] / folder) for folder in ("", "kernels")]
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}"], check=True, capture_output=True
    )
