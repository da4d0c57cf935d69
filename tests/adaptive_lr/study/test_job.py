"""A study from Python: carried out, gone on with, and the same as from its file; what a log says of its time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from adaptive_lr.study import Engine, RunResult, Study, StudyFolder, Tuning, carry_out, read_study
from adaptive_lr.study.job import standing
from adaptive_lr.study.progress import duration, with_progress

Reference = Callable[[str], str]


def outcomes(folder: Path, study: Study) -> list[str]:
    results = standing(study, StudyFolder(folder)).results
    return [repr(results[run].outcome()) for run in sorted(results, key=str)]


def test_a_study_in_python_is_that_of_its_file_and_processes_make_no_difference(
    tiny: Reference, tmp_path: Path
) -> None:
    """Bit for bit: the records of two processes for the one, of this one for the other."""
    path = tmp_path / "declared.toml"
    path.write_text(
        f'name = "both"\nworkloads = ["{tiny("Tiny")}"]\nrecipes = ["cosine", "wsd"]\noptimizers = ["sgd"]\nsteps = 6\n'
        '[tuning]\nbudget = "search-2"\nseeds = 1\n[report]\nseeds = 2\n'
    )
    study = Study(
        (tiny("Tiny"),),
        ("cosine", "wsd"),
        ("sgd",),
        seeds=2,
        steps=6,
        tuning=Tuning(("search-2",), seeds=1),
        name="both",
    )
    done = carry_out(study, tmp_path / "python", Engine(jobs=2))
    assert done.complete
    assert not done.failed
    assert len(done.reported_results()) == 2 * 2
    carry_out(read_study(path), tmp_path / "file", Engine("serial"))
    assert outcomes(tmp_path / "python", study) == outcomes(tmp_path / "file", study)
    assert (tmp_path / "python" / "choices.json").read_text() == (tmp_path / "file" / "choices.json").read_text()
    assert (tmp_path / "python" / "runs.csv").read_text() == (tmp_path / "file" / "runs.csv").read_text()


def test_a_wider_study_goes_on_from_a_narrower_one(tiny: Reference, tmp_path: Path) -> None:
    """More seeds, recipes or horizons: what is there is not done again."""
    narrow = Study((tiny("Tiny"),), ("cosine",), ("sgd",), (0.1,), seeds=1)
    carry_out(narrow, tmp_path, Engine("serial"))
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").glob("*.json")}
    wide = Study((tiny("Tiny"),), ("cosine", "step"), ("sgd",), (0.1,), seeds=2, horizons=(1.0, 2.0))
    now = carry_out(wide, tmp_path, Engine("serial"))
    assert len(now.results) == 8
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in written.items())


def test_a_log_says_how_far_it_is_how_much_failed_and_what_is_left(run_of, tmp_path: Path) -> None:
    console = Console(file=(tmp_path / "log").open("w"), width=100)
    results = [RunResult(run_of(seed=seed), "", "failed" if seed == 1 else "completed") for seed in range(4)]
    assert list(with_progress(console, iter(results), 4)) == results
    console.file.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0] == "1 of 4 runs, about 0 s left"
    assert lines[1].startswith("2 of 4 runs, 1 failed, about")
    assert lines[3] == "4 of 4 runs, 1 failed"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (89, "89 s"), (95, "2 min"), (3000, "50 min"), (9000, "2 h 30 min")]
)
def test_a_time_is_said_in_the_units_that_matter(seconds: float, words: str) -> None:
    assert duration(seconds) == words
