r"""A paper that rebuilds itself: recorded results -> `generated/` (numbers, tables, figures) -> PDF.

The text quotes a number by name, ``\result{robustness.automatic.median}``, and never as digits. All names stand in
`generated/numbers.tex`, which a pure function of recorded results writes; a name that is not there fails the check
here and the build in LaTeX. What is said only where there is such a result stands between
``\ifcsname result@NAME\endcsname`` and ``\fi``, with ``\else`` between them if need be. Each generated text file says
which inputs it was made from, with their hashes.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from adaptive_lr.study.errors import FailedStudyError, StudyError

GENERATED = "generated"
"""The folder, beside the text, that holds everything made from results."""

NUMBERS = "numbers.tex"
"""The file in it with every number that the text quotes."""

LATEX = "latexmk texlive-latex-base texlive-latex-recommended texlive-fonts-recommended"
"""The packages of Debian and Ubuntu that a paper needs for its PDF, about 170 MB."""

_NAME = re.compile(r"[A-Za-z0-9.-]+")
_QUOTED = re.compile(r"(?<!\\)\\result\{([^{}]*)\}")
_INCLUDED = re.compile(r"\\(?:input|includegraphics(?:\[[^\]]*\])?)\{(" + GENERATED + r"/[^{}]+)\}")
_CONDITION = re.compile(
    r"\\(?:ifcsname\s+result@(?P<name>[^\\]+)\\endcsname|(?P<word>if(?!f(?![A-Za-z]))[A-Za-z]*|else|fi)(?![A-Za-z]))"
)
_COMMENT = re.compile(r"(?<!\\)%.*")

PREAMBLE = r"""\makeatletter
\newcommand{\result}[1]{\ifcsname result@#1\endcsname\csname result@#1\endcsname\else
  \PackageError{results}{There is no result named '#1'}{It is not in generated/numbers.tex.}\fi}
"""

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def escape(text: str) -> str:
    """`text` for LaTeX, letter by letter."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def numbers_tex(numbers: Mapping[str, str]) -> str:
    r"""The definitions behind ``\result{name}``.

    Args:
        numbers: name (letters, digits, dots and hyphens) -> LaTeX text.

    Raises:
        StudyError: a name has another character, or a text is empty.
    """
    lines = []
    for name in sorted(numbers):
        if not _NAME.fullmatch(name):
            raise StudyError(f"names of results must be of letters, digits, dots and hyphens, got {name!r}")
        if not numbers[name].strip():
            raise StudyError(f"result {name!r} must have a text, got {numbers[name]!r}")
        lines.append(rf"\expandafter\def\csname result@{name}\endcsname{{{numbers[name]}}}")
    return PREAMBLE + "\n".join(lines) + "\n\\makeatother\n"


def provenance(inputs: Iterable[Path], root: Path, command: str) -> str:
    """The comment that heads a generated text file: the command, and every input with its SHA-256.

    Args:
        inputs: the recorded results that the file was made from.
        root: what their paths are given relative to.
        command: what makes the file again.
    """
    lines = [f"% Made by `{command}` from recorded results; do not edit."]
    for path in sorted(inputs):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"% {path.relative_to(root).as_posix()} sha256 {digest}")
    return "\n".join(lines) + "\n"


