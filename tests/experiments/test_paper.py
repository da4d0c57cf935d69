"""The paper of this project is what its recorded results make."""

import json
import shutil
import sys

import pytest

from adaptive_lr.study import StudyError
from adaptive_lr.study.paper import GENERATED, build_pdf, check_text, stale, write_generated
from experiments.paper import __main__ as paper
from experiments.paper.latex import number, percent, points, tabular


@pytest.fixture(scope="module")
def generated():
    return paper.generated()


def test_what_is_committed_is_what_the_results_make(generated):
    assert stale(paper.PAPER / GENERATED, generated) == []


def test_every_number_and_file_in_the_text_is_there():
    check_text(paper.PAPER)


def test_the_same_results_make_the_same_bytes(generated):
    assert paper.generated() == generated


def test_what_is_said_only_where_there_is_a_record_names_what_such_a_record_has(tmp_path):
    """Costs on both kinds of device, steps to a target, and our own recipes among the peers: the whole text."""
    results = tmp_path / "experiments" / "results"
    shutil.copytree(paper.RESULTS, results)
    harm, peers = (json.loads((results / f"{name}.json").read_text()) for name in ("no_harm", "peers"))
    for entry in harm["pairs"]:
        seeds = {name: list(range(10, 110, 10)) for name in entry["recipes"]}
        entry |= {"steps": 200, "target_loss": 1.0, "steps_to_target": seeds}
    fixed = [row for row in peers["rows"] if row["recipe"] == "cosine"]
    peers["rows"] += [row | {"recipe": name} for name in ("cosine+guarded", "automatic") for row in fixed]
    (results / "no_harm.json").write_text(json.dumps(harm))
    (results / "peers.json").write_text(json.dumps(peers))
    benchmarks = tmp_path / paper.BENCHMARKS
    benchmarks.mkdir(parents=True)
    for name, trained in (("cpu", "small GPT, 1024"), ("a-gpu", "GPT-2 124M, 8192")):
        (benchmarks / f"{name}.json").write_text(json.dumps(benchmark(trained)))
    folder = tmp_path / "paper"
    shutil.copytree(paper.PAPER, folder, ignore=shutil.ignore_patterns("main.[!t]*"))
    write_generated(folder / GENERATED, paper.generated(results))
    check_text(folder)
    if shutil.which("latexmk"):
        build_pdf(folder)
        log = (folder / "main.log").read_text(errors="replace")
        assert "undefined" not in log
        assert "multiply defined" not in log
        assert "Overfull \\hbox" not in log or max(_overfull(log)) < 5.0


def test_the_text_can_do_with_longer_runs_of_one_length(tmp_path):
    results = tmp_path / "experiments" / "results"
    shutil.copytree(paper.RESULTS, results)
    record = json.loads((results / "horizons.json").read_text())
    shortest = min(pair["steps"] for pair in record["pairs"])
    record |= {"pairs": [pair for pair in record["pairs"] if pair["steps"] == shortest], "rules": []}
    (results / "horizons.json").write_text(json.dumps(record))
    folder = tmp_path / "paper"
    shutil.copytree(paper.PAPER, folder, ignore=shutil.ignore_patterns("main.[!t]*"))
    write_generated(folder / GENERATED, paper.generated(results))
    check_text(folder)


def benchmark(trained):
    """A record of the benchmark with the cases that its modules run, as short as it may be."""
    ways = {
        "control of a small perceptron (26k parameters, 6 tensors)": (
            "torch._foreach_norm", "clip_grad_norm_", "guarded(), steady state", "guarded(), watching",
        ),
        f"training step of {trained} tokens": ("no control", "guarded()", "clip_grad_norm_"),
    }  # fmt: skip
    rows = [{"case": case, "way": way, "threads": 1, "seconds": 1e-3, "baseline": each[0], "ratio": 1.0}
            for case, each in ways.items() for way in each]  # fmt: skip
    return {"device": "A device", "quick": False, "versions": {"torch": "2"}, "turns": 15, "read_bandwidth": 1e10,
            "rows": rows}  # fmt: skip


def test_another_result_makes_another_paper(tmp_path, generated):
    """No number is in the code: change the record, and what depends on it changes."""
    copy = tmp_path / "experiments" / "results"
    shutil.copytree(paper.RESULTS, copy)
    record = json.loads((copy / "robustness.json").read_text())
    record["about"]["seeds"] += 1
    (copy / "robustness.json").write_text(json.dumps(record))
    assert paper.generated(copy)["numbers.tex"] != generated["numbers.tex"]


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"no record .*robustness\.json"):
        paper.generated(tmp_path)


def test_check_fails_and_names_the_file_where_something_differs(tmp_path, monkeypatch, generated):
    shutil.copytree(paper.PAPER, tmp_path / "paper")
    monkeypatch.setattr(paper, "PAPER", tmp_path / "paper")
    monkeypatch.setattr(paper, "generated", lambda: generated)
    monkeypatch.setattr(sys, "argv", ["paper", "--check"])
    paper.main()
    (tmp_path / "paper" / GENERATED / "numbers.tex").write_text("% edited by hand")
    with pytest.raises(SystemExit, match=r"generated/numbers\.tex"):
        paper.main()
    assert (tmp_path / "paper" / GENERATED / "numbers.tex").read_text() == "% edited by hand"


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="LaTeX is not installed")
def test_the_paper_can_be_typeset_without_a_warning_that_matters(tmp_path):
    shutil.copytree(paper.PAPER, tmp_path / "paper", ignore=shutil.ignore_patterns("main.[!t]*"))
    pdf = build_pdf(tmp_path / "paper")
    assert pdf.read_bytes().startswith(b"%PDF")
    log = (tmp_path / "paper" / "main.log").read_text(errors="replace")
    assert "undefined" not in log  # references and citations
    assert "Overfull \\hbox" not in log or max(_overfull(log)) < 5.0


def _overfull(log):
    return [float(line.split("(")[1].split("pt")[0]) for line in log.splitlines() if line.startswith("Overfull \\hbox")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00123, "$0.00123$"), (1.2e-5, r"$1.2\times10^{-5}$"), (-3.4, "$-3.4$"), (1234567.0, r"$1.23\times10^{6}$")],
)
def test_numbers_are_written_as_mathematics(value, text):
    assert number(value) == text


def test_points_have_a_sign_and_zero_is_not_negative():
    assert (points(-0.04), points(3.25), points(-1.0)) == ("$+0.0$", "$+3.2$", "$-1.0$")


def test_a_share_is_a_percentage():
    assert percent(0.968) == r"96.8\,\%"


def test_a_table_has_a_row_per_line_and_spans_above_its_heads():
    text = tabular("lrr", ["a", "b", "c"], [["x", "1", "2"], ["y", "3", "4"]], spans=(("", 1), ("both", 2)))
    assert text.splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"\multicolumn{1}{c}{} & \multicolumn{2}{c}{both} \\",
        r"\cmidrule(lr){2-3}",
        r"a & b & c \\",
        r"\midrule",
        r"x & 1 & 2 \\",
        r"y & 3 & 4 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
