"""What is compared: optimizers, base schedules, and recipes, which are a base schedule with or without controllers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, OneCycleLR, ReduceLROnPlateau

from adaptive_lr import controllers, schedules
from adaptive_lr.controllers import Composition
from adaptive_lr.controllers.base import configuration
from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.sources import control_digest

EVALUATION_METRIC = "val_loss"
"""The name under which adaptive recipes observe the validation loss."""

WARMUP_SHARE = 0.05
"""Share of the horizon that the cosine recipes warm up for, linearly."""

STEP_MILESTONES = (0.5, 0.75)
"""Shares of the horizon after which the step recipes divide the rate by ten (He et al. 2016)."""

PLATEAU = {"factor": 0.1, "patience": 5}
"""Of both plateau recipes; patience in evaluations."""


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer to compare with, and the peaks it is given.

    Attributes:
        label: how it is called in tables and figures.
        build: parameters (or parameter groups) and learning rate -> optimizer.
        settings: everything else that was chosen, for the record.
        learning_rates: those given by default, ascending: nine half-decades around the best peak of the digits
            workload, from thirty times too small to three hundred times too large.
    """

    label: str
    build: Callable[[Iterable[nn.Parameter] | list[dict[str, Any]], float], Optimizer]
    settings: Mapping[str, Any]
    learning_rates: tuple[float, ...]


OPTIMIZERS: Mapping[str, OptimizerChoice] = {
    "sgd": OptimizerChoice(
        "SGD, momentum 0.9",
        lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
        {"momentum": 0.9},
        (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0),
    ),
    "adamw": OptimizerChoice(
        "AdamW",
        lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=0.01),
        {"betas": (0.9, 0.999), "weight_decay": 0.01},
        (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    ),
}


class BaseSchedule(NamedTuple):
    """The schedulers of one run: one that steps with every update, one that steps with every evaluation, or none."""

    per_step: LRScheduler | None = None
    per_evaluation: ReduceLROnPlateau | None = None


# The learning rates of the optimizer's parameter groups are the peaks of their schedules.


def _cosine(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    warmup = max(1, round(WARMUP_SHARE * total_steps))
    # From 1/n of the peak, not from zero: an update of zero would teach nothing.
    curve = schedules.warmup(warmup, start_factor=1.0 / warmup).then(schedules.cosine(max(1, total_steps - warmup)))
    return BaseSchedule(LambdaLR(optimizer, curve))


def _cosine_at_once(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    return BaseSchedule(LambdaLR(optimizer, schedules.cosine(total_steps)))


def _one_cycle(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return BaseSchedule(OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps))


def _step(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    return BaseSchedule(MultiStepLR(optimizer, [round(share * total_steps) for share in STEP_MILESTONES], gamma=0.1))


def _reduce_on_plateau(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    return BaseSchedule(per_evaluation=ReduceLROnPlateau(optimizer, **PLATEAU))  # type: ignore[arg-type]


def _constant(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    return BaseSchedule()


@dataclass(frozen=True)
class Recipe:
    """A way to set the learning rate, given a learning rate: its peak, unless the recipe finds that itself.

    Attributes:
        name: how it is called on the command line and in tables.
        description: what it does, for the record; part of a run's identity.
        schedule: optimizer (whose groups hold the learning rate given), horizon in steps -> base schedule.
        controllers: horizon in steps -> the laws layered over the base, or None for a fixed recipe.
        partner: the name of the fixed recipe that an adaptive one is compared with.
        finds_peak: whether the learning rate given is no more than where it starts.
    """

    name: str
    description: str
    schedule: Callable[[Optimizer, int], BaseSchedule]
    controllers: Callable[[int], Composition] | None = None
    partner: str | None = None
    finds_peak: bool = False

    @property
    def base(self) -> str:
        """The name of the fixed recipe that this one belongs to: its partner, or itself."""
        return self.partner or self.name

    def identity(self, total_steps: int) -> dict[str, Any]:
        """Everything that decides what this recipe does, as plain values; the code of control as its hash."""
        laws = None
        if self.controllers is not None:
            composition = self.controllers(total_steps)
            laws = {
                "bounds": [composition.min_factor, composition.max_factor],
                "laws": [{"law": law.name, **configuration(law)} for law in composition],
                "source": control_digest(),
            }
        return {"description": self.description, "controllers": laws}


def _guarded(total_steps: int) -> Composition:
    return controllers.guarded()


def _plateau_and_guarded(total_steps: int) -> Composition:
    guard = controllers.guarded()
    plateau = controllers.Plateau(monitor=EVALUATION_METRIC, **PLATEAU)  # type: ignore[arg-type]
    return replace(guard, controllers=(plateau, *guard))


_FIXED = (
    Recipe("cosine", f"{WARMUP_SHARE:.0%} linear warm-up, then cosine to zero", _cosine),
    Recipe("one-cycle", "torch OneCycleLR with its defaults and inverse momentum", _one_cycle),
    Recipe("step", f"divided by ten after {STEP_MILESTONES[0]:.0%} and {STEP_MILESTONES[1]:.0%}", _step),
    Recipe(
        "plateau",
        "constant, with torch ReduceLROnPlateau on the validation loss, "
        f"factor {PLATEAU['factor']}, patience {PLATEAU['patience']}",
        _reduce_on_plateau,
    ),
)


def _guarded_partner(fixed: Recipe) -> Recipe:
    name = f"{fixed.name}+guarded"
    if fixed.name == "plateau":
        description = "constant, with a layered Plateau; guarded"
        return Recipe(name, description, _constant, _plateau_and_guarded, partner=fixed.name)
    return Recipe(name, f"{fixed.description}; guarded", fixed.schedule, _guarded, partner=fixed.name)


_AUTOMATIC = Recipe(
    "automatic",
    "finds its own peak by a range test, from whatever learning rate it is given; then cosine to zero (no other "
    "warm-up); guarded",
    _cosine_at_once,
    lambda total_steps: controllers.automatic(total_steps=total_steps),
    partner="cosine",
    finds_peak=True,
)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for fixed in _FIXED
    for recipe in (fixed, _guarded_partner(fixed), *([_AUTOMATIC] if fixed.name == _AUTOMATIC.partner else []))
}
"""Every recipe by name: four fixed ones, each followed by those that are compared with it."""


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        StudyError: there is none; the sentence lists those there are.
    """
    if name not in RECIPES:
        raise StudyError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def find_optimizer(name: str) -> OptimizerChoice:
    """The optimizer of that name.

    Raises:
        StudyError: there is none; the sentence lists those there are.
    """
    if name not in OPTIMIZERS:
        raise StudyError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]
