"""What growing noise gives the paper, from losses by hand."""

from __future__ import annotations

import pytest
from scipy import stats

from experiments.growing_noise import SmallBatches
from experiments.paper import growing_noise
from made_up_records import ABOUT, seeds_of

WITH, WITHOUT = [0.9, 1.0, 0.8], [1.0, 1.3, 1.0]


def test_the_change_is_paired_by_seed_and_in_shares_of_the_mean_without_the_law() -> None:
    recipes = {
        "constant": seeds_of(WITHOUT), "constant, the law alone": seeds_of(WITH),
        "constant+guarded": seeds_of(WITHOUT), "constant+guarded without": seeds_of(WITHOUT),
    }  # fmt: skip
    entry = {"workload": SmallBatches.name, "optimizer": "sgd", "peak_lr": 0.1, "recipes": recipes}
    numbers = growing_noise.part({"about": ABOUT, "pairs": [entry]}).numbers
    low, high = stats.ttest_rel(WITH, WITHOUT).confidence_interval(0.95)
    mean = sum(WITHOUT) / 3
    for name, value in (("change", -0.6 / 3), ("low", low), ("high", high)):
        written = numbers[f"growing-noise.batches.sgd.alone.{name}"]
        assert float(written.strip("$").removesuffix(r"\,\%")) == pytest.approx(100.0 * value / mean, abs=0.05001)
    assert numbers["growing-noise.batches.sgd.guarded.change"] == r"$+0.0\,\%$"
    assert numbers["growing-noise.seeds"] == str(ABOUT["seeds"])
