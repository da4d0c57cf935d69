"""The folder of a study: where runs are carried out, kept and found again."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptive_lr.study.engine import Engine, Task, execute_all
from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.lock import Shard, holders, locked
from adaptive_lr.study.recipe import find_recipe
from adaptive_lr.study.run import Run, RunResult
from adaptive_lr.study.store import ResultStore

TENSORBOARD_SEED = 0
"""The repetition whose runs are shown in TensorBoard."""

STUDY_FILE = "study.json"
"""Says which study a folder is of."""

REASONS = {
    "adaptive_lr": "another version of adaptive-lr",
    "workload_source": "another text of the workload",
    "recipe_identity": "another recipe or control code",
    "optimizer_settings": "other settings of the optimizer",
}


class StudyFolder:
    """The folder of a study.

    Attributes:
        root: the folder.
        store: its results.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = ResultStore(root / "results")

    def prepare(self, name: str | None = None) -> None:
        """Make the folder, and make sure that it can be written to before any work is done.

        Args:
            name: of the study; None: of none, as the folder of `compare` is.

        Raises:
            StudyError: it cannot, or it is another study's.
        """
        probe = self.store.directory / f".writable.{os.getpid()}"
        try:
            self.store.directory.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StudyError(f"cannot write to output folder {str(self.root)!r}: {error.strerror}") from error
        self._claim(name)

    def _claim(self, name: str | None) -> None:
        path = self.root / STUDY_FILE
        try:
            owner = json.loads(path.read_text())["name"]
        except FileNotFoundError:
            owner = None
        except (ValueError, KeyError, TypeError):
            owner = None  # what it says is lost, and it is written anew
        if owner not in (None, name):
            other = "" if name is None else f", not of {name!r}"
            raise StudyError(f"folder {str(self.root)!r} is of the study {owner!r}{other}: give another --output")
        if owner is None and name is not None:
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_text(json.dumps({"name": name}) + "\n")
            os.replace(temporary, path)

    def locked(self, shard: Shard | None = None) -> AbstractContextManager[None]:
        """Hold the folder while runs are carried out there; see `lock.locked`."""
        return locked(self.store.directory, shard)

    def holders(self) -> list[str]:
        """Who carries out runs here now, in words."""
        return holders(self.store.directory)

    def trace_path(self, run: Run) -> Path:
        """Where TensorBoard finds a run: within this folder, whatever the names of its optimizer and recipe."""
        optimizer, recipe = run.optimizer.rpartition(":")[2], find_recipe(run.recipe).name.replace("/", "-")
        return self.root / "tensorboard" / optimizer / recipe / f"peak-lr={run.peak_lr:g}"

    def known(self, runs: Iterable[Run]) -> dict[Run, RunResult]:
        """The results that are there already, those of failed runs among them."""
        found = {run: self.store.load(run.key()) for run in runs}
        # A record made in another folder has the same key and another way to its workload: here it is this run's.
        return {run: replace(result, run=run) for run, result in found.items() if result is not None}

    def finished(self, runs: Iterable[Run]) -> dict[Run, RunResult]:
        """The results that are there already. Failed runs are not among them: they are done again."""
        return {run: result for run, result in self.known(runs).items() if result.ok}

    def outdated(self, runs: Iterable[Run]) -> Counter[str]:
        """Results that were of some of these runs and no longer are: why, and how many. Nothing happens to them."""
        asked = {_asked(run.configuration()): run for run in runs}
        keys = {f"{run.key()}.json" for run in asked.values()}
        reasons: Counter[str] = Counter()
        for path in sorted(self.store.directory.glob("*.json")):
            if path.name in keys:
                continue
            try:
                configuration = json.loads(path.read_bytes())["configuration"]
                run = asked.get(_asked(configuration))
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if run is not None:
                now = json.loads(json.dumps(run.configuration(), default=str))
                different = [words for name, words in REASONS.items() if configuration.get(name) != now[name]]
                reasons[" and ".join(different) or "another configuration"] += 1
        return reasons

    def complete(self, runs: Sequence[Run], *, jobs: int | None = None) -> dict[Run, RunResult]:
        """Carry out what is missing of some runs, and return all that there is then. Failed runs are not among them."""
        found = self.finished(runs)
        if len(found) < len(set(runs)):
            with self.locked():
                missing = [run for run in runs if run not in found]
                results = self.carry_out(missing, Engine(jobs=jobs), tensorboard=False)
                found |= {result.run: result for result in results if result.ok}
        return {run: found[run] for run in runs if run in found}

    def carry_out(
        self, runs: Sequence[Run], engine: Engine | None = None, *, tensorboard: bool = True
    ) -> Generator[RunResult, None, None]:
        """Carry out runs, and yield their results as they end. The folder should be `locked`.

        Args:
            runs: what to do, finished or not; ask `finished` first.
            engine: who does it; None: a process for each core.
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

        with closing(execute_all(tasks(), self.store, engine or Engine())) as results:
            yield from results


def _asked(configuration: dict[str, Any]) -> str:
    """What was asked for, whatever it meant then."""
    names = ("workload", "optimizer", "recipe", "peak_lr", "seed", "steps", "settings")
    return json.dumps([configuration.get(name) for name in names])
