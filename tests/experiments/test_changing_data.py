"""The study of data that change: what changes, when, and what is compared."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from adaptive_lr.study.digits import Digits
from experiments import changing_data as study
from made_up_records import ABOUT, seeds_of

STEPS = study.PARTS * study.PART


def test_every_part_has_its_own_order_of_the_same_pixels() -> None:
    orders = [study.permutation(part) for part in range(study.PARTS)]
    assert torch.equal(orders[0], torch.arange(64))
    assert all(torch.equal(order.sort().values, orders[0]) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == study.PARTS
    clean, permuted = (list(islice(kind().batches(3), STEPS)) for kind in (Digits, study.PermutedPixels))
    for step in (0, study.PART - 1, study.PART, STEPS - 1):
        assert torch.equal(permuted[step][0], clean[step][0][:, orders[step // study.PART]])
        assert torch.equal(permuted[step][1], clean[step][1])


def test_noise_is_added_part_by_part_and_none_in_the_first() -> None:
    clean, noisy = (list(islice(kind().batches(3), STEPS)) for kind in (Digits, study.NoisierImages))
    for step in (0, study.PART - 1, study.PART, STEPS - 1):
        added = (noisy[step][0] - clean[step][0]).std().item()
        assert added == pytest.approx(study.NOISE * (step // study.PART), rel=0.05)


def test_permuted_pixels_are_evaluated_as_the_last_part_shows_them() -> None:
    task = study.PermutedPixels()
    images, classes = task.splits["test"]
    order = study.permutation(study.PARTS - 1)
    model = task.build_model(0)
    found = task.evaluate(model, "test")
    assert found.loss == pytest.approx(torch.nn.functional.cross_entropy(model(images[:, order]), classes).item())


def test_the_table_sets_control_against_the_plain_run() -> None:
    recipes = {study.PLAIN: seeds_of([1.0, 1.2], [0.9, 0.9]), study.GUARDED: seeds_of([0.5, 0.7], [0.9, 0.9])}
    text = study.markdown({"about": ABOUT, "pairs": [{"workload": "x", "optimizer": "sgd", "recipes": recipes}]})
    assert "| -45.5% | -45.5% to -45.5% |" in text
