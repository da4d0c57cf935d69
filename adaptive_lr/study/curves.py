"""The curves of all seeds of one setting in one: a middle and a band, over steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adaptive_lr.study.run import RunResult
from adaptive_lr.study.statistics import clip_losses, interquartile_mean
from adaptive_lr.study.statistics.resampling import Array

MOST_POINTS = 100
"""Of a curve with a value for each update; more are averaged in blocks of equal length."""


class Band(NamedTuple):
    """A curve over seeds, each of shape (k,).

    Attributes:
        steps: updates done.
        middle: interquartile mean over seeds (the mean, for fewer than four).
        low, high: the least and the greatest seed.
    """

    steps: Array
    middle: Array
    low: Array
    high: Array


def training_loss(results: Sequence[RunResult]) -> Band:
    """Of the batches, in blocks.

    Losses are clipped at the validation loss at initialisation, and a run that ended early (it diverged) goes on with
    that: it stays in the band and does not vanish from the mean.
    """
    length = max(len(result.train_losses) for result in results)
    curves = []
    for result in results:
        losses = np.full(length, math.nan)
        known = length if result.status == "diverged" else len(result.train_losses)
        losses[: len(result.train_losses)] = result.train_losses
        losses[:known] = clip_losses(losses[:known], np.full(known, _initial(result)))
        curves.append(losses)
    return _band(*_in_blocks(np.stack(curves)))


def learning_rate(results: Sequence[RunResult]) -> Band:
    """As used, in blocks; of the runs that had not ended."""
    length = max(len(result.learning_rates) for result in results)
    curves = [np.array([*r.learning_rates, *[math.nan] * (length - len(r.learning_rates))]) for r in results]
    return _band(*_in_blocks(np.stack(curves)))


def validation_loss(results: Sequence[RunResult]) -> Band:
    """Of every evaluation, clipped as the training loss is."""
    steps = sorted({step for result in results for step, *_ in result.evaluations})
    curves = []
    for result in results:
        known = {step: loss for step, loss, _ in result.evaluations}
        beyond = math.inf if result.status == "diverged" else math.nan
        losses = np.array([known.get(step, beyond) for step in steps])
        clipped = clip_losses(losses, np.full(len(steps), _initial(result)))
        curves.append(np.where([step in known or result.status == "diverged" for step in steps], clipped, np.nan))
    return _band(np.array(steps, dtype=np.float64), np.stack(curves))


def validation_accuracy(results: Sequence[RunResult]) -> Band | None:
    """Of every evaluation that has one, of the runs that had not ended; None if none has."""
    steps = sorted({step for result in results for step, _, accuracy in result.evaluations if accuracy is not None})
    if not steps:
        return None
    known = [{step: accuracy for step, _, accuracy in result.evaluations} for result in results]
    values = [[of_one.get(step) for step in steps] for of_one in known]
    return _band(np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64))


def _initial(result: RunResult) -> float:
    assert result.initial is not None, "only runs that were carried out have curves"
    return result.initial.loss


def _in_blocks(curves: Array) -> tuple[Array, Array]:
    """Steps at the ends of the blocks, and the mean of each curve in each block."""
    length = curves.shape[1]
    size = max(1, math.ceil(length / MOST_POINTS))
    edges = [*range(0, length, size), length]
    blocks = [curves[:, first:last] for first, last in itertools.pairwise(edges)]
    means = np.stack([np.where(np.isnan(block).any(axis=1), np.nan, block.mean(axis=1)) for block in blocks], axis=1)
    return np.array(edges[1:], dtype=np.float64), means


def _band(steps: Array, curves: Array) -> Band:
    """NaN: a run that is not there at that step."""
    kept = ~np.isnan(curves).all(axis=0)
    present = [column[~np.isnan(column)] for column in curves.T[kept]]
    middle = [float(interquartile_mean([values])) for values in present]
    return Band(
        steps[kept], np.array(middle), np.array([v.min() for v in present]), np.array([v.max() for v in present])
    )
