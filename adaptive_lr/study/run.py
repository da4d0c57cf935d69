"""One run: a configuration, its hash, and what came of it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache, partial
from importlib.metadata import packages_distributions, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptive_lr import AdaptiveLR
from adaptive_lr.study.base_schedules import BaseSchedule, as_base_schedule
from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.judging import judge
from adaptive_lr.study.optimizer_choice import find_optimizer, optimizer_identity
from adaptive_lr.study.recipe import EVALUATION_METRIC, Recipe, check_suited, find_recipe, recipe_identity
from adaptive_lr.study.references import canonical
from adaptive_lr.study.workload import Evaluation, Workload, fingerprint, load_workload, trainable

NONFINITE_PATIENCE = 20
"""A run whose training loss was not finite this many times in a row has diverged. More than one, so that a recipe
that recovers from a lost batch may; the same for all recipes."""


PURPOSES = ("weights", "batches")
"""What a run draws random numbers for."""


@dataclass(frozen=True)
class Run:
    """One cell of a study: what to train, how, and with which seed.

    Attributes:
        workload: a reference that `load_workload` understands.
        optimizer, recipe: names known to `recipe.find_optimizer` and `recipe.find_recipe`.
        peak_lr: the learning rate given, > 0: the peak of the schedule, or where a recipe that finds its own starts.
        seed: repetition; equal seeds share initial weights and batches over all recipes, optimizers and rates.
        steps: optimizer updates, >= 1.
        settings: (name, value) of the recipe's declared settings that are not at their defaults, by name.
    """

    workload: str
    optimizer: str
    recipe: str
    peak_lr: float
    seed: int
    steps: int
    settings: tuple[tuple[str, float], ...] = ()

    def configuration(self) -> dict[str, Any]:
        """Everything that decides the result, as plain values; nothing of where it is carried out."""
        return {
            "workload": canonical(self.workload),
            "optimizer": canonical(self.optimizer),
            "recipe": canonical(self.recipe),
            "peak_lr": self.peak_lr,
            "seed": self.seed,
            "steps": self.steps,
            **({"settings": dict(self.settings)} if self.settings else {}),
            "workload_source": fingerprint(self.workload),
            "optimizer_settings": optimizer_identity(self.optimizer),
            "recipe_identity": recipe_identity(self.recipe, self.steps),
            "adaptive_lr": _version(),
        }

    def key(self) -> str:
        """SHA-256 of the canonical configuration: the name of the result."""
        text = json.dumps(self.configuration(), sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def __str__(self) -> str:
        settings = "".join(f", {name} {value:g}" for name, value in self.settings)
        return f"{self.recipe} with {self.optimizer} at peak LR {self.peak_lr:g}{settings}, seed {self.seed}"


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        run: what was asked for.
        key: its hash.
        status: "completed"; "stopped" (a controller ended it); "diverged" (see `NONFINITE_PATIENCE`; also a final
            loss that is not finite); "failed" (it raised; only `error` and `seconds` say more).
        initial: validation loss and accuracy before the first update.
        validation, test: loss and accuracy after the last update; a diverged run has an infinite loss.
        evaluations: (updates done, validation loss, accuracy or None) in order.
        train_losses: loss of each batch, at the weights before its update.
        learning_rates: effective learning rate of each update (of the parameter group where it is largest).
        decisions: what controllers changed and why, as plain values (the last ones, if there were very many).
        num_decisions: how many there were.
        seconds: wall time. Runs that shared a machine are no measure of a recipe's cost.
        environment: versions and machine.
        error: the traceback of a failed run.
        configuration: see `Run.configuration`; it says what makes this run another than a similar one.
    """

    run: Run
    key: str
    status: str
    initial: Evaluation | None = None
    validation: Evaluation | None = None
    test: Evaluation | None = None
    evaluations: tuple[tuple[int, float, float | None], ...] = ()
    train_losses: tuple[float, ...] = ()
    learning_rates: tuple[float, ...] = ()
    decisions: tuple[Mapping[str, Any], ...] = ()
    num_decisions: int = 0
    seconds: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the run was carried out; a diverged run was."""
        return self.status != "failed"

    def outcome(self) -> dict[str, Any]:
        """All that must be equal when the run is repeated, whichever engine does it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("seconds", "environment")}


