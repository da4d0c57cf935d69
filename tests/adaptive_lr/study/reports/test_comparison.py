"""From results to what is said about them, by hand."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from adaptive_lr.study import StudyError
from adaptive_lr.study.reports import make_report
from adaptive_lr.study.reports.comparison import compare_recipes
from adaptive_lr.study.reports.result_tables import cells_csv, pairs_csv
from adaptive_lr.study.reports.tasks import collect_tasks
from recorded import START, recorded, study


def test_the_setting_is_chosen_on_validation_and_tasks_are_workloads_optimizers_and_horizons() -> None:
    longer = [recorded("cosine", 0.1, 0, 0.4, steps=80), recorded("cosine", 0.1, 0, 0.4, optimizer="adamw")]
    tasks = collect_tasks([*study(), *longer])
    assert [(t.workload, t.optimizer, t.steps) for t in tasks] == [
        ("digits", "sgd", 40), ("digits", "sgd", 80), ("digits", "adamw", 40), ("plain", "sgd", 40),
    ]  # fmt: skip
    assert list(tasks[0].reported) == ["cosine", "cosine+guarded", "automatic"]
    assert tasks[0].reported["cosine"].peak_lr == 0.1
    assert [cell.peak_lr for cell in tasks[0].searched["cosine"]] == [0.01, 0.1, 1.0]


def test_tasks_do_not_depend_on_the_order_of_the_results() -> None:
    first, second = collect_tasks(study()), collect_tasks(reversed(study()))
    assert list(map(vars, first)) == list(map(vars, second))


def test_fresh_seeds_are_reported_and_tuning_seeds_choose() -> None:
    """The reported runs are those given; the search says what the target is."""
    fresh = [recorded(recipe, 0.1, seed, 0.7) for recipe in ("cosine", "automatic") for seed in (10, 11)]
    (comparison,) = compare_recipes(collect_tasks(study(), fresh), "cosine", "loss")
    assert comparison.costs[0].tolist() == [[0.7, 0.7], [0.7, 0.7]]
    assert comparison.target(comparison.tasks[0]) == pytest.approx(START - 0.95 * (START - 0.515))


def test_settings_with_fewer_seeds_are_not_chosen() -> None:
    """A lucky single run at another rate does not win a search."""
    lucky = recorded("cosine", 0.03, 0, 0.1)
    assert collect_tasks([*study(), lucky])[0].reported["cosine"].peak_lr == 0.1


def test_scores_and_pairs_by_hand() -> None:
    """Seeds 0 to 3 end at 0.5 to 0.53: the mean 0.515 scores 1. Automatic is 0.1 above in every seed, and loses all."""
    loss = {c.measure: c for c in compare_recipes(collect_tasks(study()), "cosine", "loss")}["loss"]
    assert loss.scores[0][0] == pytest.approx((START - np.array([0.5, 0.51, 0.52, 0.53])) / (START - 0.515))
    guarded, automatic = loss.pairs[:2]
    assert (guarded.difference.mean, guarded.difference.p_value, guarded.wins) == (0.0, 1.0, 0.5)
    assert automatic.difference.mean == pytest.approx(0.1)
    assert (automatic.difference.p_value, automatic.wins) == (2 / 2**4, 0.0)
    assert automatic.adjusted_p == pytest.approx(4 * 2 / 2**4)  # the smallest two of four: 4 × 0.125, then 3 × and up
    assert loss.pooled["win rate"].values.tolist() == [0.5, 0.5, 0.0]
    assert loss.pooled["probability of improvement"].values.tolist() == [0.5, 0.5, 0.0]


def test_a_run_that_misses_the_target_is_censored_and_not_left_out() -> None:
    """The target is 0.589: cosine reaches it with its last evaluation in all seeds, automatic in none."""
    (comparison,) = compare_recipes(collect_tasks(study()), "cosine", "loss")
    assert comparison.times[0][0].tolist() == [40.0] * 4
    assert comparison.times[0][2].tolist() == [math.inf] * 4
    assert comparison.pooled["time score"].values.tolist() == [1.0, 1.0, 0.0]


def test_errors_are_compared_where_there_are_accuracies_and_losses_elsewhere() -> None:
    (comparison,) = compare_recipes(collect_tasks(study()), "cosine", "error")
    digits, plain = comparison.costs
    assert digits[0] == pytest.approx([0.05, 0.05, 0.05, 0.05])
    assert plain[0] == pytest.approx([0.5, 0.51, 0.52, 0.53])


def test_diverged_runs_are_counted_and_score_nothing() -> None:
    results = [recorded("cosine", 0.1, seed, 0.5) for seed in range(3)]
    results += [recorded("automatic", 0.1, seed, math.inf if seed else 0.5) for seed in range(3)]
    (comparison,) = compare_recipes(collect_tasks(results), "cosine", "loss")
    assert comparison.scores[0][1].tolist() == [1.0, 0.0, 0.0]
    assert comparison.diverged("automatic").share == pytest.approx(2 / 3)
    assert comparison.diverged("cosine").share == 0.0


def test_only_seeds_that_all_recipes_have_are_compared() -> None:
    results = [r for r in study() if (r.run.recipe, r.run.seed) != ("automatic", 1)]
    (comparison,) = compare_recipes(collect_tasks(results), "cosine", "loss")
    assert all(costs.shape == (3, 3) for costs in comparison.costs)


def test_recipes_that_miss_a_task_and_tasks_without_a_scale_are_left_out_of_pools() -> None:
    """A recipe on one of two tasks; a task on which the baseline learns nothing."""
    extra = [recorded("step", 0.1, seed, 0.4) for seed in range(4)]
    (comparison,) = compare_recipes(collect_tasks([*study(), *extra]), "cosine", "loss")
    assert "step" not in comparison.recipes
    assert comparison.partial == ("step",)
    hopeless = [recorded(r, 0.1, s, START, workload="z") for r in comparison.recipes for s in range(4)]
    (comparison,) = compare_recipes(collect_tasks([*study(), *hopeless]), "cosine", "loss")
    assert [task.workload for task in comparison.unscaled] == ["z"]
    assert len(comparison.tasks) == 2


def test_a_recipe_that_misses_a_task_is_named_below_the_tables() -> None:
    extra = [recorded("step", 0.1, seed, 0.4) for seed in range(4)]
    tables = make_report([*study(), *extra]).tables
    for name in ("pooled-loss-sgd", "tasks-loss-sgd"):
        assert tables[name].notes[-1] == "Not compared, since some task has no run of it: step."
    assert not any("Not compared" in note for note in make_report(study()).tables["pooled-loss-sgd"].notes)


def test_runs_that_diverged_count_where_the_baseline_learns_nothing() -> None:
    """There is no scale on a task of which every run of the baseline diverged, and three of its six runs did."""
    both = [recorded(r, 0.1, s, 0.5) for r in ("cosine", "automatic") for s in range(3)]
    lost = [recorded("cosine", 0.1, s, math.inf, workload="z") for s in range(3)]
    kept = [recorded("automatic", 0.1, s, 0.5, workload="z") for s in range(3)]
    (comparison,) = compare_recipes(collect_tasks([*both, *lost, *kept]), "cosine", "loss")
    assert [task.workload for task in comparison.unscaled] == ["z"]
    assert comparison.diverged("cosine").share == 0.5
    assert comparison.diverged("automatic").share == 0.0


def test_without_its_baseline_an_optimizer_is_not_compared() -> None:
    assert compare_recipes(collect_tasks(study()), "step", "loss") == []


def test_tables_name_workloads_by_title_and_mark_what_is_significant() -> None:
    """8 seeds: 2/2⁸ after Holm over four pairs is still below 5 %."""
    report = make_report(study(seeds=8), titles={"plain": "plain sailing"})
    table = report.tables["tasks-loss-sgd"]
    assert table.headings == ("workload", "seeds", "cosine", "cosine+guarded", "automatic")
    assert [row[0] for row in table.rows] == ["digits", "plain sailing"]
    assert table.rows[0][4].endswith("⁻")
    assert not table.rows[0][3].endswith(("⁺", "⁻"))
    assert report.tables["tasks-error-sgd"].rows[0][2] == "95 ± 0"


def test_sensitivity_is_that_of_the_search() -> None:
    """Cosine: means 1.515, 0.515 and 2; the other rows likewise."""
    report = make_report(study())
    row = report.tables["sensitivity-sgd"].rows[0]
    assert row[1].startswith(f"{(1.515 + 0.515 + START) / 3 - 0.515:.3f} [")
    assert row[3].startswith("0.000 [")


def test_csv_files_hold_every_cell_and_every_pair() -> None:
    report = make_report(study())
    cells = list(csv.DictReader(io.StringIO(cells_csv(report.tasks, report.names))))
    assert len(cells) == 2 * (9 + 3)
    diverged = next(cell for cell in cells if cell["recipe"] == "cosine" and cell["learning_rate"] == "1.0")
    assert (diverged["diverged_runs"], float(diverged["test_loss"])) == ("4", START)
    comparisons = [c for found in report.comparisons.values() for c in found]
    pairs = list(csv.DictReader(io.StringIO(pairs_csv(comparisons, report.names))))
    assert len(pairs) == 2 * 2 * 2
    assert {pair["measure"] for pair in pairs if pair["workload"] == "plain"} == {"loss"}


def test_recipes_can_be_chosen_and_ordered() -> None:
    report = make_report(study(), recipes=["automatic", "cosine"])
    assert report.tables["tasks-loss-sgd"].headings[2:] == ("automatic", "cosine")


def test_nothing_to_report_is_an_error() -> None:
    failed = [replace(result, status="failed") for result in study()]
    with pytest.raises(StudyError, match="no run was carried out"):
        make_report(failed)
