"""Which source files a result depends on, and their hash: edited code makes other results."""

from __future__ import annotations

import codecs
import hashlib
import io
import sys
import sysconfig
import tokenize
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import adaptive_lr_kernels

PACKAGE = Path(__file__).parents[1]

CONTROL = (
    "actuation.py", "adaptive.py", "attachment.py", "base_schedule.py", "buffers.py", "changes.py", "controllers",
    "deferred.py", "deliberation.py", "lag.py", "layer.py", "meter.py", "metrics.py", "optimizers.py", "pending.py",
    "ranks.py", "readback.py", "rows.py", "scores.py", "series.py", "snapshot.py", "statistics.py", "steps.py",
    "update_ratio.py",
)  # fmt: skip
"""What decides how an adaptive run goes. Traces, tables and figures do not."""

_WORDS = (tokenize.COMMENT, tokenize.NL)
_STARTS = (tokenize.ENCODING, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)


def digest(contents: Iterable[bytes]) -> str:
    """SHA-256 over several contents, each with its length, so that none runs into the next."""
    total = hashlib.sha256()
    for content in contents:
        total.update(len(content).to_bytes(8, "big") + content)
    return total.hexdigest()


def code_digest(files: Iterable[Path]) -> str:
    """SHA-256 over the code of several files (`code`)."""
    return digest(code(file.read_bytes()) for file in files)


def code(source: bytes) -> bytes:
    """Python source without comments, docstrings and blank lines, so that mended words leave results as they are.

    A string that is a statement of its own counts as a docstring, unless it is an f-string, which computes something.
    What is no Python is returned as it is.
    """
    try:
        tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):
        return source
    words = [part for part in tokens if part.type in _WORDS]
    code = [part for part in tokens if part.type not in _WORDS]
    for before, this, after in zip(code, code[1:], code[2:], strict=False):
        if before.type in _STARTS and _is_text(this) and after.type == tokenize.NEWLINE:
            words.append(this)
    lines = source.removeprefix(codecs.BOM_UTF8).decode(tokens[0].string).replace("\r\n", "\n").split("\n")
    emptied = set()
    for part in sorted(words, key=lambda part: part.start, reverse=True):  # backwards: columns before it stay
        (first, left), (last, right) = part.start, part.end
        for number in range(first, last + 1):
            line = lines[number - 1]
            line = (line[:left] if number == first else "") + (line[right:] if number == last else "")
            lines[number - 1] = line.rstrip()
            emptied.add(number)
    return "\n".join(line for number, line in enumerate(lines, 1) if line or number not in emptied).encode()


def _is_text(part: tokenize.TokenInfo) -> bool:
    """Whether it is a string as it stands; before Python 3.12 f-strings are of the same type."""
    return part.type == tokenize.STRING and not part.string.lower().startswith(("f", "rf"))


def own_files(kind: type) -> list[Path]:
    """The files that define a class and all it inherits from, each once, the class's own first.

    The standard library, installed packages and this library are left out: versions say what they are.
    """
    files = (_file_of(base.__module__) for base in kind.__mro__)
    return list(dict.fromkeys(file for file in files if file is not None and is_own(file)))


def is_own(file: Path) -> bool:
    """Whether a file is a user's own: of no installed package, not of Python, and not of this library."""
    installed = {"site-packages", "dist-packages"} & set(file.parts)
    return not installed and not any(file.is_relative_to(folder) for folder in (PACKAGE, *_python_folders()))


@lru_cache
def control_digest() -> str:
    """Hash of this library's code, that of the statistics included, which decides how an adaptive run goes.

    Computed once in a process.
    """
    places = [*(PACKAGE / name for name in CONTROL), Path(adaptive_lr_kernels.__file__).parent]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.py")))]
    return code_digest(files)


def peer_files() -> list[Path]:
    """The files that state other methods (`adaptive_lr.study.peers`)."""
    return [PACKAGE / "study" / name for name in ("peers.py", "peer_updates.py", "batch_norm.py")]


def _file_of(module: str) -> Path | None:
    name = getattr(sys.modules.get(module), "__file__", None)
    file = None if name is None else Path(name).resolve()
    return file if file is not None and file.is_file() else None


def _python_folders() -> list[Path]:
    return [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
