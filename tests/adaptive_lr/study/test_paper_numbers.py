"""What a paper may quote of a study: every number by a name that says where it is from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adaptive_lr.study import RunResult, Study, StudyError
from adaptive_lr.study.job import Standing
from adaptive_lr.study.paper import numbers_tex
from adaptive_lr.study.paper_numbers import number, slug, study_numbers
from adaptive_lr.study.reports import make_report
from adaptive_lr.study.study_paper import generated_files
from adaptive_lr.study.study_reports import BudgetReport
from recorded import recorded, study

DECLARED = Study(
    workloads=("digits", "plain"), recipes=("cosine", "cosine+guarded", "automatic"), optimizers=("sgd",),
    learning_rates=(0.01, 0.1, 1.0), seeds=4, steps=20, horizons=(0.5, 2), name="a_study",
)  # fmt: skip


def numbers(
    results: Sequence[RunResult], declared: Study = DECLARED, budgets: Sequence[str] = ("",), **titles: str
) -> dict[str, str]:
    now = Standing((), tuple(result.run for result in results), {result.run: result for result in results}, ())
    carried_out = [result for result in results if result.ok]
    return study_numbers(declared, now, [BudgetReport(name, make_report(carried_out, titles=titles))
                                         for name in budgets])  # fmt: skip


def test_losses_accuracies_and_differences_are_those_of_the_results() -> None:
    """Against scipy: the mean and half of the t-interval; the differences are those that were recorded."""
    found = numbers(study())
    losses = [0.5 + 0.01 * seed for seed in range(4)]
    half = stats.t.ppf(0.975, 3) * stats.sem(losses)
    assert found["plain.x2.sgd.cosine.loss"] == rf"${fmean(losses):.3f}\pm{half:.3f}$"
    assert found["digits.x2.sgd.cosine.accuracy"] == r"$95\pm0$"  # of all seeds
    assert found["digits.x2.sgd.automatic.accuracy.difference"] == r"$-1\pm0$"
    assert found["plain.x2.sgd.automatic.loss.difference"] == r"$+0.1\pm0$"
    assert found["plain.x2.sgd.automatic.loss.p"] == "$p=0.12$"  # 2 of the 16 signs
    assert found["plain.x2.sgd.automatic.loss.wins"] == r"0\,\%"
    assert found["digits.x2.sgd.cosine.lr"] == "$0.1$"
    assert found["digits.x2.steps"] == "40"
    assert (found["study"], found["seeds"], found["runs"]) == (r"a\_study", "4", str(len(study())))
    assert not [name for name in found if name.startswith("plain") and "accuracy" in name]
    assert not [name for name in found if name.startswith("digits.x0.5")]  # nothing was carried out there


def test_the_time_to_the_target_is_that_of_the_runs() -> None:
    """The target is 0.589: cosine is there at its last evaluation, automatic, which ends at 0.6 and more, never."""
    found = numbers(study())
    place = "plain.x2.sgd"
    assert found[f"{place}.cosine.target.loss"] == f"${2.0 - 0.95 * (2.0 - 0.515):.3g}$"
    assert (found[f"{place}.cosine.target.reached"], found[f"{place}.cosine.target.median"]) == ("4", "$40$")
    assert (found[f"{place}.automatic.target.reached"], found[f"{place}.automatic.target.median"]) == ("0", "never")
    assert found[f"{place}.automatic.target.steps"] == r"$40\pm0$"
    assert f"{place}.cosine.target.p" not in found


def test_every_name_and_text_can_be_written() -> None:
    found = numbers(study())
    assert numbers_tex(found).count("csname result@") == len(found) + 2  # and those of the macro itself


def test_a_second_budget_has_its_name_in_front_and_the_first_keeps_its_names() -> None:
    one, two = numbers(study()), numbers(study(), budgets=("grid-3", "search-20"))
    assert two.items() >= one.items()
    of_report = {name for name in one if "sgd" in name or name.endswith("steps")}
    assert {f"search-20.{name}" for name in of_report} == two.keys() - one.keys()


def test_a_recipe_that_failed_has_no_numbers_and_the_others_keep_theirs() -> None:
    results = study()
    without = numbers([result for result in results if result.run.recipe != "automatic"])
    failed = [replace(r, status="failed", test=None) if r.run.recipe == "automatic" else r for r in results]
    found = numbers(failed)
    assert found["runs.failed"] == "24"
    assert {n: t for n, t in found.items() if "." in n and not n.startswith("runs")} == {
        n: t for n, t in without.items() if "." in n and not n.startswith("runs")
    }


def test_two_names_that_differ_only_in_signs_are_refused() -> None:
    results = [recorded("cosine", 0.1, seed, 0.5, workload=name) for name in ("first", "second") for seed in (0, 1)]
    with pytest.raises(StudyError, match="cannot tell 'My net' and 'my_net' apart: give one another name"):
        numbers(results, first="My net", second="my_net")


def test_a_name_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(StudyError, match="a paper cannot quote results of '\u5b66\u7fd2'"):
        numbers([recorded("cosine", 0.1, 0, 0.5)], digits="\u5b66\u7fd2")


@given(st.text())
def test_a_part_of_a_name_is_of_small_letters_digits_and_single_hyphens(text: str) -> None:
    try:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug(text))
    except StudyError:
        assert not re.search(r"[A-Za-z0-9]", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.316, "$0.316$"), (1e-5, "$10^{-5}$"), (3.16e-6, r"$3.16\times10^{-6}$"), (-2.5, "$-2.5$"), (1.0, "$1$")],
)
def test_numbers_are_written_as_mathematics(value: float, text: str) -> None:
    assert number(value) == text


def test_a_paper_is_of_all_of_a_study() -> None:
    results = study()
    now = Standing((), tuple(r.run for r in results), {result.run: result for result in results[1:]}, ())
    with pytest.raises(StudyError, match="1 runs of the study are missing"):
        generated_files(DECLARED, now)
    failed = {result.run: replace(result, status="failed") for result in results}
    with pytest.raises(StudyError, match="every reported run failed"):
        generated_files(DECLARED, Standing((), tuple(failed), failed, ()))
