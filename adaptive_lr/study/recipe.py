"""What is compared: recipes, which are a base schedule with or without controllers, or a peer's whole method."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adaptive_lr import controllers
from adaptive_lr.controllers import Composition, Controller, compose
from adaptive_lr.controllers.base import configuration
from adaptive_lr.study import base_schedules
from adaptive_lr.study.base_schedules import DECAY_SHARE, PLATEAU, STEP_MILESTONES, WARMUP_SHARE
from adaptive_lr.study.base_schedules import BaseSchedule as BaseSchedule
from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.optimizer_choice import OPTIMIZERS as OPTIMIZERS
from adaptive_lr.study.optimizer_choice import OptimizerChoice as OptimizerChoice
from adaptive_lr.study.optimizer_choice import find_optimizer as find_optimizer
from adaptive_lr.study.references import describe, is_reference, load, own_file
from adaptive_lr.study.sources import code_digest, control_digest, peer_files

PEERS: Mapping[str, str] = {
    "clip": "adaptive_lr.study.peers:CLIP",
    "zclip": "adaptive_lr.study.peers:ZCLIP",
    "skip-step": "adaptive_lr.study.peers:SKIP_STEP",
    "schedule-free": "adaptive_lr.study.peers:SCHEDULE_FREE",
    "prodigy": "adaptive_lr.study.peers:PRODIGY",
    "momo": "adaptive_lr.study.peers:MOMO",
    "greedy": "adaptive_lr.study.peers:GREEDY",
}
"""Other methods that have a name of their own; they are looked up when they are asked for."""

EVALUATION_METRIC = "val_loss"
"""The name under which adaptive recipes observe the validation loss."""

Settings = Mapping[str, float]
"""Name -> value of what a search chose."""


@dataclass(frozen=True)
class Setting:
    """A number besides the learning rate that a recipe has, and the range over which a search may choose it.

    Attributes:
        default: without a search.
        low, high: the range, low < high.
        log: whether the range is searched in the logarithm; then low > 0.
    """

    default: float
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0.0):
            raise StudyError(f"a setting needs low < high, and low > 0 in the logarithm; got {self.low} to {self.high}")


@dataclass(frozen=True)
class Recipe:
    """A way to set the learning rate, given a learning rate: its peak, unless the recipe finds that itself.

    A run has its horizon and no more: what a recipe spends on finding a learning rate, it spends of its own updates.
    `schedule`, `optimizer` and `update` are called with those `settings` by name that they have parameters for.

    Attributes:
        name: how it is called on the command line and in tables.
        description: what it does, for the record; part of a run's identity.
        schedule: optimizer (whose groups hold the learning rate given), horizon in steps -> a torch scheduler, a
            `BaseSchedule` where there are several or one is shown losses, or None for a constant rate.
        controllers: horizon in steps -> the laws layered over the base, as `AdaptiveLR` takes them; or None for a fixed
            recipe.
        partner: the name of the fixed recipe that an adaptive one is compared with.
        finds_peak: whether the learning rate given is no more than where it starts.
        settings: what else a search may choose.
        optimizer: choice, parameter groups, learning rate, horizon -> an optimizer of its own; None: the choice's. One
            that has `train` and `eval` is switched to `eval` for evaluations (Schedule-Free is judged at its average).
        update: optimizer, horizon in steps -> a function of the training loss that carries out the update, with the
            gradients in place: it may change them, or leave the update out. None: `optimizer.step()`.
        optimizers: names of those it is for; None: any.
        default_lrs: optimizer -> its own customary learning rate, where it is not the optimizer's.
        requires: a module that it needs and the extra (or package) that brings it, or None.
    """

    name: str
    description: str
    schedule: Callable[..., BaseSchedule | LRScheduler | None]
    controllers: Callable[[int], Controller[Any] | Composition | Iterable[Controller[Any]]] | None = None
    partner: str | None = None
    finds_peak: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)
    optimizer: Callable[..., Optimizer] | None = None
    update: Callable[..., Callable[[float], object]] | None = None
    optimizers: tuple[str, ...] | None = None
    default_lrs: Mapping[str, float] = field(default_factory=dict)
    requires: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        hooks = [hook for hook in (self.schedule, self.optimizer, self.update) if hook is not None]
        for name in self.settings:
            if not any(name in inspect.signature(hook).parameters for hook in hooks):
                raise StudyError(f"recipe {self.name!r} declares the setting {name!r}, and nothing of it takes that")

    @property
    def base(self) -> str:
        """The name of the fixed recipe that this one belongs to: its partner, or itself."""
        return self.partner or self.name

    def identity(self, total_steps: int) -> dict[str, Any]:
        """Everything that decides what this recipe does, as plain values; the code of control as its hash."""
        laws, composition = None, self.composition(total_steps)
        if composition is not None:
            laws = {
                "bounds": [composition.min_factor, composition.max_factor],
                "laws": [{"law": law.name, **configuration(law)} for law in composition],
                "source": control_digest(),
            }
        return {"description": self.description, "controllers": laws}

    def composition(self, total_steps: int) -> Composition | None:
        """The laws layered over the base of a run of so many updates, or None for a fixed recipe.

        Raises:
            StudyError: `controllers` raises, or returns no laws.
        """
        if self.controllers is None:
            return None
        try:
            return compose(self.controllers(total_steps))
        except Exception as error:
            raise StudyError(f"recipe {self.name!r} gives no controllers: {describe(error)}") from error

    def call(self, hook: Callable[..., Any], *arguments: object, settings: Settings) -> Any:
        """Call `schedule`, `optimizer` or `update` with what was chosen, each with what it has parameters for."""
        known = inspect.signature(hook).parameters
        return hook(*arguments, **{name: value for name, value in settings.items() if name in known})


def _guarded(total_steps: int) -> Composition:
    return controllers.guarded()


def _plateau_and_guarded(total_steps: int) -> Composition:
    guard = controllers.guarded()
    plateau = controllers.Plateau(monitor=EVALUATION_METRIC, **PLATEAU)  # type: ignore[arg-type]
    return replace(guard, controllers=(plateau, *guard))


_WARMUP = Setting(WARMUP_SHARE, 0.01, 0.3, log=True)

_FIXED = (
    Recipe(
        "cosine",
        f"{WARMUP_SHARE:.0%} linear warm-up, then cosine to zero",
        base_schedules.cosine,
        settings={"warmup_share": _WARMUP},
    ),
    Recipe(
        "one-cycle",
        "torch OneCycleLR with its defaults and inverse momentum",
        base_schedules.one_cycle,
        settings={"rising_share": Setting(0.3, 0.05, 0.6)},
    ),
    Recipe("step", f"divided by ten after {STEP_MILESTONES[0]:.0%} and {STEP_MILESTONES[1]:.0%}", base_schedules.step),
    Recipe(
        "plateau",
        "constant, with torch ReduceLROnPlateau on the validation loss, "
        f"factor {PLATEAU['factor']}, patience {PLATEAU['patience']}",
        base_schedules.reduce_on_plateau,
    ),
    Recipe("constant", "constant", base_schedules.constant),
    Recipe(
        "linear",
        f"{WARMUP_SHARE:.0%} linear warm-up, then linear to zero",
        base_schedules.linear,
        settings={"warmup_share": _WARMUP},
    ),
    Recipe(
        "wsd",
        f"{WARMUP_SHARE:.0%} linear warm-up, constant, then 1 - sqrt decay to zero over the last {DECAY_SHARE:.0%}",
        base_schedules.warmup_stable_decay,
        settings={"warmup_share": _WARMUP, "decay_share": Setting(DECAY_SHARE, 0.05, 0.6)},
    ),
)


def guarded_partner(fixed: Recipe) -> Recipe:
    """The same recipe under `controllers.guarded()`."""
    name = f"{fixed.name}+guarded"
    if fixed.name == "plateau":
        description = "constant, with a layered Plateau; guarded"
        return Recipe(name, description, base_schedules.constant, _plateau_and_guarded, partner=fixed.name)
    description = f"{fixed.description}; guarded"
    return replace(fixed, name=name, description=description, controllers=_guarded, partner=fixed.name)


_AUTOMATIC = Recipe(
    "automatic",
    "finds its own peak by a range test, from whatever learning rate it is given; then cosine to zero (no other "
    "warm-up); guarded",
    base_schedules.cosine_at_once,
    lambda total_steps: controllers.automatic(total_steps=total_steps),
    partner="cosine",
    finds_peak=True,
)


class _Recipes(Mapping[str, Recipe]):
    """The recipes that have a name here, in the order of tables; peers and a user's own are found when asked for."""

    def __init__(self, recipes: list[Recipe]) -> None:
        self._named = {recipe.name: recipe for recipe in recipes}

    def __getitem__(self, name: str) -> Recipe:
        if name not in self._named and is_reference(target := PEERS.get(name, name)):
            return _load(target)
        return self._named[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)


