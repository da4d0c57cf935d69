"""What is quoted of a failed run."""

from __future__ import annotations

import traceback

import pytest

from adaptive_lr.study.errors import exception_of


def written(raiser) -> str:
    try:
        raiser()
    except Exception:
        return traceback.format_exc()
    raise AssertionError("nothing was raised")


def two_lines():
    raise ValueError("first\nsecond\n  third")


def one_after_another():
    try:
        two_lines()
    except ValueError as error:
        raise KeyError("later") from error


def without_a_message():
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("raiser", "line"),
    [(two_lines, "ValueError: first"), (one_after_another, "KeyError: 'later'"),
     (without_a_message, "ZeroDivisionError")],
)  # fmt: skip
def test_the_line_that_names_the_exception_is_found_in_its_traceback(raiser, line: str) -> None:
    assert exception_of(written(raiser)) == line


def test_a_sentence_that_is_no_traceback_stands_for_itself() -> None:
    assert exception_of("its process was killed") == "its process was killed"
    assert exception_of("") == ""
