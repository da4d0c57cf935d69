"""Published starting points."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from adaptive_lr.schedules import recipes
from adaptive_lr.schedules.recipes import Recipe

ALL = [
    recipes.llm_pretraining,
    recipes.supervised_fine_tuning,
    recipes.rlhf,
    recipes.dpo,
    recipes.lora,
    recipes.embeddings,
]


@pytest.mark.parametrize("build", ALL, ids=lambda f: f.__name__)
@pytest.mark.parametrize("total_steps", [1, 9, 1000, 100_000])
def test_a_recipe_makes_an_optimizer_and_a_schedule_that_peaks_at_1(
    build: Callable[[int], Recipe], total_steps: int
) -> None:
    recipe = build(total_steps)
    optimizer = recipe.build([torch.nn.Parameter(torch.zeros(2))])
    assert type(optimizer).__name__ == recipe.optimizer
    assert optimizer.param_groups[0]["lr"] == recipe.arguments["lr"]
    assert recipe.schedule(np.arange(total_steps + 1)).max() == 1.0
    assert recipe.name == build.__name__


@pytest.mark.parametrize("build", ALL, ids=lambda f: f.__name__)
def test_every_setting_of_a_recipe_has_a_source(build: Callable[[int], Recipe]) -> None:
    recipe = build(1000)
    assert set(recipe.sources) == {"optimizer", *recipe.arguments, "max_grad_norm", "schedule"}
    for source in recipe.sources.values():
        assert re.search(r"arXiv:\d{4}\.\d{5}", source)


@pytest.mark.parametrize("build", ALL, ids=lambda f: f.__name__)
def test_a_recipe_is_frozen_and_can_be_pickled(build: Callable[[int], Recipe]) -> None:
    recipe = build(1000)
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.max_grad_norm = 3.0  # type: ignore[misc]
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="total_steps must"):
            build(wrong)
    with pytest.raises(TypeError, match="total_steps must"):
        build(10.5)  # type: ignore[arg-type]


def test_pretraining_warms_up_for_2000_steps_and_ends_at_a_tenth() -> None:
    schedule = recipes.llm_pretraining(100_000).schedule
    assert schedule(1000) == 0.5
    assert schedule(2000) == 1.0
    assert schedule(100_000) == 0.1


def test_a_short_run_warms_up_for_a_tenth_of_it() -> None:
    schedule = recipes.lora(100).schedule
    assert schedule(9) < schedule(10) == 1.0
    assert schedule(100) == 0.0