RECIPES: Mapping[str, Recipe] = _Recipes(
    [
        recipe
        for fixed in _FIXED
        for recipe in (fixed, guarded_partner(fixed), *([_AUTOMATIC] if fixed.name == _AUTOMATIC.partner else []))
    ]
)
"""The recipes by name: the fixed ones, each followed by those that are compared with it. Peers are found in it, too."""

COMPARED = tuple(name for name in RECIPES if RECIPES[name].base in ("cosine", "one-cycle", "step", "plateau"))
"""Those that `adaptive-lr compare` takes unless it is told others."""


def find_recipe(name: str) -> Recipe:
    """The recipe of that name, or the `Recipe` that a reference names.

    Raises:
        StudyError: there is none; the sentence lists those there are.
    """
    if name not in {*RECIPES, *PEERS} and not is_reference(name):
        raise StudyError(
            f"unknown recipe {name!r}; known: {', '.join((*RECIPES, *PEERS))}, "
            "or your own as `file.py:attribute` or `module:attribute`"
        )
    return RECIPES[name]


def recipe_identity(name: str, total_steps: int) -> dict[str, Any]:
    """Everything that decides what a recipe does; of a peer or a user's own, the source of its file as well."""
    identity = find_recipe(name).identity(total_steps)
    files = peer_files() if name in PEERS else own_file(name) if is_reference(name) else []
    return {**identity, "source": code_digest(files)} if files else identity


def check_suited(recipe: Recipe, optimizer: str) -> None:
    """Make sure that a recipe is for the optimizer of that name.

    Raises:
        StudyError: it is not; the sentence says which ones it is for.
    """
    if recipe.optimizers is not None and optimizer not in recipe.optimizers:
        raise StudyError(f"recipe {recipe.name!r} is for {', '.join(recipe.optimizers)}, not for {optimizer!r}")


def check_installed(recipe: Recipe) -> None:
    """Make sure that what a recipe needs is installed.

    Raises:
        StudyError: it is not; the sentence says what brings it.
    """
    if recipe.requires is None:
        return
    module, extra = recipe.requires
    try:
        found = importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        found = False
    if not found:
        raise StudyError(f"recipe {recipe.name!r} needs {module}, which is not installed: install {extra}")


@lru_cache(maxsize=64)
def _load(reference: str) -> Recipe:
    found = load(reference, "recipe")
    if not isinstance(found, Recipe):
        raise StudyError(f"recipe {reference!r} must be a Recipe, got {type(found).__name__}")
    return found
