"""What data that change give the paper, from losses by hand."""

from __future__ import annotations

import pytest
from scipy import stats

from experiments.changing_data import GUARDED, PLAIN, PermutedPixels
from experiments.paper import changing_data
from made_up_records import ABOUT, seeds_of

WITH, WITHOUT = [0.9, 1.0, 0.8], [1.0, 1.3, 1.0]


def test_the_change_is_paired_by_seed_and_in_shares_of_the_mean_of_the_plain_run() -> None:
    recipes = {PLAIN: seeds_of(WITHOUT), GUARDED: seeds_of(WITH)}
    entry = {"workload": PermutedPixels.name, "optimizer": "sgd", "peak_lr": 0.1, "recipes": recipes}
    numbers = changing_data.part({"about": ABOUT, "pairs": [entry]}).numbers
    low, high = stats.ttest_rel(WITH, WITHOUT).confidence_interval(0.95)
    for name, value in (("change", -0.6 / 3), ("low", low), ("high", high)):
        written = numbers[f"changing-data.permuted.sgd.{name}"]
        expected = 100.0 * value / (sum(WITHOUT) / 3)
        assert float(written.strip("$").removesuffix(r"\,\%")) == pytest.approx(expected, abs=0.05001)
    assert numbers["changing-data.seeds"] == str(ABOUT["seeds"])
