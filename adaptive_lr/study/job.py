"""Carrying out a study: what is missing of its phases, by whichever engine, in a folder or a shard of its runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptive_lr.study.engine import Engine
from adaptive_lr.study.errors import FailedStudyError, exception_of
from adaptive_lr.study.folder import StudyFolder
from adaptive_lr.study.lock import Shard
from adaptive_lr.study.progress import InterruptedStudyError, make_console, with_progress
from adaptive_lr.study.recipe import check_installed, find_recipe
from adaptive_lr.study.run import Run, RunResult
from adaptive_lr.study.study import Group, Study, check_workload, group_of
from adaptive_lr.study.tuning import Choice, choose

CHOICES = "choices.json"
"""What tuning chose, and what at."""

SUMMARY = "runs.csv"
"""One line for each reported run."""


@dataclass(frozen=True)
class Standing:
    """How far a study has come.

    Attributes:
        tuning, reported: the runs of the two phases; those that are reported are not all known before tuning is done.
        results: those that are there, of failed runs too.
        choices: what tuning has chosen; empty before it is done, and without tuning.
    """

    tuning: tuple[Run, ...]
    reported: tuple[Run, ...]
    results: Mapping[Run, RunResult]
    choices: tuple[Choice, ...]

    @property
    def missing(self) -> list[Run]:
        """Runs of which there is no result at all."""
        return [run for run in (*self.tuning, *self.reported) if run not in self.results]

    @property
    def failed(self) -> list[RunResult]:
        """Runs that were tried and raised."""
        return [result for result in self.results.values() if not result.ok]

    @property
    def complete(self) -> bool:
        """Whether every run that is known has a result, and tuning has led to what is reported."""
        return not self.missing and bool(self.reported)

    def reported_results(self) -> list[RunResult]:
        """Those that were carried out of the runs that are reported, in their order."""
        found = (self.results.get(run) for run in self.reported)
        return [result for result in found if result is not None and result.ok]


def standing(study: Study, folder: StudyFolder) -> Standing:
    """How far a study has come in a folder; nothing is carried out."""
    tuning = study.tuning_runs()
    results = folder.known(tuning)
    if study.tuning is None:
        reported, choices = study.runs(), []
    elif all(run in results for run in tuning):
        choices = choose(study, results)
        reported = study.runs_of([(choice.group, choice.point) for choice in choices])
    else:
        reported, choices = [], []
    return Standing(tuple(tuning), tuple(reported), {**results, **folder.known(reported)}, tuple(choices))


def carry_out(study: Study, output: Path, engine: Engine | None = None, *, shard: Shard | None = None) -> Standing:
    """Carry out what is missing of a study, tuning before what is reported, and say how it gets on.

    Every result is kept as it ends; the same call goes on where an earlier one was stopped, and tries failed runs
    again. A study in shards gets to its second phase when the tuning of all shards is there.

    Args:
        study: what to do.
        output: the folder.
        engine: who does it; None: a process for each core.
        shard: a part of the runs, or None for all.

    Returns:
        How far the study has come.

    Raises:
        StudyError: a workload, a recipe or the folder cannot be used, another study is under way there, an extra is
            missing, or every run failed.
        InterruptedStudyError: Ctrl-C; what was finished is kept.
        OSError: a file cannot be written.
    """
    engine = engine or Engine()
    engine.require()  # found missing now, not after the work
    console = make_console()
    for recipe in dict.fromkeys(study.recipes):
        check_installed(find_recipe(recipe))
    for workload in dict.fromkeys(study.workloads):
        check_workload(workload)
    folder = StudyFolder(output)
    folder.prepare(study.name)
    with folder.locked(shard):
        folder.store.tidy()
        for sentence in outdated(study, folder):
            console.print(f"{sentence}, and done again.")
        tuning = study.tuning_runs()
        _carry_out(tuning, folder, engine, shard, console, "tuning")
        now = standing(study, folder)
        if study.tuning is not None and not now.reported:
            waiting = sum(run not in now.results for run in tuning)
            if not waiting:
                raise FailedStudyError(f"all tuning runs failed, the first with {_reason(now.failed[0])}")
            console.print(f"{waiting} tuning runs are still missing in {output}: when all shards have done theirs, "
                          "the same commands go on with what is reported.")  # fmt: skip
            return now
        if now.choices:
            _write(folder.root / CHOICES, json.dumps([choice.record() for choice in now.choices], indent=1) + "\n")
            for line in edges(now.choices):
                console.print(line, style="yellow", highlight=False)
        _carry_out(now.reported, folder, engine, shard, console, "reported")
        now = standing(study, folder)
        if not now.missing and not now.reported_results():
            raise FailedStudyError(f"all {len(now.failed)} runs failed, the first with {_reason(now.failed[0])} "
                                   f"(tracebacks are in {folder.store.directory})")  # fmt: skip
        _write(folder.root / SUMMARY, csv_of(now.reported_results()))
    return now


def outdated(study: Study, folder: StudyFolder) -> list[str]:
    """A sentence for each reason why there are results of a study that it does not use."""
    runs = study.runs() if study.tuning is None else study.tuning_runs()
    return [
        f"{number} results in {folder.root} are of {reason}: they are kept, not used"
        for reason, number in folder.outdated(runs).items()
    ]


def part_of(runs: Sequence[Run], shard: Shard | None) -> list[Run]:
    """The runs that a shard carries out: every n-th of the list sorted by hash, whoever makes the list."""
    if shard is None:
        return list(runs)
    chosen = set(sorted(run.key() for run in runs)[shard.number :: shard.of])
    return [run for run in runs if run.key() in chosen]


def edges(choices: Sequence[Choice]) -> list[str]:
    """A sentence for each choice at the edge of what was tried."""
    return [
        f"{choice.group.recipe} with {choice.group.optimizer} on {choice.group.workload} ({choice.group.steps} steps, "
        f"{choice.budget}): the best {' and '.join(choice.at_edge)} is the first or last that was tried"
        for choice in choices
        if choice.at_edge
    ]


def progress_table(now: Standing) -> list[tuple[Group, Counter[str]]]:
    """For each group how many of its runs have which status; those without a result count as missing."""
    counts: dict[Group, Counter[str]] = {}
    for run in dict.fromkeys((*now.tuning, *now.reported)):
        result = now.results.get(run)
        counts.setdefault(group_of(run), Counter())["missing" if result is None else result.status] += 1
    return list(counts.items())


def csv_of(results: Sequence[RunResult]) -> str:
    """One line for each run, at full precision; a diverged run has an infinite loss."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("workload", "steps", "optimizer", "recipe", "peak_lr", "settings", "seed", "status", "initial_loss",
         "validation_loss", "validation_accuracy", "test_loss", "test_accuracy", "decisions", "key")
    )  # fmt: skip
    for result in results:
        run = result.run
        assert result.initial is not None
        assert result.validation is not None
        assert result.test is not None
        settings = " ".join(f"{name}={value!r}" for name, value in run.settings)
        writer.writerow(
            (run.workload, run.steps, run.optimizer, run.recipe, run.peak_lr, settings, run.seed, result.status,
             result.initial.loss, *result.validation, *result.test, result.num_decisions, result.key)
        )  # fmt: skip
    return text.getvalue()


def _carry_out(
    runs: Sequence[Run], folder: StudyFolder, engine: Engine, shard: Shard | None, console: Any, phase: str
) -> None:
    mine = part_of(runs, shard)
    finished = folder.finished(mine)
    missing = [run for run in mine if run not in finished]
    if not mine:
        return
    what = f"{phase} runs" + (f" of shard {shard}" if shard is not None else "")
    console.print(f"{len(finished)} of {len(mine)} {what} are there already in {folder.root}; {len(missing)} to go.")
    done = len(finished)
    try:
        with contextlib.closing(folder.carry_out(missing, engine, tensorboard=False)) as results:
            for result in with_progress(console, results, len(missing)):
                done += result.ok
    except KeyboardInterrupt:
        raise InterruptedStudyError(
            f"stopped: {done} of {len(mine)} {what} are finished and kept in {folder.root}; "
            "run the same command again to go on"
        ) from None


def _reason(result: RunResult) -> str:
    return exception_of(result.error)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)
