"""The paper of a study: recorded results -> `generated/` -> checked text -> PDF; see `paper` for how a text quotes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

from adaptive_lr.study.errors import FailedStudyError, StudyError, require
from adaptive_lr.study.job import Standing
from adaptive_lr.study.paper import GENERATED, NUMBERS, check_text, numbers_tex, stale, write_generated
from adaptive_lr.study.paper_numbers import study_numbers
from adaptive_lr.study.reports.tables import latex
from adaptive_lr.study.reports.writing import draw
from adaptive_lr.study.run import RunResult
from adaptive_lr.study.study import Study
from adaptive_lr.study.study_reports import make_reports

MAIN = "main"
"""The file of a paper that LaTeX is given, without its ending."""

COMMAND = "adaptive-lr study paper"

_NOT_IN_DIGEST = {"run", "seconds", "environment", "error"}
"""Of a result: where it was carried out, and when. `configuration` says what was asked for."""


def require_text(paper: Path) -> None:
    """Make sure that there is a text, before any work is done.

    Raises:
        StudyError: there is none.
    """
    text = paper / f"{MAIN}.tex"
    if not text.is_file():
        raise StudyError(f"there is no text {str(text)!r}: `adaptive-lr study new` makes a folder with one")


def generated_files(study: Study, now: Standing) -> dict[str, str | bytes]:
    """Everything that `generated/` holds of a study, a pure function of its recorded results.

    `numbers.tex`, and of each budget `tables/` (LaTeX) and `figures/` (PDF) as its reports have them; budgets other
    than the first in a folder of their name.

    Args:
        study: what was asked for.
        now: what there is of it; nothing may be missing.

    Raises:
        StudyError: runs are missing, there is nothing to report, matplotlib is not installed, or names collide.
    """
    if now.missing:
        raise FailedStudyError(f"{len(now.missing)} runs of the study are missing, and a paper is of all of it: carry "
                               "them out first, with `adaptive-lr study run`")  # fmt: skip
    if not now.reported_results():
        raise FailedStudyError("there is nothing to write about: every reported run failed")
    require("matplotlib")
    head = _head(now.results.values())
    made = make_reports(study, now)
    files: dict[str, str | bytes] = {NUMBERS: head + numbers_tex(study_numbers(study, now, made))}
    for place, (budget, report) in enumerate(made):
        folder = f"{budget}/" if place else ""
        files |= {f"{folder}tables/{name}.tex": head + latex(table) for name, table in report.tables.items()}
        with TemporaryDirectory() as drawn:
            for path in draw(report, Path(drawn)):
                if path.suffix == ".pdf":
                    files[f"{folder}figures/{path.name}"] = path.read_bytes()
    return files


def write_paper(paper: Path, files: dict[str, str | bytes]) -> list[Path]:
    """Bring `generated/` up to date, and check that the text names nothing that is not there.

    Args:
        paper: the folder with the text, `main.tex`.
        files: see `generated_files`.

    Returns:
        The generated files that changed.

    Raises:
        StudyError: `generated/` is not one of these; the text names a number or a file that is not there.
    """
    folder = paper / GENERATED
    if folder.is_dir() and any(folder.iterdir()) and not (folder / NUMBERS).is_file():
        raise StudyError(f"folder {str(folder)!r} holds other files, which would be removed: give it another name")
    changed = write_generated(folder, files)
    check_text(paper)
    return changed


def check_paper(paper: Path, files: dict[str, str | bytes]) -> None:
    """Fail where `generated/` is not what the results make, or the text names what is not there; write nothing.

    Raises:
        StudyError: with the names of the files that differ.
    """
    differing = stale(paper / GENERATED, files)
    if differing:
        names = ", ".join(path.relative_to(paper).as_posix() for path in differing)
        raise FailedStudyError(f"not what the results make, run `{COMMAND}` again: {names}")
    check_text(paper)


def _head(results: Iterable[RunResult]) -> str:
    """What a generated text was made from: the same for the same results, wherever and whenever they were made."""
    digest = hashlib.sha256()
    count = 0
    names = [each.name for each in fields(RunResult) if each.name not in _NOT_IN_DIGEST]
    for result in sorted(results, key=lambda result: result.key):
        record = [getattr(result, name) for name in names]
        digest.update(json.dumps(record, sort_keys=True, default=str).encode() + b"\n")
        count += 1
    return (f"% Made by `{COMMAND}` from recorded results; do not edit.\n"
            f"% {count} runs, sha256 of what came of them {digest.hexdigest()}\n")  # fmt: skip
