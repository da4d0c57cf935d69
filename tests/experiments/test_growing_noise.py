"""The study of growing noise: what is disturbed, when, and what is compared."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from adaptive_lr.study.digits import Digits
from adaptive_lr.study.recipe import find_recipe
from experiments import growing_noise as study
from made_up_records import ABOUT, seeds_of


def test_until_half_of_the_run_nothing_is_disturbed_and_then_batches_are_small() -> None:
    clean, small = (list(islice(kind().batches(3), study.HALF + 1)) for kind in (Digits, study.SmallBatches))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(clean[:-1], small[:-1], strict=True))
    assert torch.equal(small[-1][1], clean[-1][1][: study.SMALL_BATCH])


def test_wrong_labels_are_as_many_as_stated_on_the_same_images() -> None:
    clean, wrong = (list(islice(kind().batches(3), study.HALF + 100)) for kind in (Digits, study.WrongLabels))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(clean, wrong, strict=True))
    changed = [(a[1] != b[1]).double().mean().item() for a, b in zip(clean, wrong, strict=True)]
    assert not any(changed[: study.HALF])
    later = changed[study.HALF :]
    assert sum(later) / len(later) == pytest.approx(0.9 * study.LABEL_NOISE_SHARE, abs=0.03)  # a tenth is drawn right


def test_the_recipes_of_a_pair_differ_by_the_law_alone() -> None:
    for treated, control in study.PAIRS:
        laws = [() if c is None else c(100).names for c in (find_recipe(treated).controllers,
                                                             find_recipe(control).controllers)]  # fmt: skip
        assert set(laws[0]) - set(laws[1]) == {study.LAW}
        assert set(laws[1]) <= set(laws[0])
        assert find_recipe(treated).schedule is find_recipe(control).schedule


def test_the_table_compares_each_recipe_with_the_one_without_the_law() -> None:
    names = [find_recipe(recipe).name for pair in study.PAIRS for recipe in reversed(pair)]
    losses = ([1.0, 1.2], [0.5, 0.7], [0.4, 0.6], [0.4, 0.6])
    recipes = {name: seeds_of(loss, [0.9, 0.9]) for name, loss in zip(names, losses, strict=True)}
    text = study.markdown({"about": ABOUT, "pairs": [{"workload": "x", "optimizer": "sgd", "recipes": recipes}]})
    assert "| -45.5% | -45.5% to -45.5% |" in text
    assert "| +0.0% | +0.0% to +0.0% |" in text
