"""Errors that a person who runs a study can do something about: one clear sentence each."""

from __future__ import annotations

import importlib
from types import ModuleType


class StudyError(Exception):
    """Something in what was asked for is wrong; the message is one sentence that says what and how to go on."""


class FailedStudyError(StudyError):
    """What was asked for makes sense and did not succeed: runs failed or are missing, a paper is not up to date."""


def exception_of(traceback: str) -> str:
    """The line of a traceback that names the exception; its message may go on in further lines.

    Args:
        traceback: as `traceback.format_exc` writes it, or a sentence of one's own.
    """
    lines = traceback.strip().splitlines()
    frames = [place for place, line in enumerate(lines) if line.startswith("Traceback (most recent call last):")]
    after = lines[frames[-1] + 1 :] if frames else []
    return next((line for line in after if line and not line.startswith(" ")), lines[-1] if lines else "")


def require(module: str, *, extra: str = "compare") -> ModuleType:
    """Import a module that only comparisons need.

    Args:
        module: what to import.
        extra: the extra of this package that brings it.

    Raises:
        FailedStudyError: it is not installed; the sentence says which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != package:
            raise
        needs = "comparisons need it" if extra == "compare" else "what was asked for needs it"
        raise FailedStudyError(
            f'{package} is not installed, and {needs}: run `pip install "adaptive-lr[{extra}]"`'
        ) from error
