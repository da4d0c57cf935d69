"""Judging a model in the middle of its training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import islice

import torch
from torch.optim import Optimizer

from adaptive_lr.study.batch_norm import STATISTICS_BATCHES, has_running_statistics, recomputed_statistics
from adaptive_lr.study.workload import Evaluation, Split, Workload


def judge(
    workload: Workload, model: torch.nn.Module, optimizer: Optimizer, split: Split, *, seed: int | None = None
) -> Evaluation:
    """The loss and accuracy of a model on one split; training goes on as if nothing had been asked.

    An optimizer that keeps two sets of weights shows the one it is to be judged at, and running statistics of batch
    normalisation are those of these weights.

    Args:
        workload: what judges it.
        model: in any mode.
        optimizer: that trains it.
        split: of the workload's data.
        seed: of the batches from which statistics are recomputed, where they are; None: they are left as they are, as
            before the first update, when there are no other weights.
    """
    training = model.training
    model.eval()
    _switch(optimizer, "eval")
    try:
        with _statistics(workload, model, optimizer, seed), torch.no_grad():
            loss, accuracy = workload.evaluate(model, split)
    finally:
        _switch(optimizer, "train")
        model.train(training)
    return Evaluation(float(loss), None if accuracy is None else float(accuracy))


def _statistics(
    workload: Workload, model: torch.nn.Module, optimizer: Optimizer, seed: int | None
) -> AbstractContextManager[None]:
    """Those of batch normalisation, anew where an optimizer is judged at other weights than it trains at."""
    if seed is None or not (hasattr(optimizer, "eval") and has_running_statistics(model)):
        return nullcontext()
    batches = islice(workload.batches(seed), STATISTICS_BATCHES)
    return recomputed_statistics(model, workload, batches, seed=seed)


def _switch(optimizer: Optimizer, mode: str) -> None:
    """Tell an optimizer that keeps two sets of weights which one is wanted; torch's own have nothing of the kind."""
    method: Callable[[], object] | None = getattr(optimizer, mode, None)
    if method is not None:
        method()
