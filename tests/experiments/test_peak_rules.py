"""Rules on invented sweeps, and how they are judged on an invented truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptive_lr.study import Run, RunResult
from experiments.peak_rule_table import Truth, found_peak, judged, left_out, spent
from experiments.recorded_sweep import RULES, Sweep, by_divergence, by_ratio, compound, quantile, size


def sweep(optimizer: str = "unknown", *, steps: int = 300, ratios: tuple[float, ...] = (1.0, 0.5, 0.25)) -> Sweep:
    """Ratios in proportion to the learning rate, a loss that falls and does not diverge."""
    rates = 1e-3 * 10.0 ** (np.arange(44) / 12)
    rows = [
        {"lr": lr, "loss": 2.0 - 0.01 * index, "ratios": [lr * ratio for ratio in ratios]}
        for index, lr in enumerate(rates.tolist())
    ]
    return Sweep(optimizer, steps, rows)


TRUTH = Truth((-3.0, -2.0, -1.0, 0.0), (2.0, 1.0, 0.1, 0.2), (2.0, 1.0, 0.1, 0.2), (0.2, 0.9, 0.95, 0.945))


def test_a_ratio_that_is_met_names_its_learning_rate() -> None:
    """The largest at its level; a quantile where that quantile is; less for longer runs."""
    assert by_ratio(0.12)(sweep()) == pytest.approx(np.log10(0.12), abs=1e-9)
    assert by_ratio(0.12, quantile(0.5))(sweep()) == pytest.approx(np.log10(0.24), abs=1e-9)
    assert by_ratio(0.12)(sweep(steps=30_000)) == pytest.approx(np.log10(0.012), abs=1e-9)


def test_what_all_matrices_come_to_names_a_lower_one() -> None:
    """Ratios of 1, 1/2 and 1/4 of the learning rate: the rate at the first rung past the level, in proportion."""
    for summary in (compound, size):
        level = 10.0 ** by_ratio(0.12, summary)(sweep())
        assert summary([level, 0.5 * level, 0.25 * level]) == pytest.approx(0.12, rel=0.02)
        assert level < 0.12
    assert compound([0.1] * 40) == pytest.approx(1.1**16 - 1.0)
    assert size([0.1]) == pytest.approx(0.1, rel=0.03)


def test_a_rule_sees_a_tenth_of_the_run_and_carries_on_in_proportion() -> None:
    """Ten updates less two trials: eight rungs, and at most ten times the last of them."""
    assert by_ratio(0.12)(sweep(steps=100)) == pytest.approx(np.log10(1e-2 * 10 ** (7 / 12)), abs=1e-9)


def test_what_is_usual_draws_a_rule_to_it_where_something_is() -> None:
    free, drawn = by_ratio(0.12), by_ratio(0.12, weight=0.5)
    assert drawn(sweep()) == free(sweep())
    assert -1.75 < drawn(sweep("adamw")) < free(sweep("adamw"))


def test_divergence_is_found_where_the_loss_rises() -> None:
    rows = sweep().rows
    risen = [{**row, "loss": 50.0} if index >= 20 else row for index, row in enumerate(rows)]
    assert by_divergence(Sweep("sgd", 300, risen)) == pytest.approx(np.log10(rows[20]["lr"] / 10.0), abs=0.1)


def test_the_truth_knows_its_interval_and_what_a_peak_costs() -> None:
    """Tuned is -1 by loss; 0 is within a point; between grid points accuracy is linear, the loss geometric."""
    assert TRUTH.interval() == (-1.0, 0.0)
    assert TRUTH.gap(-1.5) == pytest.approx(2.5)
    assert TRUTH.loss_ratio(-1.5) == pytest.approx(10.0**0.5)


def test_a_summary_counts_what_it_says() -> None:
    """One pair inside by the law's own level; the level chosen without a workload is the best of the others'."""
    truths, sweeps = (
        {("a", "sgd"): TRUTH, ("b", "sgd"): TRUTH},
        {pair: [sweep()] for pair in [("a", "sgd"), ("b", "sgd")]},
    )
    row = judged(by_ratio(0.12), truths, sweeps)
    assert (row["inside"], row["worst error"]) == (1.0, 0.0)
    assert row["median gap"] == pytest.approx(0.5 * (1.0 + np.log10(0.12)))
    assert left_out(truths, sweeps).keys() == {"a", "b"}
    assert all(np.isfinite(rule(sweep("adamw"))) for rule in RULES.values())


def automatic(*decisions: tuple[int, str, float], steps: int = 100) -> RunResult:
    """A run at a learning rate of 2 of which the range test decided so: step, action, factor after it."""
    made: list[dict[str, Any]] = [
        {"step": step, "action": action, "controller": "range_test", "factor_after": factor}
        for step, action, factor in decisions
    ]
    other = {"step": 99, "action": "peak", "controller": "rescue", "factor_after": 0.01}
    run = Run("digits", "sgd", "automatic", 2.0, 0, steps)
    return RunResult(run, "", "completed", decisions=(*made, other))


def test_the_peak_found_is_the_last_one_and_what_was_spent_ends_with_the_last_probe() -> None:
    """Ten updates until the peak is known, probes of eight and of three; a skipped update ends none of them."""
    swept = [(0, "trial", 1.0), (9, "peak", 1.0)]
    probed = [(12, "probe", 1.0), (14, "skip", 1.0), (20, "compare", 0.1)]
    raised = [(28, "raise", 1.0), (28, "probe", 1.0), (31, "release", 1.5)]
    assert found_peak(automatic(*swept, (12, "release", 0.1))) == pytest.approx(0.2)
    assert spent(automatic(*swept, (12, "release", 0.1))) == pytest.approx(0.10)
    assert found_peak(automatic(*swept, *probed, *raised)) == pytest.approx(3.0)
    assert spent(automatic(*swept, *probed, *raised)) == pytest.approx(0.10 + 0.08 + 0.03)


def test_a_run_without_a_sweep_found_no_peak() -> None:
    assert np.isnan(found_peak(automatic()))
    assert spent(automatic()) == 0.0
