"""A paper is a function of its recorded results."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.study import StudyError
from adaptive_lr.study.paper import build_pdf, check_text, escape, numbers_tex, provenance, stale, write_generated

NEEDS_LATEX = pytest.mark.skipif(shutil.which("latexmk") is None, reason="LaTeX is not installed")

TEXT = r"""\documentclass{article}
\usepackage{booktabs}
\input{generated/numbers}
\begin{document}
Ours is \result{ours.median} and theirs \result{theirs-2}. % not \result{commented}
\input{generated/tables/main}
\end{document}
"""
TABLE = "\\begin{tabular}{lr}\\toprule a & 1 \\\\ \\bottomrule\\end{tabular}\n"


@pytest.fixture
def paper(tmp_path):
    (tmp_path / "main.tex").write_text(TEXT)
    numbers = numbers_tex({"ours.median": r"96\,\%", "theirs-2": "1.0"})
    write_generated(tmp_path / "generated", {"numbers.tex": numbers, "tables/main.tex": TABLE})
    return tmp_path


def test_a_text_whose_numbers_and_files_are_all_there_passes(paper):
    check_text(paper)


def test_every_undefined_number_and_missing_file_is_named_with_its_place(paper):
    (paper / "main.tex").write_text(TEXT.replace("theirs-2", "theirs-3").replace("tables/main", "tables/other"))
    with pytest.raises(StudyError) as caught:
        check_text(paper)
    assert "main.tex:5: no result named 'theirs-3'" in str(caught.value)
    assert "main.tex:6: no file 'generated/tables/other'" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        r"\ifcsname result@no.such\endcsname \result{no.such} \fi",
        "\\ifcsname result@no.such\\endcsname\n\\result{no.such}\n\\else\n\\result{ours.median}\n\\fi",
        "\\ifcsname result@ours.median\\endcsname\n\\result{ours.median}\n\\else\n\\result{no.such}\n\\fi",
        "\\ifcsname result@no.such\\endcsname\n\\ifdim1pt<2pt\\result{no.such}\\else\\result{nor.this}\\fi\n\\fi",
    ],
)
def test_what_is_said_only_where_there_is_a_result_need_not_be_there(paper, text):
    (paper / "part.tex").write_text(text)
    check_text(paper)
    if shutil.which("latexmk"):
        (paper / "main.tex").write_text(TEXT.replace(r"\end{document}", r"\input{part}\end{document}"))
        assert build_pdf(paper) is not None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\\ifcsname result@ours.median\\endcsname\n\\result{no.such}\n\\fi", 2),
        ("\\ifcsname result@no.such\\endcsname\n\\fi\n\\result{no.such}", 3),
        ("\\ifcsname result@no.such\\endcsname\n\\else\n\\result{no.such}\n\\fi", 3),
        ("$a \\iff b$ \\fi \\else \\result{no.such}", 1),
    ],
)
def test_what_is_said_all_the_same_must_be_there(paper, text, line):
    (paper / "part.tex").write_text(text)
    with pytest.raises(StudyError, match=rf"part\.tex:{line}: no result named 'no\.such'"):
        check_text(paper)


def test_text_in_a_folder_of_its_own_is_checked_too_and_the_nearest_name_is_said(paper):
    (paper / "sections").mkdir()
    (paper / "sections" / "results.tex").write_text("\n\\result{ours.medain} \\input{generated/tables/mian}")
    with pytest.raises(StudyError) as caught:
        check_text(paper)
    assert "sections/results.tex:2: no result named 'ours.medain' (there is 'ours.median')" in str(caught.value)
    assert "no file 'generated/tables/mian' (there is 'generated/tables/main')" in str(caught.value)


def test_a_paper_without_numbers_says_what_to_do(tmp_path):
    (tmp_path / "main.tex").write_text(TEXT)
    with pytest.raises(StudyError, match="generate it from recorded results first"):
        check_text(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "a_b", "a}", "ä"])
def test_a_name_that_latex_could_not_hold_is_refused(name):
    with pytest.raises(StudyError, match="names of results"):
        numbers_tex({name: "1"})


def test_an_empty_number_is_refused():
    with pytest.raises(StudyError, match="must have a text"):
        numbers_tex({"a": " "})


def test_writing_again_changes_nothing_and_leftovers_are_removed(tmp_path):
    files = {"numbers.tex": "a", "figures/one.pdf": b"\x00"}
    written = write_generated(tmp_path, files)
    assert [path.name for path in written] == ["one.pdf", "numbers.tex"]
    assert write_generated(tmp_path, files) == []
    (tmp_path / "old.tex").write_text("left over")
    assert stale(tmp_path, files) == [tmp_path / "old.tex"]
    write_generated(tmp_path, files)
    assert stale(tmp_path, files) == []
    assert not (tmp_path / "old.tex").exists()


def test_an_edited_file_is_stale(tmp_path):
    write_generated(tmp_path, {"numbers.tex": "1"})
    (tmp_path / "numbers.tex").write_text("2")
    assert stale(tmp_path, {"numbers.tex": "1"}) == [tmp_path / "numbers.tex"]


def test_provenance_changes_with_the_inputs(tmp_path):
    record = tmp_path / "results.json"
    record.write_text("1")
    before = provenance([record], tmp_path, "make paper")
    record.write_text("2")
    after = provenance([record], tmp_path, "make paper")
    assert before != after
    assert before.startswith("% Made by `make paper`")
    assert all(line.startswith("%") for line in before.splitlines())


@given(st.text(alphabet=st.characters(max_codepoint=126, min_codepoint=32)))
def test_escaped_text_leaves_no_active_character(text):
    """Every special character stands behind a backslash, or inside a command of its own."""
    rest = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]", "", escape(text))
    assert not set(rest) & set("\\&%$#_{}~^")


@NEEDS_LATEX
def test_two_builds_are_byte_identical(paper):
    first = build_pdf(paper).read_bytes()
    for path in paper.glob("main.*"):
        if path.suffix != ".tex":
            path.unlink()
    assert build_pdf(paper).read_bytes() == first


@NEEDS_LATEX
def test_an_undefined_number_fails_the_build(paper):
    (paper / "main.tex").write_text(TEXT.replace("theirs-2", "theirs-3"))
    with pytest.raises(StudyError, match="There is no result named 'theirs-3'"):
        build_pdf(paper)


@NEEDS_LATEX
def test_an_error_of_latex_is_told_with_its_line_and_nothing_else(paper):
    """Not the pages on memory that follow it in the log; a file that is missing names the packages."""
    text = (paper / "main.tex").read_text()
    (paper / "main.tex").write_text(text.replace("\\end{document}", "\\nosuchmacro\n\\end{document}"))
    with pytest.raises(StudyError, match=r"(?s)Undefined control sequence.*nosuchmacro") as error:
        build_pdf(paper)
    assert len(str(error.value).splitlines()) <= 4
    (paper / "main.tex").write_text(text.replace("\\begin{document}", "\\usepackage{nosuchpackage}\n\\begin{document}"))
    with pytest.raises(StudyError, match=r"(?s)nosuchpackage.sty' not found.*texlive-latex-recommended"):
        build_pdf(paper)


def test_without_latex_there_is_no_pdf_and_no_error(paper, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("LaTeX was called"))
    assert build_pdf(paper) is None
