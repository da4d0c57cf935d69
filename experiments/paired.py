"""Recipes on a few workloads at one learning rate each, and what each changes against another with the same seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from adaptive_lr.study import Run, StudyError, StudyFolder
from adaptive_lr.study.recipe import find_recipe
from adaptive_lr.study.statistics import paired_difference
from adaptive_lr.study.summary import collect_cells
from experiments.records import Repetitions, repetitions, table


def measure(
    workloads: Mapping[str, str], recipes: Iterable[str], peaks: Mapping[str, float], steps: int, *,
    seeds: int, jobs: int, output: Path,
) -> list[dict[str, Any]]:  # fmt: skip
    """Carry out what is missing, and return an entry for each workload and optimizer.

    Args:
        workloads: name -> reference.
        recipes: references, in the order of the record.
        peaks: optimizer -> learning rate.
        steps: updates of every run.
        seeds: repetitions.
        jobs: processes.
        output: where runs are kept.

    Raises:
        StudyError: some runs failed.
    """
    entries, order = [], list(recipes)
    for name, reference in workloads.items():
        folder = StudyFolder(output / name)
        folder.prepare()
        for optimizer, lr in peaks.items():
            runs = [Run(reference, optimizer, recipe, lr, s, steps) for recipe in order for s in range(seeds)]
            found = folder.complete(runs, jobs=jobs)
            if len(found) < len(runs):
                raise StudyError(f"runs of {name} failed (tracebacks are in {folder.store.directory})")
            cells = {find_recipe(cell.recipe).name: asdict(repetitions(cell)) for cell in collect_cells(found.values())}
            entries.append({"workload": name, "optimizer": optimizer, "peak_lr": lr, "recipes": cells})
    return entries


def change_table(entries: Iterable[Mapping[str, Any]], controls: Mapping[str, str], heading: str) -> str:
    """Final validation loss and accuracy of each recipe, and what it changes against its control.

    Args:
        entries: of `measure`.
        controls: name of a recipe -> name of the one it is compared with.
        heading: of the column of changes.
    """
    rows = []
    for entry in entries:
        found = {name: Repetitions(**values) for name, values in entry["recipes"].items()}
        for name, cell in found.items():
            change = ["", "", ""]
            if name in controls:
                control = found[controls[name]].validation_loss
                mean, low, high, p = paired_difference(cell.validation_loss, control)
                scale = fmean(control)
                change = [f"{mean / scale:+.1%}", f"{low / scale:+.1%} to {high / scale:+.1%}", f"{p:.2g}"]
            accuracy = "" if cell.validation_accuracy is None else f"{fmean(cell.validation_accuracy):.1%}"
            rows.append([entry["workload"], entry["optimizer"], name, f"{fmean(cell.validation_loss):.4g}", accuracy,
                         *change])  # fmt: skip
    heads = ["workload", "optimizer", "recipe", "loss", "accuracy", heading, "95 % interval", "p"]
    return table(heads, rows, left=3)
