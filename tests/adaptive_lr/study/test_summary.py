"""From results to tables: chosen on validation, reported on test, paired by seed."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest

from adaptive_lr.study import Evaluation, Run, RunResult, summarise
from adaptive_lr.study.summary import collect_cells
from adaptive_lr.study.summary_tables import csv_text, headings, latex, markdown, rows


def result(
    recipe: str,
    peak: float,
    seed: int,
    validation: float,
    test: float,
    accuracy: float | None = None,
    **changes: object,
) -> RunResult:
    run = Run("digits", str(changes.pop("optimizer", "sgd")), recipe, peak, seed, 10)
    start = Evaluation(2.0, None if accuracy is None else 0.1)
    fields = {"status": "completed", "initial": start, **changes}
    if fields["status"] != "failed":
        fields |= {"validation": Evaluation(validation, accuracy), "test": Evaluation(test, accuracy)}
    return RunResult(run, f"{recipe}{peak}{seed}", **fields)  # type: ignore[arg-type]


def grid() -> list[RunResult]:
    """Cosine is best on validation at 0.1 (not on test); guarded helps at 1, where cosine diverges."""
    table = {
        ("cosine", 0.01): (1.0, 1.0, 0.70),
        ("cosine", 0.1): (0.2, 0.4, 0.95),
        ("cosine", 1.0): (math.inf, math.inf, 0.10),
        ("cosine+guarded", 0.01): (1.0, 1.0, 0.70),
        ("cosine+guarded", 0.1): (0.3, 0.3, 0.96),
        ("cosine+guarded", 1.0): (0.4, 0.5, 0.955),
    }
    return [
        result(recipe, peak, seed, v + 0.01 * seed, t + 0.01 * seed, a + 0.001 * seed)
        for (recipe, peak), (v, t, a) in table.items()
        for seed in range(3)
    ]


def test_the_best_peak_is_chosen_on_validation_and_reported_on_test() -> None:
    cosine, guarded = summarise(grid())
    assert (cosine.recipe, cosine.best.peak_lr) == ("cosine", 0.1)
    assert cosine.test_loss.mean == pytest.approx(0.41)
    assert cosine.test_accuracy is not None
    assert cosine.test_accuracy.mean == pytest.approx(0.951)
    assert (guarded.best.peak_lr, guarded.at_edge) == (0.1, False)


def test_sensitivity_worst_case_and_divergence_by_hand() -> None:
    """Cosine: validation means 1.01, 0.21 and 2 (diverged: the loss at initialisation)."""
    cosine, guarded = summarise(grid())
    assert cosine.sensitivity == pytest.approx((1.01 + 0.21 + 2.0) / 3 - 0.21)
    assert cosine.worst.peak_lr == 1.0
    assert cosine.untrained == pytest.approx(1 / 3)
    assert guarded.worst.peak_lr == 0.01
    assert guarded.untrained == 0
    assert (cosine.good_decades, guarded.good_decades) == pytest.approx((0.0, 1.0))


def test_the_difference_is_paired_at_the_fixed_recipes_best_peak() -> None:
    """+1 point at 0.1, the same in all seeds; a fixed recipe has none."""
    cosine, guarded = summarise(grid())
    assert cosine.difference is None
    assert guarded.difference is not None
    assert guarded.difference.mean == pytest.approx(0.01)
    assert guarded.difference.p_value == 2 / 2**3


def test_p_values_are_corrected_over_all_that_is_compared_together() -> None:
    """Two recipes against one, each at 2/2³ alone: both at twice that after Holm."""
    step = [replace(r, run=replace(r.run, recipe="automatic")) for r in grid() if r.run.recipe == "cosine+guarded"]
    _, guarded, automatic = summarise([*grid(), *step])
    assert guarded.difference is not None
    assert (guarded.difference.p_value, guarded.adjusted_p, automatic.adjusted_p) == (0.25, 0.5, 0.5)


def test_a_win_is_a_higher_accuracy_or_a_lower_loss() -> None:
    """Better by a point in all seeds; of the losses without accuracies, 0.3 against 0.4."""
    assert summarise(grid())[1].wins == 1.0
    losses = [replace(r, test=Evaluation(r.test.loss)) for r in grid()]  # type: ignore[union-attr]
    assert summarise(losses)[1].wins == 1.0


def test_the_median_stands_beside_the_mean() -> None:
    cosine, _ = summarise(grid())
    assert cosine.median == pytest.approx(0.951)


def test_latex_is_a_booktabs_tabular_for_each_optimizer() -> None:
    text = latex(summarise([*grid(), result("cosine", 0.1, 0, 0.2, 0.3, 0.9, optimizer="adamw")]))
    assert text.count(r"\begin{tabular}{lrrrrrrrrrrr}") == text.count(r"\end{tabular}") == 2
    assert r"cosine+guarded & 0.1 & 96.1 $\pm$ 0.2 & 96.1 & 0.31" in text
    assert "table" not in text.replace("tables", "")


def test_only_seeds_that_both_have_are_paired() -> None:
    results = [r for r in grid() if (r.run.recipe, r.run.peak_lr, r.run.seed) != ("cosine", 0.1, 1)]
    guarded = summarise(results)[1]
    assert guarded.difference is not None
    assert guarded.difference.p_value == 2 / 2**2


def test_a_best_peak_at_the_edge_of_its_grid_is_marked() -> None:
    results = [r for r in grid() if r.run.peak_lr != 0.01]
    summaries = summarise(results)
    assert summaries[0].at_edge
    assert rows(summaries, "sgd")[0][1] == "0.1*"


def test_failed_runs_are_left_out_of_the_numbers() -> None:
    failed = result("cosine", 0.1, 3, 0.0, 0.0, status="failed", initial=None, error="boom")
    assert summarise([*grid(), failed]) == summarise(grid())


def test_cells_are_in_the_order_of_the_tables_whatever_the_order_of_the_results() -> None:
    assert collect_cells(reversed(grid())) == collect_cells(grid())


def test_without_accuracies_losses_are_compared() -> None:
    """Worst case and difference are in losses, and the accuracy columns are gone."""
    results = [
        RunResult(
            r.run,
            r.key,
            r.status,
            initial=Evaluation(2.0),
            validation=Evaluation(r.validation.loss),  # type: ignore[union-attr]
            test=Evaluation(r.test.loss),  # type: ignore[union-attr]
        )
        for r in grid()
    ]
    cosine, guarded = summarise(results)
    assert cosine.test_accuracy is None
    assert cosine.worst.peak_lr == 1.0
    assert guarded.difference is not None
    assert guarded.difference.mean == pytest.approx(-0.1)
    assert "test loss" in headings([cosine, guarded])
    assert not any("accuracy" in heading or "decades" in heading for heading in headings([cosine, guarded]))


def test_the_csv_holds_every_cell_at_full_precision() -> None:
    lines = list(csv.DictReader(io.StringIO(csv_text(summarise(grid())))))
    assert [(line["recipe"], float(line["peak_lr"])) for line in lines] == [
        (recipe, peak) for recipe in ("cosine", "cosine+guarded") for peak in (0.01, 0.1, 1.0)
    ]
    assert float(lines[1]["test_loss"]) == pytest.approx(0.41, abs=1e-15)
    assert [line["is_best"] for line in lines] == ["0", "1", "0", "0", "1", "0"]
    assert lines[2]["untrained_runs"] == "3"
    assert lines[2]["diverged_runs"] == "0"  # the invented results say nothing of their status


def test_the_markdown_table_is_rectangular_and_says_what_its_columns_mean() -> None:
    text = markdown(summarise(grid()))
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert "| cosine+guarded | 0.1 | 96.1 ± 0.2 | 96.1 |" in text
    assert "| +1.0 ± 0.0 | 100% | 0.25 |" in text
    assert "arXiv:2309.14322" in text


def test_one_seed_and_one_peak_make_a_table_without_intervals() -> None:
    summaries = summarise([result("cosine", 0.1, 0, 0.2, 0.3, 0.9)])
    assert rows(summaries, "sgd") == [
        ["cosine", "0.1", "90.0", "90.0", "0.2", "0.000", "0.0", "90.0 at 0.1", "0%", "", "", ""]
    ]
    assert "nan" not in markdown(summaries)


@pytest.mark.parametrize("width", [82, 104, 160])
def test_terminal_tables_are_never_cut_off(width: int) -> None:
    """On a narrow terminal columns are left out, the least needed first; what is shown is shown whole."""
    from rich.console import Console

    from adaptive_lr.study.summary_tables import LESS_NEEDED, terminal_tables

    summaries = summarise(grid())
    console = Console(width=width, record=True, file=io.StringIO())
    for table in terminal_tables(summaries, console):
        console.print(table)
    text = console.export_text()
    assert "…" not in text
    shown = [heading for heading in headings(summaries) if width == 160 or heading not in LESS_NEEDED]
    line = next(line for line in rows(summaries, "sgd") if line[0] == "cosine+guarded")
    assert all(line[headings(summaries).index(heading)] in text for heading in shown)
    assert ("0.25" in text) == (width == 160)
