"""A paper of one's own, as a newcomer makes it: new, run, report, paper; and what is noticed afterwards."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adaptive_lr.cli import main

LATEX = shutil.which("latexmk") is not None

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `new` makes, carried out and reported; with fewer seeds, for the time of these tests."""
    folder = tmp_path_factory.mktemp("home") / "my_paper"
    command("new", folder)
    declared = (folder / "study.toml").read_text()
    assert "[1, 2]" in declared
    assert all("NAME" not in path.read_text() for path in folder.rglob("*") if path.is_file())
    few = declared.replace("seeds = 10", "seeds = 3").replace("seeds = 2\n", "seeds = 1\n")
    (folder / "study.toml").write_text(few)
    command("run", folder / "study.toml", "--jobs", "1", "--no-report")
    command("report", folder / "study.toml")
    assert "CLIPPED" in (folder / "runs/my_paper/reports/choices.md").read_text()
    assert list((folder / "runs/my_paper/reports").rglob("*.png"))
    return folder


@pytest.fixture(scope="module")
def written(project: Path) -> Result:
    """Its paper, typeset where LaTeX is installed."""
    return command("paper", project / "study.toml")


def command(*arguments: object, succeeds: bool = True) -> Result:
    result = CliRunner().invoke(main, ["study", *map(str, arguments)])
    assert (result.exit_code == 0) is succeeds, result.output
    return result


def test_the_paper_is_written_and_its_numbers_are_those_of_the_record(project: Path, written: Result) -> None:
    """The mean accuracy in the paper is computed here from the result files, and stands in the table too."""
    numbers = numbers_of(project)
    assert (numbers["seeds"], numbers["runs"], numbers["study"]) == ("3", "60", r"my\_paper")
    records = [json.loads(path.read_text()) for path in (project / "runs/my_paper/results").glob("*.json")]
    reported = [r for r in records if (r["run"]["seed"], r["run"]["recipe"], r["run"]["steps"]) in
                [(seed, "cosine", 60) for seed in range(3)]]  # fmt: skip
    assert len(reported) == 3
    mean = 100.0 * sum(record["test"][1] for record in reported) / 3
    accuracy = numbers["two-rings.x1.sgd.cosine.accuracy"]
    quoted, half = (float(part) for part in accuracy.strip("$").split(r"\pm"))
    assert quoted == pytest.approx(mean, abs=0.5)
    assert half > 0.0
    assert float(numbers["two-rings.x1.sgd.cosine.lr"].strip("$")) == reported[0]["run"]["peak_lr"]
    table = (project / "paper/generated/tables/tasks-error-sgd.tex").read_text()
    assert accuracy.strip("$").replace(r"\pm", r" $\pm$ ") in table
    assert "all that the text names is there" in written.stdout


@pytest.mark.skipif(not LATEX, reason="LaTeX is not installed")
def test_it_is_typeset_without_a_line_that_sticks_out_and_twice_the_same(
    project: Path, written: Result, tmp_path: Path
) -> None:
    """From nothing, in another folder: the same PDF and the same generated files, byte for byte."""
    paper = project / "paper"
    first = (paper / "main.pdf").read_bytes()
    assert first.startswith(b"%PDF")
    assert f"wrote {paper / 'main.pdf'}" in written.stdout
    log = (paper / "main.log").read_text(errors="replace")
    assert not re.findall(r"Overfull .*|.*undefined.*|.*Font Warning.*", log)
    again = tmp_path / "elsewhere"
    shutil.copytree(project, again, ignore=shutil.ignore_patterns("generated", "main.[!t]*", "reports"))
    assert "24 changed" in command("paper", again / "study.toml").stdout
    assert (again / "paper/main.pdf").read_bytes() == first
    assert contents(again / "paper/generated") == contents(paper / "generated")


def test_what_is_not_what_the_results_make_is_noticed(
    project: Path, written: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edited number, a result that is gone, another result: `--check` fails, says which, and writes nothing."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    study, numbers = copy / "study.toml", copy / "paper/generated/numbers.tex"
    edited = numbers.read_text().replace(r"result@seeds\endcsname{3}", r"result@seeds\endcsname{4}")
    numbers.write_text(edited)
    with monkeypatch.context() as patch:  # spares the drawing: these are the files that were made already
        files = contents(project / "paper/generated")
        patch.setattr("adaptive_lr.study.study_paper.generated_files", lambda study, now: files)
        sentence = refused("paper", study, "--check")
    assert sentence.endswith("not what the results make, run `adaptive-lr study paper` again: generated/numbers.tex")
    assert numbers.read_text() == edited

    results = copy / "runs/my_paper/results"
    records = {path: json.loads(path.read_text()) for path in results.glob("*.json")}
    path, record = next((p, r) for p, r in records.items() if r["run"]["seed"] == 0 and r["run"]["recipe"] == "cosine")
    path.unlink()
    assert "1 runs of the study are missing" in refused("paper", study)
    assert numbers.read_text() == edited

    record["test"] = [5.0, 0.01]
    path.write_text(json.dumps(record))
    sentence = refused("paper", study, "--check")
    assert all(name in sentence for name in ("numbers.tex", "tasks-error-sgd.tex", "intervals-error.pdf"))


@pytest.fixture
def made(project: Path, written: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the drawing: for what comes after it, the generated files are those that were made already."""
    files = contents(project / "paper/generated")
    monkeypatch.setattr("adaptive_lr.study.study_paper.generated_files", lambda study, now: files)


@pytest.mark.usefixtures("made")
def test_a_name_that_is_not_there_is_refused_with_its_place_and_the_nearest_one(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "copy")
    text = tmp_path / "copy/paper/main.tex"
    assert "is what the results make" in command("paper", tmp_path / "copy/study.toml", "--check").stdout
    text.write_text(text.read_text().replace(r"\result{sgd.tasks}", r"\result{sgd.task}"))
    sentence = refused("paper", tmp_path / "copy/study.toml", "--no-pdf")
    assert re.search(r"main\.tex:\d+: no result named 'sgd\.task' \(there is 'sgd\.tasks'\)", sentence)


@pytest.mark.usefixtures("made")
def test_without_latex_all_else_is_made_and_the_packages_are_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns("generated", "main.[!t]*"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("LaTeX was called"))
    stdout = command("paper", tmp_path / "copy/study.toml").stdout
    assert "no PDF: LaTeX is not installed" in stdout
    assert "latexmk texlive-latex-base" in stdout
    assert (tmp_path / "copy/paper/generated/numbers.tex").is_file()


def test_a_name_that_a_study_cannot_have_a_folder_in_use_and_a_study_without_results_or_text_are_refused(
    project: Path, tmp_path: Path
) -> None:
    command("new", tmp_path / "fresh")
    assert "runs of the study are missing" in refused("paper", tmp_path / "fresh/study.toml")
    assert "fresh' is not empty" in refused("new", tmp_path / "fresh")
    assert "the name of a study must be of letters" in refused("new", tmp_path / "my study")
    assert not (tmp_path / "fresh/paper/generated").exists()
    sentence = refused("paper", project / "study.toml", "--paper", tmp_path / "nowhere")
    assert "there is no text" in sentence
    assert not (tmp_path / "nowhere").exists()


def refused(*arguments: object) -> str:
    """The one line on stderr of a command that must fail."""
    result = command(*arguments, succeeds=False)
    (line,) = result.stderr.strip().splitlines()
    return line


def numbers_of(project: Path) -> dict[str, str]:
    text = (project / "paper/generated/numbers.tex").read_text()
    return dict(re.findall(r"csname result@([^\\]+)\\endcsname\{(.*)\}$", text, re.MULTILINE))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
