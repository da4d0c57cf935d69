"""Running statistics of batch normalisation at weights that no training step was taken at.

An optimizer that is judged at an average of its weights trains at other ones, and the statistics gathered there are
not those of the average (Schedule-Free's documentation, and Izmailov et al. 2018, arXiv:1803.05407).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adaptive_lr.study.workload import Workload

STATISTICS_BATCHES = 50
"""Batches that statistics are recomputed from: the number in Schedule-Free's documentation."""


def has_running_statistics(model: nn.Module) -> bool:
    """Whether a model has batch normalisation that is evaluated with running statistics."""
    return bool(_layers(model))


@contextmanager
def recomputed_statistics(model: nn.Module, workload: Workload, batches: Iterable[Any], *, seed: int) -> Iterator[None]:
    """Within it, running statistics are the plain means over some batches at the present weights.

    Afterwards they, torch's random state and the mode of every module are as they were, so that training is not
    altered.

    Args:
        model: its batch normalisation is recomputed; within the context it is in evaluation mode.
        workload: whose training loss leads the batches through the model.
        batches: a finite number of training batches.
        seed: of what is drawn at random on the way (dropout, say).
    """
    layers = _layers(model)
    modes = [(module, module.training) for module in model.modules()]
    kept = [(layer, layer.momentum, {name: value.clone() for name, value in _statistics(layer)}) for layer in layers]
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model.train()
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # torch's word for a cumulative mean
            for batch in batches:
                workload.loss(model, batch)
        model.eval()
        yield
    finally:
        for layer, momentum, values in kept:
            layer.momentum = momentum
            with torch.no_grad():
                for name, value in _statistics(layer):
                    value.copy_(values[name])
        for module, training in modes:
            module.training = training


def _layers(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


def _statistics(layer: _BatchNorm) -> list[tuple[str, Tensor]]:
    found = ((name, getattr(layer, name)) for name in ("running_mean", "running_var", "num_batches_tracked"))
    return [(name, value) for name, value in found if value is not None]
