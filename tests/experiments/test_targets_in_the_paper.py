"""Steps to what cosine learns: what the no-harm study records of them, and what its tables and the paper say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from adaptive_lr.study import Evaluation, Run, RunResult
from adaptive_lr.study.summary import Cell
from experiments import no_harm
from experiments.no_harm_tables import markdown
from experiments.paper import targets
from experiments.target_tables import arrivals
from made_up_records import ABOUT, seeds_of

STEPS = {"cosine": [20, 20, 40], "cosine+guarded": [20, 20, 40], "automatic": [60, 80, None]}


@pytest.fixture
def record() -> dict[str, Any]:
    """One workload with both optimizers, three seeds, a horizon of 100 steps."""
    entry = {"workload": "x_1", "peak_lr": 0.1, "steps": 100, "target_loss": 0.3, "steps_to_target": STEPS,
             "recipes": {recipe: seeds_of([0.2, 0.22, 0.24]) for recipe in STEPS}}  # fmt: skip
    return {"about": ABOUT, "pairs": [{**entry, "optimizer": name} for name in ("sgd", "adamw")]}


def cell(*curves: tuple[float, ...]) -> Cell:
    """Runs with these validation losses at steps 0, 10, 20, ..., from their first to their last."""
    results = [
        RunResult(Run("digits", "sgd", "cosine", 0.1, seed, 20), "", "completed", initial=Evaluation(losses[0]),
                  validation=Evaluation(losses[-1]), test=Evaluation(losses[-1]),
                  evaluations=tuple((10 * place, loss, None) for place, loss in enumerate(losses)))
        for seed, losses in enumerate(curves)
    ]  # fmt: skip
    return Cell("sgd", "cosine", 0.1, tuple(results))


def test_the_target_is_95_percent_of_what_the_mean_run_learns() -> None:
    """From 2 to 0.5 in the mean: 2 - 0.95 * 1.5; the second seed is there at step 10, the first only with its end."""
    found = cell((2.0, 1.0, 0.4), (2.0, 0.5, 0.6))
    assert no_harm.target_of(found) == pytest.approx(0.575)
    assert no_harm.arrivals(found, 0.575) == [20, 10]
    assert no_harm.arrivals(found, 0.45) == [20, None]


def test_a_run_that_never_comes_there_counts_with_the_horizon(record: dict[str, Any]) -> None:
    one = arrivals(record, "automatic")[0]
    assert (one.runs, one.reached, one.median) == (3, 2, 80.0)
    assert one.mean.mean == pytest.approx((60 + 80 + 100) / 3)


def test_p_is_that_of_the_log_rank_test_and_holm_is_over_the_pairs_of_a_recipe(record: dict[str, Any]) -> None:
    data = stats.CensoredData(uncensored=[60, 80], right=[100]), stats.CensoredData(uncensored=[20, 20, 40])
    expected = float(stats.logrank(*data).pvalue)
    assert [one.p_value for one in arrivals(record, "automatic")] == pytest.approx([expected] * 2)
    assert [one.adjusted_p for one in arrivals(record, "automatic")] == pytest.approx([2 * expected] * 2)
    assert [one.adjusted_p for one in arrivals(record, "cosine+guarded")] == [1.0, 1.0]


def test_the_paper_says_what_the_record_says(record: dict[str, Any]) -> None:
    part = targets.part(record)
    assert part.numbers["targets.automatic.reached"] == r"66.7\,\%"
    assert part.numbers["targets.automatic.ratio"] == "$3$"
    assert part.numbers["targets.guarded.ratio"] == "$1$"
    assert part.numbers["targets.automatic.significantly-later"] == "2"  # p is 0.049 after Holm
    assert part.numbers["targets.automatic.significantly-earlier"] == "0"
    assert r"x\_1 & SGD & $0.3$ & 3/3 & 27 & 3/3 & 27 & $1$ & 2/3 & 80 &" in part.tables["targets"]
    assert part.figures["targets.pdf"].startswith(b"%PDF")
    assert targets.part(record) == part
    assert "| x_1 | sgd | 0.3 | 3 of 3 | 27 | 3 of 3 | 27 | 1 | 1 | 2 of 3 | 80 |" in markdown(record)


def test_the_curves_are_shares_of_runs(record: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three seeds: at a fifth of the horizon two of cosine's are there, at its end two of automatic's."""
    figures = []
    monkeypatch.setattr(targets, "pdf", lambda figure: figures.append(figure) or b"")
    targets.part(record)
    lines = {line.get_label(): line for line in figures[0].get_axes()[0].get_lines()}
    at = {name: np.interp([19.0, 21.0, 100.0], *line.get_data()) for name, line in lines.items()}
    assert at["cosine"] == pytest.approx([0.0, 200 / 3, 100.0])
    assert at["guarded"] == pytest.approx(at["cosine"])
    assert at["automatic"] == pytest.approx([0.0, 0.0, 200 / 3])


def test_a_record_made_before_steps_were_kept_gives_nothing(record: dict[str, Any]) -> None:
    for entry in record["pairs"]:
        del entry["steps_to_target"]
    assert targets.part(record) == targets.Part()
    assert "Steps to" not in markdown(record)
