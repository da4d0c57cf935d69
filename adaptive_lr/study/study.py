"""A study: workloads × recipes × optimizers × learning rates × seeds × horizons, in one phase or in two."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch

from adaptive_lr.study.budget import Budget, Point, centre_of
from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.optimizer_choice import OPTIMIZERS, find_optimizer
from adaptive_lr.study.recipe import COMPARED, find_recipe
from adaptive_lr.study.references import describe
from adaptive_lr.study.run import Run, derive_seed
from adaptive_lr.study.workload import Workload, as_evaluation, check_first_loss, check_start, load_workload

FIRST_TUNING_SEED = 1000
"""Tuning has repetitions of its own, from here on: what is reported never chose itself."""


class Group(NamedTuple):
    """What is tuned, and reported, on its own.

    Attributes:
        workload, optimizer, recipe: names or references.
        steps: updates of a run.
    """

    workload: str
    steps: int
    optimizer: str
    recipe: str


@dataclass(frozen=True)
class Tuning:
    """The first of two phases: every recipe tries as many settings, and the best on validation is carried out anew.

    Args:
        budgets: what may be tried, such as "default", "grid-7" and "search-20"; each leads to a choice of its own.
        seeds: repetitions of each setting, >= 1; they are not those of the second phase.
        centres: workload -> optimizer -> learning rate around which it is searched, the same for all recipes; where
            there is none, the optimizer's `default_lr`.

    Raises:
        StudyError: something is unknown or out of range.
    """

    budgets: Sequence[str] = ("grid-7",)
    seeds: int = 2
    centres: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.budgets, str) or not self.budgets:
            raise StudyError(f"tuning needs a list of budgets, got {self.budgets!r}")
        for budget in self.budgets:
            Budget.parse(budget)
        if self.seeds < 1:
            raise StudyError(f"tuning seeds must be >= 1, got {self.seeds}")
        for workload, rates in self.centres.items():
            for optimizer, rate in rates.items():
                _check_rate(f"the centre of {workload} with {optimizer}", rate)


@dataclass(frozen=True)
class Study:
    """What is compared.

    Without `tuning` every recipe is carried out at every learning rate with every seed. With it, in two phases: the
    settings of its budget with seeds of their own, then the best of them with `seeds` fresh ones.

    Args:
        workloads: references that `load_workload` understands.
        recipes: names of recipes, or references to a `Recipe`.
        optimizers: names of optimizers, or references to an `OptimizerChoice`; all that have a name by default.
        learning_rates: those given to every optimizer, > 0, or those of each by name; None: each optimizer's own grid,
            and with tuning the grid around the centre.
        seeds: repetitions that are reported, 1 to 1000, shared by all recipes.
        steps: updates of each run, >= 1; None: the workload's own horizon.
        horizons: multiples of that, > 0; each is a training of its own, with its own schedule to its own end.
        tuning: the first of two phases, or None.
        name: how the study is called.

    Raises:
        StudyError: something is unknown, missing or out of range.
    """

    workloads: Sequence[str] = ("digits",)
    recipes: Sequence[str] = COMPARED
    optimizers: Sequence[str] = tuple(OPTIMIZERS)
    learning_rates: Sequence[float] | Mapping[str, Sequence[float]] | None = None
    seeds: int = 5
    steps: int | None = None
    horizons: Sequence[float] = (1.0,)
    tuning: Tuning | None = None
    name: str = "study"

    def __post_init__(self) -> None:
        for name in ("workloads", "recipes", "optimizers", "horizons"):
            if isinstance(getattr(self, name), str):
                raise StudyError(f"{name} must be a list, got {getattr(self, name)!r}")
            _check_list(name, getattr(self, name))
        check_name(self.name)
        for name in self.optimizers:
            find_optimizer(name)
        for name in self.recipes:
            suited = find_recipe(name).optimizers
            if suited is not None and not set(suited) & set(self.optimizers):
                raise StudyError(f"recipe {name!r} is for {', '.join(suited)}, none of which the study has")
        self._check_rates()
        self._check_centres()
        if self.seeds < 1:
            raise StudyError(f"seeds must be >= 1, got {self.seeds}")
        if self.seeds > FIRST_TUNING_SEED:
            raise StudyError(f"seeds that are reported must be <= {FIRST_TUNING_SEED}, got {self.seeds}")
        if self.steps is not None and self.steps < 1:
            raise StudyError(f"steps must be >= 1, got {self.steps}")
        for horizon in self.horizons:
            if not (math.isfinite(horizon) and horizon > 0.0):
                raise StudyError(f"horizons must be finite and > 0, got {horizon}")

    def _check_rates(self) -> None:
        given = self.learning_rates
        if given is None:
            return
        by_optimizer = given if isinstance(given, Mapping) else dict.fromkeys(self.optimizers, given)
        for optimizer, rates in by_optimizer.items():
            if optimizer not in self.optimizers:
                raise StudyError(f"learning rates are given for {optimizer!r}, which the study has not")
            if not rates:
                raise StudyError("learning rates must not be empty")
            for rate in rates:
                _check_rate("learning rates", rate)
        if self.tuning is not None:
            grids = [budget for budget in map(Budget.parse, self.tuning.budgets) if budget.kind == "grid"]
            if not grids:
                raise StudyError("learning rates are given, but no budget of the tuning is a grid")
            for rates in by_optimizer.values():
                if any(len(set(rates)) != grid.size for grid in grids):
                    raise StudyError(f"{grids[0]} needs {grids[0].size} learning rates, got {len(set(rates))}")

    def _check_centres(self) -> None:
        for workload, rates in ({} if self.tuning is None else self.tuning.centres).items():
            if workload not in self.workloads:
                known = ", ".join(map(repr, self.workloads))
                raise StudyError(f"a centre of the tuning is given for {workload!r}; the workloads are {known}")
            for optimizer in rates:
                if optimizer not in self.optimizers:
                    raise StudyError(
                        f"a centre of the tuning is given for {optimizer!r} on {workload!r}, which the study has not"
                    )

    def peaks(self, optimizer: str) -> tuple[float, ...]:
        """The learning rates given to that optimizer, ascending, each once."""
        given = self._given(optimizer)
        chosen = find_optimizer(optimizer).learning_rates if given is None else given
        if not chosen:
            raise StudyError(f"optimizer {optimizer!r} has no learning rates of its own: give some")
        return tuple(sorted(set(chosen)))

    def _given(self, optimizer: str) -> Sequence[float] | None:
        given = self.learning_rates
        return given.get(optimizer) if isinstance(given, Mapping) else given

    def groups(self) -> list[Group]:
        """What is tuned and reported on its own, in the order of tables."""
        found = []
        for workload in dict.fromkeys(self.workloads):
            for steps in dict.fromkeys(self.steps_of(workload).values()):
                for optimizer in dict.fromkeys(self.optimizers):
                    for recipe in dict.fromkeys(self.recipes):
                        suited = find_recipe(recipe).optimizers
                        if suited is None or optimizer in suited:
                            found.append(Group(workload, steps, optimizer, recipe))
        return found

    def steps_of(self, workload: str) -> dict[float, int]:
        """Each horizon of a workload in updates."""
        own = self.steps or load_workload(workload).total_steps
        return {horizon: max(1, round(horizon * own)) for horizon in self.horizons}

    def points(self, group: Group, budget: Budget) -> list[Point]:
        """What a budget lets a group try."""
        recipe, default = find_recipe(group.recipe), find_optimizer(group.optimizer).default_lr
        centres = {} if self.tuning is None else self.tuning.centres.get(group.workload, {})
        centre = centre_of(recipe, group.optimizer, default, centres)
        return budget.points(recipe, centre, self._given(group.optimizer))

    @property
    def tuning_seeds(self) -> range:
        """The repetitions of the first phase."""
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + (0 if self.tuning is None else self.tuning.seeds))

    def tuning_runs(self) -> list[Run]:
        """All runs of the first phase, each once. A budget of one setting needs none."""
        groups = self.groups()
        budgets = [] if self.tuning is None else [Budget.parse(budget) for budget in self.tuning.budgets]
        tried = {
            (group, point)
            for group in groups
            for budget in budgets
            if budget.size > 1
            for point in self.points(group, budget)
        }
        ordered = sorted(tried, key=lambda pair: (groups.index(pair[0]), pair[1]))
        return [run_of(group, point, seed) for seed in self.tuning_seeds for group, point in ordered]

    def runs(self) -> list[Run]:
        """All runs of a study without tuning.

        Seeds are outermost, so that an interrupted study has whole grids of its first seeds.
        """
        groups = self.groups()
        return [
            run_of(group, Point(peak), seed)
            for seed in range(self.seeds)
            for group in groups
            for peak in self.peaks(group.optimizer)
        ]

    def runs_of(self, chosen: Sequence[tuple[Group, Point]]) -> list[Run]:
        """All runs of the second phase, each once, for what the first has chosen."""
        pairs = list(dict.fromkeys(chosen))
        return [run_of(group, point, seed) for seed in range(self.seeds) for group, point in pairs]


def run_of(group: Group, point: Point, seed: int) -> Run:
    """One repetition of one setting."""
    return Run(group.workload, group.optimizer, group.recipe, point.peak_lr, seed, group.steps, point.settings)


def group_of(run: Run) -> Group:
    """What a run belongs to."""
    return Group(run.workload, run.steps, run.optimizer, run.recipe)


def check_workload(reference: str) -> Workload:
    """Load a workload and take it to its first loss, so that a broken one is found before any work is done.

    Raises:
        StudyError: it cannot be loaded, raises, gives no batch, its loss at initialisation is not finite, on the
            validation split or on the first batch, or what it returns is no evaluation or no loss.
    """
    workload = load_workload(reference)
    try:
        with torch.random.fork_rng(devices=[]):
            seed = derive_seed(workload.name, 0, "weights")
            torch.manual_seed(seed)
            model = workload.build_model(seed)
            model.eval()
            with torch.no_grad():
                initial: object = workload.evaluate(model, "validation")
            model.train()
            batches: Iterator[object] = workload.batches(seed)
            losses: list[object] = [workload.loss(model, batch) for batch in islice(batches, 1)]
    except Exception as error:
        logging.getLogger(__name__).debug("workload %s raised", reference, exc_info=True)
        raise StudyError(f"workload {workload.name!r} raises before its first step: {describe(error)}") from error
    check_start(workload, as_evaluation(workload, initial))
    check_first_loss(workload, losses)
    return workload


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a study, which is that of its folder as well.

    Raises:
        StudyError: it is not of letters, digits, dots, hyphens and underscores, or begins with none of the former two.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise StudyError(
            "the name of a study must be of letters, digits, dots, hyphens and underscores, a letter or a digit first; "
            f"got {name!r}"
        )


def _check_list(name: str, values: Sequence[object]) -> None:
    if not values:
        raise StudyError(f"{name} must not be empty")
    for value, count in Counter(values).items():
        if count > 1:
            raise StudyError(f"{name} must differ from each other, got {value!r} {count} times")


def _check_rate(what: str, rate: float) -> None:
    if not (math.isfinite(rate) and rate > 0.0):
        raise StudyError(f"{what} must be finite and > 0, got {rate}")
