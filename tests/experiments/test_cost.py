"""What the benchmark's record gives the paper."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from adaptive_lr.study import StudyError
from experiments.paper import __main__ as paper
from experiments.paper import cost


def row(case: str, way: str, seconds: float, ratio: float, baseline: str) -> dict[str, Any]:
    return {"case": case, "way": way, "threads": 1, "parameters": 1, "tensors": 1, "dtype": "float32", "bytes": 4,
            "seconds": seconds, "host": seconds, "device": None, "bandwidth_share": None, "baseline": baseline,
            "ratio": ratio}  # fmt: skip


RECORD = {
    "device": "A processor", "quick": False, "versions": {"torch": "2"}, "turns": 15, "read_bandwidth": 1.25e10,
    "rows": [
        row("control of a small perceptron (26k parameters, 6 tensors)", "guarded(), steady state", 55e-6, 1.7, "n"),
        row("training step of a GPT, 256 tokens", "no control", 0.020, 1.0, "no control"),
        row("training step of a GPT, 256 tokens", "guarded()", 0.0204, 1.02, "no control"),
        row("statistics", "fused", 1e-3, 1.0, "fused"),
    ],
}  # fmt: skip


def test_numbers_name_device_case_threads_and_way() -> None:
    numbers = cost.part(RECORD, "cpu").numbers
    assert numbers["cost.cpu.control.a-small-perceptron.threads-1.guarded.time"] == r"$55$\,\textmu s"
    assert numbers["cost.cpu.control.a-small-perceptron.threads-1.guarded.ratio"] == "$1.7$"
    assert numbers["cost.cpu.training.a-gpt.threads-1.guarded.overhead"] == r"$+2.0\,\%$"
    assert numbers["cost.cpu.training.a-gpt.threads-1.none.time"] == r"$20$\,ms"
    assert not any("statistics" in name for name in numbers)


def test_ways_that_give_one_name_are_refused() -> None:
    """The last of them would silently stand for all."""
    case = "control of a small perceptron (26k parameters, 6 tensors)"
    rows = [row(case, "guarded(), steady state", 55e-6, 1.7, "n"), row(case, "guarded(), otherwise", 1e-3, 9.0, "n")]
    with pytest.raises(StudyError, match=r"two rows .*guarded\(\), otherwise"):
        cost.part({**RECORD, "rows": rows}, "cpu")


def test_what_the_recorded_benchmark_calls_guarded_is_control_at_rest() -> None:
    record = json.loads((paper.ROOT / paper.BENCHMARKS / "cpu.json").read_text())
    at_rest = [one for one in record["rows"] if one["way"] == "guarded(), steady state" and one["threads"] == 1]
    numbers = cost.part(record, "cpu").numbers
    for one in at_rest:
        subject = cost.slug(one["case"].removeprefix(cost.CONTROL))
        assert numbers[f"cost.cpu.control.{subject}.threads-1.guarded.time"] == cost.time(one["seconds"])
    assert at_rest


def test_the_text_calls_the_first_device_that_is_no_processor_the_gpu() -> None:
    """Whatever its name; a second one keeps its own, and has no text."""
    assert cost.devices(["nvidia-h200", "cpu", "nvidia-a100"]) == {
        "cpu": "cpu", "nvidia-a100": "gpu", "nvidia-h200": "nvidia-h200",
    }  # fmt: skip
    assert cost.devices(["gpu", "cpu", "a100"]) == {"cpu": "cpu", "gpu": "gpu", "a100": "a100"}
    assert cost.devices(["cpu"]) == {"cpu": "cpu"}


def test_a_quick_record_is_called_one() -> None:
    assert "cost.cpu.quick" not in cost.part(RECORD, "cpu").numbers
    assert "cost.cpu.quick" in cost.part({**RECORD, "quick": True}, "cpu").numbers


def test_the_paper_takes_the_records_of_the_benchmark_that_are_there(tmp_path: Path) -> None:
    results = tmp_path / "experiments" / "results"
    shutil.copytree(paper.RESULTS, results)
    without = paper.generated(results)
    folder = tmp_path / paper.BENCHMARKS
    folder.mkdir(parents=True)
    (folder / "cpu.json").write_text(json.dumps(RECORD))
    found = paper.generated(results)
    assert found.keys() - without.keys() == {"tables/cost-cpu.tex"}
    assert "cost.cpu.device" in str(found["numbers.tex"])
    assert "kernels/benchmarks/results/cpu.json sha256" in str(found["numbers.tex"])
