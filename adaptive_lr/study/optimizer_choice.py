"""The optimizers that recipes are compared with, and the learning rates they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.references import is_reference, load, own_file
from adaptive_lr.study.sources import code_digest


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer to compare with, and the peaks it is given.

    Attributes:
        label: how it is called in tables and figures.
        build: parameters (or parameter groups) and learning rate -> optimizer.
        settings: everything else that was chosen, for the record.
        learning_rates: those given by default, ascending: for the optimizers here nine half-decades around the best
            peak of the digits workload, from thirty times too small to three hundred times too large.
        default_lr: its customary learning rate, > 0, which recipes get that are not tuned, and around which they are.
        name: by which recipes that bring an optimizer of their own know which one it is to stand for.
    """

    label: str
    build: Callable[[Iterable[nn.Parameter] | list[dict[str, Any]], float], Optimizer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    learning_rates: tuple[float, ...] = ()
    default_lr: float = 1e-3
    name: str = ""

    def __post_init__(self) -> None:
        if not self.default_lr > 0.0:
            raise StudyError(f"optimizer {self.label!r} must have a default_lr > 0, got {self.default_lr!r}")


OPTIMIZERS: Mapping[str, OptimizerChoice] = {
    "sgd": OptimizerChoice(
        "SGD, momentum 0.9",
        lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
        {"momentum": 0.9},
        (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0),
        0.1,  # He et al. (2016, arXiv:1512.03385)
        "sgd",
    ),
    "adamw": OptimizerChoice(
        "AdamW",
        lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=0.01),
        {"betas": (0.9, 0.999), "weight_decay": 0.01},
        (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
        1e-3,  # Kingma & Ba (2015, arXiv:1412.6980), and torch's
        "adamw",
    ),
}


def find_optimizer(name: str) -> OptimizerChoice:
    """The optimizer of that name, or the `OptimizerChoice` that a reference names.

    Raises:
        StudyError: there is none; the sentence lists those there are.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    if not is_reference(name):
        raise StudyError(
            f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}, "
            "or your own as `file.py:attribute` or `module:attribute`"
        )
    return _load(name)


def optimizer_identity(name: str) -> dict[str, Any]:
    """Everything that decides what an optimizer does, as plain values; of a user's own, its source as well."""
    choice = find_optimizer(name)
    files = [] if name in OPTIMIZERS else own_file(name)
    source = {"source": code_digest(files)} if files else {}
    return {**choice.settings, **source}


@lru_cache(maxsize=32)
def _load(reference: str) -> OptimizerChoice:
    found = load(reference, "optimizer")
    if not isinstance(found, OptimizerChoice):
        raise StudyError(f"optimizer {reference!r} must be an OptimizerChoice, got {type(found).__name__}")
    return found
