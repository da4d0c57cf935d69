"""Aggregated TensorBoard runs, read back as TensorBoard reads them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from adaptive_lr.study.curves import MOST_POINTS, learning_rate, training_loss, validation_accuracy, validation_loss
from adaptive_lr.study.tensorboard import MOST_SELECTED, aggregate
from recorded import START, recorded, study


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def curve(folder: Path, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in read(folder).Scalars(tag)}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorboard")
    aggregate([result for result in study(seeds=5) if result.run.workload == "digits"], folder)
    return folder


def test_there_is_one_run_for_each_recipe_and_one_for_each_learning_rate(digits: Path) -> None:
    runs = {str(path.parent.relative_to(digits)) for path in digits.rglob("events.out.tfevents.*")}
    assert {run for run in runs if run.startswith("tuned/")} == {
        f"tuned/sgd/{recipe}" for recipe in ("cosine", "cosine+guarded", "automatic")
    }
    assert {run for run in runs if run.startswith("every-lr/sgd/cosine/")} == {
        f"every-lr/sgd/cosine/lr={rate}" for rate in ("0.01", "0.1", "1")
    }
    assert len(runs) == 3 + 9


def test_a_curve_is_the_interquartile_mean_over_seeds_and_its_band_the_extreme_seeds(digits: Path) -> None:
    """Five seeds end at 0.5 to 0.54: the middle three at 0.52 on average; at step 20 half way there."""
    folder = digits / "tuned" / "sgd" / "cosine"
    ends = [0.5, 0.51, 0.52, 0.53, 0.54]
    assert curve(folder, "loss/val_loss")[40] == pytest.approx(stats.trim_mean(ends, 0.25))
    assert curve(folder, "band/loss_val_loss_low")[40] == pytest.approx(0.5)
    assert curve(folder, "band/loss_val_loss_high")[20] == pytest.approx((START + 0.54) / 2)
    assert set(curve(folder, "loss/train")) == set(range(1, 41))
    assert list(curve(folder, "lr/0").values()) == pytest.approx([0.1] * 40)
    assert curve(folder, "metric/val_accuracy")[40] == pytest.approx(0.95)


def test_diverged_runs_stay_in_the_curve_at_the_loss_at_initialisation(digits: Path) -> None:
    folder = digits / "every-lr" / "sgd" / "cosine" / "lr=1"
    assert set(curve(folder, "loss/val_loss").values()) == {START}
    assert set(curve(folder, "loss/train").values()) == {START}


def test_the_layout_has_a_margin_chart_of_tags_that_exist(digits: Path) -> None:
    """Exact tags, each of them written; and charts of several lines whose expressions meet tags."""
    events = read(digits / "tuned" / "sgd" / "automatic")
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = [chart for category in layout.category for chart in category.chart]
    margins = [chart.margin.series[0] for chart in charts if chart.HasField("margin")]
    tags = set(events.Tags()["scalars"])
    assert len(margins) == 4
    assert {tag for series in margins for tag in (series.value, series.lower, series.upper)} == tags
    expressions = [tag for chart in charts if chart.HasField("multiline") for tag in chart.multiline.tag]
    assert {expression.removesuffix("$") for expression in expressions} <= tags


def test_the_run_of_a_recipe_is_of_fresh_seeds_where_there_are_some(tmp_path: Path) -> None:
    """Every setting that was searched has a run of its own beside it, of the seeds of the search."""
    searched = [recorded("cosine", 0.1, 1000 + seed, 0.5 + 0.1 * seed) for seed in range(2)]
    aggregate(searched, tmp_path, [recorded("cosine", 0.1, seed, 0.3 + 0.01 * seed) for seed in range(3)])
    assert curve(tmp_path / "tuned" / "sgd" / "cosine", "loss/val_loss")[40] == pytest.approx(0.31)
    assert curve(tmp_path / "every-lr" / "sgd" / "cosine" / "lr=0.1", "loss/val_loss")[40] == pytest.approx(0.55)


def test_a_recipe_that_was_not_searched_has_a_run(tmp_path: Path) -> None:
    written = aggregate([], tmp_path, [recorded("cosine", 0.1, 0, 0.3)])
    assert [path.relative_to(tmp_path).as_posix() for path in written["tuned"]] == ["tuned/sgd/cosine"]
    assert written["every-lr"] == []


def test_a_text_says_what_the_run_is(digits: Path) -> None:
    event = read(digits / "tuned" / "sgd" / "cosine").Tensors("run/text_summary")[0]
    assert b"learning rate given 0.1, 40 steps" in event.tensor_proto.string_val[0]


def test_the_same_results_make_the_same_bytes(tmp_path: Path) -> None:
    """Into a folder that has them already as well: nothing is added to what was there."""
    results = [result for result in study() if result.run.recipe == "cosine"]
    for folder in ("one", "two", "two"):
        aggregate(results, tmp_path / folder)
    first = {p.relative_to(tmp_path / "one"): p.read_bytes() for p in (tmp_path / "one").rglob("events*")}
    second = {p.relative_to(tmp_path / "two"): p.read_bytes() for p in (tmp_path / "two").rglob("events*")}
    assert first == second
    assert all(
        path.parts[:2] in {("tuned", "digits"), ("tuned", "plain")} for path in first if path.parts[0] == "tuned"
    )


def test_what_compare_leaves_is_few_enough_to_open_with_all_runs_selected() -> None:
    """Nine recipes and two optimizers; TensorBoard's limit is 40."""
    assert MOST_SELECTED >= 9 * 2


def test_long_runs_are_averaged_in_blocks() -> None:
    """1000 steps: 100 blocks of 10, whose means lie in the middle of a straight line's."""
    band = training_loss([recorded("cosine", 0.1, 0, 1.0, steps=1000)])
    assert len(band.steps) == MOST_POINTS
    assert band.steps[-1] == 1000
    assert band.middle == pytest.approx(START - (band.steps - 5.5) / 1000)


def test_a_run_that_ended_early_is_missing_and_one_that_diverged_is_not() -> None:
    """Two runs of 40 steps, one that a controller stopped at 20, one that diverged there."""
    whole = [recorded("cosine", 0.1, seed, 1.0) for seed in (0, 1)]
    short = recorded("cosine", 0.1, 2, 1.0)
    short = replace(
        short, status="stopped", train_losses=short.train_losses[:20], learning_rates=(9.0,) * 20,
        evaluations=short.evaluations[:3],
    )  # fmt: skip
    stopped = training_loss([*whole, short])
    assert stopped.high[-1] == pytest.approx(whole[0].train_losses[-1])
    diverged = [*whole, replace(short, status="diverged")]
    assert training_loss(diverged).high[-1] == START
    assert validation_loss(diverged).high[-1] == START
    assert learning_rate(diverged).high[[0, -1]].tolist() == [9.0, 0.1]
    assert validation_accuracy(diverged) is None


def test_losses_that_are_no_numbers_count_as_the_loss_at_initialisation() -> None:
    result = recorded("cosine", 0.1, 0, 1.0)
    losses = (math.nan, math.inf, *result.train_losses[2:])
    band = training_loss([replace(result, train_losses=losses)])
    assert band.middle[:2].tolist() == [START, START]
    assert np.isfinite(band.middle).all()