def derive_seed(workload: str, repetition: int, purpose: str) -> int:
    """A seed from the workload's name and the repetition, never from the recipe: recipes share their luck.

    Returns:
        An integer in [0, 2^63).
    """
    digest = hashlib.sha256(f"{workload}/{repetition}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@lru_cache
def _version() -> str:
    return version("adaptive-lr")


@lru_cache
def _versions_of(module: str) -> dict[str, str]:
    """Of the installed packages that bring a module: its own name need not be theirs."""
    return {name: version(name) for name in packages_distributions().get(module, [])}


def execute(run: Run, *, trace: Path | None = None) -> RunResult:
    """Carry out one run, on one thread, with torch's random state left as it was found.

    Args:
        run: what to do.
        trace: folder for the trace of an adaptive recipe, or None.

    Raises:
        StudyError: the workload, optimizer or recipe does not exist, the recipe is not for the optimizer or needs what
            is not installed, or the batches end too soon.
        Exception: whatever the workload raises.
    """
    started = time.perf_counter()
    configuration = json.loads(json.dumps(run.configuration(), default=str))  # as it is read back
    key, recipe, workload = run.key(), find_recipe(run.recipe), load_workload(run.workload)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two runs side by side with two threads each are several times slower
    try:
        with torch.random.fork_rng(devices=[]):
            outcome = _train(run, recipe, workload, trace)
    finally:
        torch.set_num_threads(threads)
    seconds = time.perf_counter() - started
    about = {
        **environment(recipe),
        "seeds": {purpose: derive_seed(workload.name, run.seed, purpose) for purpose in PURPOSES},
    }
    return RunResult(run, key, **outcome, seconds=seconds, environment=about, configuration=configuration)


def environment(recipe: Recipe | None = None) -> dict[str, Any]:
    """Versions and machine, for the record; the version of what a recipe requires among them."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": version("scipy"),
        "adaptive_lr": _version(),
        **({} if recipe is None or recipe.requires is None else _versions_of(recipe.requires[0])),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _train(run: Run, recipe: Recipe, workload: Workload, trace: Path | None) -> dict[str, Any]:
    check_suited(recipe, run.optimizer)
    seed = derive_seed(workload.name, run.seed, "weights")
    torch.manual_seed(seed)
    model = workload.build_model(seed)
    torch.manual_seed(seed)  # what follows (dropout, say) must not depend on how many numbers the weights took
    settings = dict(run.settings)
    choice, groups = find_optimizer(run.optimizer), trainable(workload, model, run.peak_lr)
    if recipe.optimizer is None:
        optimizer = choice.build(groups, run.peak_lr)
    else:
        optimizer = recipe.call(recipe.optimizer, choice, groups, run.peak_lr, run.steps, settings=settings)
    found = recipe.call(recipe.schedule, optimizer, run.steps, settings=settings)
    schedule = as_base_schedule(found, recipe.name)
    update = None if recipe.update is None else recipe.call(recipe.update, optimizer, run.steps, settings=settings)
    control = None
    if (laws := recipe.composition(run.steps)) is not None:
        control = AdaptiveLR(optimizer, laws, schedule=schedule.per_step, trace=trace, model=model)

    initial = judge(workload, model, optimizer, "validation")
    evaluate = partial(judge, workload, model, optimizer, seed=derive_seed(workload.name, run.seed, "statistics"))
    evaluations: list[tuple[int, float, float | None]] = [(0, *initial)]
    losses: list[float] = []
    rates: list[float] = []
    nonfinite, status = 0, "completed"
    batches = workload.batches(derive_seed(workload.name, run.seed, "batches"))
    for step, batch in enumerate(islice(batches, run.steps), start=1):
        loss = workload.loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        base = [float(group["lr"]) for group in optimizer.param_groups]
        losses.append(loss.item())
        if update is None:
            optimizer.step()
        else:
            update(losses[-1])
        rates.append(max(base if control is None else control.get_last_lr()))
        if control is not None:
            control.step(losses[-1])
        elif schedule.per_step is not None:
            schedule.per_step.step()
        if schedule.per_loss is not None:
            schedule.per_loss.step(losses[-1])

        nonfinite = 0 if math.isfinite(losses[-1]) else nonfinite + 1
        if nonfinite >= NONFINITE_PATIENCE:
            status = "diverged"
            break
        if step % workload.evaluation_interval == 0 or step == run.steps:
            evaluation = evaluate("validation")
            evaluations.append((step, *evaluation))
            _report(evaluation.loss, schedule, control)
        if control is not None and control.should_stop:
            status = "stopped"
            break

    if len(losses) < run.steps and status == "completed":
        raise StudyError(
            f"workload {workload.name!r} gave only {len(losses)} batches for {run.steps} steps; they must not end"
        )
    validation = evaluate("validation")
    test = evaluate("test")
    if not (math.isfinite(validation.loss) and math.isfinite(test.loss)):
        status = "diverged"
    if status == "diverged":
        validation, test = validation._replace(loss=math.inf), test._replace(loss=math.inf)
    decisions: tuple[Mapping[str, Any], ...] = ()
    num_decisions = 0
    if control is not None:
        decisions = tuple({**asdict(decision), "phase": decision.phase.value} for decision in control.decisions)
        num_decisions = control.decisions.total
        control.detach()
    return {
        "status": status,
        "initial": initial,
        "validation": validation,
        "test": test,
        "evaluations": tuple(evaluations),
        "train_losses": tuple(losses),
        "learning_rates": tuple(rates),
        "decisions": decisions,
        "num_decisions": num_decisions,
    }


def _report(loss: float, schedule: BaseSchedule, control: AdaptiveLR | None) -> None:
    if schedule.per_evaluation is not None:
        schedule.per_evaluation.step(loss)
    if control is not None:
        control.observe(**{EVALUATION_METRIC: loss})
