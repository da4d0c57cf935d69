"""A study: workload × recipes × optimizers × peak learning rates × seeds, and its folder."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from adaptive_lr.study.engine import Task, execute_all, num_jobs
from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.recipe import OPTIMIZERS, RECIPES, find_optimizer, find_recipe
from adaptive_lr.study.run import Run, RunResult, derive_seed
from adaptive_lr.study.store import ResultStore
from adaptive_lr.study.workload import Workload, check_start, describe, load_workload

TENSORBOARD_SEED = 0
"""The repetition whose runs are shown in TensorBoard."""


@dataclass(frozen=True)
class Study:
    """What is compared.

    Args:
        workload: a reference that `load_workload` understands.
        recipes: names of recipes; all by default.
        optimizers: names of optimizers; all by default.
        learning_rates: those given to every optimizer, > 0; None: each optimizer's own grid.
        seeds: repetitions, >= 1, shared by all recipes.
        steps: updates of each run, >= 1; None: the workload's own horizon.

    Raises:
        StudyError: something is unknown, missing or out of range.
    """

    workload: str = "digits"
    recipes: Sequence[str] = tuple(RECIPES)
    optimizers: Sequence[str] = tuple(OPTIMIZERS)
    learning_rates: Sequence[float] | None = None
    seeds: int = 5
    steps: int | None = None

    def __post_init__(self) -> None:
        if not self.recipes or not self.optimizers:
            raise StudyError("a study needs at least one recipe and one optimizer")
        for name in self.recipes:
            find_recipe(name)
        for name in self.optimizers:
            find_optimizer(name)
        if self.learning_rates is not None and not self.learning_rates:
            raise StudyError("learning rates must not be empty")
        for rate in self.learning_rates or ():
            if not (math.isfinite(rate) and rate > 0.0):
                raise StudyError(f"learning rates must be finite and > 0, got {rate}")
        if self.seeds < 1:
            raise StudyError(f"seeds must be >= 1, got {self.seeds}")
        if self.steps is not None and self.steps < 1:
            raise StudyError(f"steps must be >= 1, got {self.steps}")

    def peaks(self, optimizer: str) -> tuple[float, ...]:
        """The learning rates given to that optimizer, ascending, each once."""
        chosen = find_optimizer(optimizer).learning_rates if self.learning_rates is None else self.learning_rates
        return tuple(sorted(set(chosen)))

    def runs(self) -> list[Run]:
        """All runs. Seeds are outermost, so that an interrupted study has whole grids of its first seeds."""
        steps = self.steps or load_workload(self.workload).total_steps
        return [
            Run(self.workload, optimizer, recipe, peak, seed, steps)
            for seed in range(self.seeds)
            for optimizer in dict.fromkeys(self.optimizers)
            for recipe in dict.fromkeys(self.recipes)
            for peak in self.peaks(optimizer)
        ]


class StudyFolder:
    """The folder of a study: where runs are carried out, kept and found again.

    Attributes:
        root: the folder.
        store: its results.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = ResultStore(root / "results")

    def prepare(self) -> None:
        """Make the folder, and make sure that it can be written to before any work is done.

        Raises:
            StudyError: it cannot.
        """
        probe = self.store.directory / f".writable.{os.getpid()}"
        try:
            self.store.directory.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StudyError(f"cannot write to output folder {str(self.root)!r}: {error.strerror}") from error

    def trace_path(self, run: Run) -> Path:
        """Where TensorBoard finds a run."""
        return self.root / "tensorboard" / run.optimizer / run.recipe / f"peak-lr={run.peak_lr:g}"

    def finished(self, runs: Iterable[Run]) -> dict[Run, RunResult]:
        """The results that are there already. Failed runs are not among them: they are done again."""
        found = {run: self.store.load(run.key()) for run in runs}
        return {run: result for run, result in found.items() if result is not None and result.ok}

    def complete(self, runs: Sequence[Run], *, jobs: int | None = None) -> dict[Run, RunResult]:
        """Carry out what is missing of some runs, and return all that there is then. Failed runs are not among them."""
        found = self.finished(runs)
        missing = [run for run in runs if run not in found]
        found |= {result.run: result for result in self.carry_out(missing, jobs=jobs, tensorboard=False) if result.ok}
        return {run: found[run] for run in runs if run in found}

    def carry_out(
        self, runs: Sequence[Run], *, jobs: int | None = None, tensorboard: bool = True
    ) -> Generator[RunResult, None, None]:
        """Carry out runs, and yield their results as they end.

        Args:
            runs: what to do, finished or not; ask `finished` first.
            jobs: processes; None: one for each core.
            tensorboard: whether adaptive runs of the first seed write a trace.
        """

        def tasks() -> Iterator[Task]:
            for run in runs:
                traced = (
                    tensorboard and run.seed == TENSORBOARD_SEED and find_recipe(run.recipe).controllers is not None
                )
                path = self.trace_path(run) if traced else None
                if path is not None:
                    shutil.rmtree(path, ignore_errors=True)  # what an interrupted run may have left
                yield run, path

        with closing(execute_all(tasks(), self.store, jobs=num_jobs(jobs, len(runs)))) as results:
            yield from results


def check_workload(reference: str) -> Workload:
    """Load a workload and take it to its first loss, so that a broken one is found before any work is done.

    Raises:
        StudyError: it cannot be loaded, raises, gives no batch, or its loss at initialisation is not finite.
    """
    workload = load_workload(reference)
    try:
        with torch.random.fork_rng(devices=[]):
            seed = derive_seed(workload.name, 0, "weights")
            torch.manual_seed(seed)
            model = workload.build_model(seed)
            model.eval()
            with torch.no_grad():
                initial = workload.evaluate(model, "validation")
            model.train()
            for batch in islice(workload.batches(seed), 1):
                workload.loss(model, batch)
    except Exception as error:
        logging.getLogger(__name__).debug("workload %s raised", reference, exc_info=True)
        raise StudyError(f"workload {workload.name!r} raises before its first step: {describe(error)}") from error
    check_start(workload, initial)
    return workload