def write_generated(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Make `folder` hold these files and no others; what is right already is not touched.

    Args:
        folder: the `generated` folder of a paper.
        files: path in it -> contents.

    Returns:
        The files that were written or removed, in order of their names: empty if nothing had to change.
    """
    changed = stale(folder, files)
    for path in changed:
        name = path.relative_to(folder).as_posix()
        if name not in files:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(_bytes(files[name]))
        os.replace(partial, path)
    return changed


def stale(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """The files of a `generated` folder that differ from what they should hold, are missing, or are too many."""
    there = {path for path in folder.rglob("*") if path.is_file()}
    wanted = {folder / name: _bytes(contents) for name, contents in files.items()}
    differing = {path for path, contents in wanted.items() if path not in there or path.read_bytes() != contents}
    return sorted(differing | (there - wanted.keys()))


def check_text(paper: Path) -> None:
    r"""Check that every number and every generated file that the text names is there, but for what LaTeX leaves out.

    Args:
        paper: the folder with the `.tex` files and `generated/`.

    Raises:
        StudyError: a ``\result{...}`` is not defined, or a file of `generated/` is not there; with file and line.
    """
    numbers = paper / GENERATED / NUMBERS
    if not numbers.is_file():
        raise FailedStudyError(f"{numbers} is missing: generate it from recorded results first")
    defined = set(re.findall(r"\\csname result@([^\\]+)\\endcsname\{", numbers.read_text()))
    files = [path.relative_to(paper).with_suffix("").as_posix() for path in numbers.parent.rglob("*") if path.is_file()]
    problems = []
    generated = paper / GENERATED
    for source in sorted(path for path in paper.rglob("*.tex") if not path.is_relative_to(generated)):
        conditions: list[bool | None] = []
        for number, line in enumerate(source.read_text().splitlines(), start=1):
            text = _kept(_COMMENT.sub("", line), conditions, defined)
            place = f"{source.relative_to(paper).as_posix()}:{number}"
            problems += [
                f"{place}: no result named {name!r}{_similar(name, defined)}"
                for name in _QUOTED.findall(text)
                if name not in defined
            ]
            problems += [
                f"{place}: no file {name!r}{_similar(name, files)}"
                for name in _INCLUDED.findall(text)
                if not any((paper / (name + ending)).is_file() for ending in ("", ".tex", ".pdf", ".png"))
            ]
    if problems:
        raise FailedStudyError("the text names what is not there:\n" + "\n".join(problems))


def build_pdf(paper: Path, name: str = "main") -> Path | None:
    """Typeset a paper with latexmk; two builds of the same files are byte-identical.

    Args:
        paper: its folder.
        name: of the main file, without its ending.

    Returns:
        The PDF, or None where LaTeX is not installed.

    Raises:
        FailedStudyError: LaTeX reports an error; with the first, and the packages to install where it lacks a file.
    """
    if shutil.which("latexmk") is None or shutil.which("pdflatex") is None:
        return None
    # No date and no time: the PDF is a function of its sources.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
    command = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "-silent", f"{name}.tex"]
    finished = subprocess.run(  # noqa: S603
        command, cwd=paper, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if finished.returncode != 0:
        log = paper / f"{name}.log"
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else finished.stderr.splitlines()
        raise FailedStudyError(f"LaTeX failed ({log} has all it said):\n" + "\n".join(_first_error(lines)))
    return paper / f"{name}.pdf"


def _first_error(log: Sequence[str]) -> list[str]:
    """The first error in LaTeX's log, down to the line that it is in; its last lines where there is none."""
    start = next((index for index, line in enumerate(log) if line.startswith("!")), None)
    if start is None:
        return list(log[-20:])
    end = next((index + 1 for index in range(start, len(log)) if re.match(r"l\.\d+ ", log[index])), start + 2)
    found = list(log[start:end])
    if any(re.search(r"File `.*' not found", line) for line in found):
        found.append(f"(what a paper needs is in, on Debian or Ubuntu, {LATEX})")
    return found


def _kept(line: str, conditions: list[bool | None], defined: Collection[str]) -> str:
    """What LaTeX typesets of a line.

    Args:
        line: without its comment.
        conditions: those that are open, the innermost last: whether their branch is kept, or None if they are not of
            results. Changed by what the line opens and closes.
        defined: names of results.
    """
    kept, place = [], 0
    for found in _CONDITION.finditer(line):
        if False not in conditions:
            kept.append(line[place : found.start()])
        place = found.end()
        if found["name"] is not None:
            conditions.append(found["name"] in defined)
        elif found["word"] == "else" and conditions:
            conditions[-1] = None if conditions[-1] is None else not conditions[-1]
        elif found["word"] == "fi" and conditions:
            conditions.pop()
        elif found["word"].startswith("if"):
            conditions.append(None)
    return "".join([*kept, line[place:]] if False not in conditions else kept)


def _similar(name: str, known: Iterable[str]) -> str:
    found = get_close_matches(name, sorted(known), n=1)
    return f" (there is {found[0]!r})" if found else ""


def _bytes(contents: str | bytes) -> bytes:
    return contents.encode() if isinstance(contents, str) else contents
