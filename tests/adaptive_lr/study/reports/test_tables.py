"""Tables of text: what is written is what was meant, in every format."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from adaptive_lr.study.reports.tables import Table, csv_text, escape, latex, markdown, terminal, with_uncertainty

TABLE = Table("a title", ("name", "value"), (("a_b & c", "-0.5 ± 0.1"), ("plain", "50%")), ("one note",))


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (0.12345, 0.0678, "0.123 ± 0.068"),
        (96.0, 1.09, "96.0 ± 1.1"),
        (1234.5, 27.0, "1234 ± 27"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, math.nan, "0.5"),
        (-0.0001, 0.05, "0.000 ± 0.050"),
        (0.00012345, 0.0000099, "0.0001234 ± 0.0000099"),
        (1.0, 0.0996, "1.00 ± 0.10"),
    ],
)
def test_a_number_has_the_digits_that_its_uncertainty_deserves(value: float, half: float, expected: str) -> None:
    assert with_uncertainty(value, half) == expected


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3))
def test_what_is_rounded_off_is_less_than_a_tenth_of_the_uncertainty(value: float, half: float) -> None:
    """Two digits of the half-width: half a unit of the second is at most 1/20 of it (and of one above 99.5, 0.5)."""
    shown = [float(text) for text in with_uncertainty(value, half).split(" ± ")]
    assert abs(shown[0] - value) <= max(half / 18, 0.5 if half >= 95 else 0.0) + 1e-12
    assert abs(shown[1] - half) <= max(half / 18, 0.5 if half >= 95 else 0.0) + 1e-12


def test_latex_is_a_tabular_whose_text_is_escaped() -> None:
    lines = latex(TABLE).splitlines()
    assert lines[:2] == ["% a title", "% one note"]
    assert lines[2:] == [
        r"\begin{tabular}{lr}", r"\toprule", r"name & value \\", r"\midrule",
        r"a\_b \& c & $-$0.5 $\pm$ 0.1 \\", r"plain & 50\% \\", r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip


def test_a_minus_is_one_and_a_hyphen_is_one() -> None:
    """Before a number that begins a word, in brackets too; never within a word or a range."""
    assert escape("-0.5 [-1, 2]") == "$-$0.5 [$-$1, 2]"
    assert escape("one-cycle 1-2 sha-256") == "one-cycle 1-2 sha-256"


@settings(deadline=None)
@given(st.text(alphabet="ab1 &%$#_{}~^\\<>±⁺", max_size=20))
def test_no_character_that_latex_reads_is_left_bare(text: str) -> None:
    """What LaTeX prints of it, undone by hand, is the text."""
    printed = escape(text)
    for character, command in (
        ("\\", r"\textbackslash{}"), ("~", r"\textasciitilde{}"), ("^", r"\textasciicircum{}"),
        ("<", r"\textless{}"), (">", r"\textgreater{}"), ("±", r"$\pm$"), ("⁺", "$^{+}$"),
    ):  # fmt: skip
        printed = printed.replace(command, f"<{ord(character)}>")
    assert not re.search(r"(?<!\\)[&%$#_{}~^]", printed)
    assert re.sub(r"<(\d+)>", lambda m: chr(int(m[1])), re.sub(r"\\([&%$#_{}])", r"\1", printed)) == text


def test_markdown_has_title_table_and_notes() -> None:
    text = markdown(Table("t", ("a", "b"), (("x|y", "1"),), ("n",)))
    assert text == "## t\n\n| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n\n- n\n"


def test_csv_holds_numbers_exactly_and_nothing_for_what_is_not_known() -> None:
    third = 1 / 3
    rows = list(csv.DictReader(io.StringIO(csv_text(["a", "b", "c"], [[third, None, math.nan], ["x, y", 2, 1.0]]))))
    assert float(rows[0]["a"]) == third
    assert (rows[0]["b"], rows[0]["c"]) == ("", "")
    assert (rows[1]["a"], rows[1]["b"]) == ("x, y", "2")


def test_the_terminal_table_shows_every_cell() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal(TABLE))
    text = console.export_text()
    assert all(cell in text for row in TABLE.rows for cell in row)


def test_brackets_of_a_name_are_no_markup_in_the_terminal() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal(Table("[a] title", ("[b]head", "c"), (("[red]name", "[0, 1]"),))))
    text = console.export_text()
    assert all(part in text for part in ("[a] title", "[b]head", "[red]name", "[0, 1]"))


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="rows must have 2 cells"):
        Table("t", ("a", "b"), (("x",),))


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (60, ["cosine [1, 2]  1.00 [0.98, 1.02]  1.01 [0.97, 1.03]"]),
        (45, ["cosine [1, 2]          1.00          1.01", "[0.98, 1.02]  [0.97, 1.03]"]),
    ],
)
def test_in_a_narrow_terminal_intervals_stand_whole_below_their_values(width: int, lines: list[str]) -> None:
    table = Table("", ("recipe", "IQM", "median"), (("cosine [1, 2]", "1.00 [0.98, 1.02]", "1.01 [0.97, 1.03]"),))
    text = io.StringIO()
    Console(file=text, width=width).print(terminal(table, width))
    assert [line.strip() for line in text.getvalue().splitlines() if "0" in line] == lines
