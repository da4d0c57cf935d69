"""What the command line says when runs failed."""

from __future__ import annotations

import pytest

from adaptive_lr.cli.answers import MAX_LISTED_REASONS, MAX_LISTED_RUNS, list_failures


def told(failed: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    list_failures(failed, "out")
    written = capsys.readouterr()
    assert written.out == ""
    return written.err.splitlines()


def test_runs_that_failed_for_one_reason_are_told_together(capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe that raises fails in every run of a study: its reason stands once, with the first few runs."""
    many = [(f"run {number}", "ValueError: no such rate") for number in range(60)]
    lines = told([*many[:1], ("other", "KeyError: 'loss'"), *many[1:]], capsys)
    assert lines == [
        "adaptive-lr: 61 runs failed; the same command tries them again:",
        "  ValueError: no such rate",
        "    run 0",
        "    run 1",
        "    run 2",
        f"    and {60 - MAX_LISTED_RUNS} runs more",
        "  KeyError: 'loss'",
        "    other",
        "All of what they said is in results/ in out",
    ]


def test_however_many_reasons_there_are_the_list_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told([(f"run {number}", f"ValueError: {number}") for number in range(MAX_LISTED_REASONS + 2)], capsys)
    assert len(lines) == 1 + 2 * MAX_LISTED_REASONS + 2
    assert lines[-2] == "  and 2 more reasons"
