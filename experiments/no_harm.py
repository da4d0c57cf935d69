"""No harm at the right peak: `python -m experiments.no_harm [--workloads NAME ...] [--seeds 10] [--jobs 2]`.

At the tuned peak of each workload and optimizer (`results/robustness.json`), `cosine` is carried out, and
`cosine+guarded` and `automatic` with the same seeds. Tuning's own seeds are among them, which favours `cosine`, if
anything. Recorded are the ends of all runs, and after how many steps each came to what `cosine` learns there, but for
a twentieth. Finished runs are kept and not repeated. Writes `results/no_harm.json` and `results/no_harm.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from adaptive_lr.study import Run, StudyError, StudyFolder
from adaptive_lr.study.reports.comparison import TARGET
from adaptive_lr.study.statistics import steps_to_target
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.summary import Cell, collect_cells
from experiments.no_harm_tables import markdown
from experiments.records import at_tuned_peaks, repetitions, rounded
from experiments.workloads import TUNING

RECIPES = ("cosine", "cosine+guarded", "automatic")


def measure(peaks: Mapping[tuple[str, str], float], *, seeds: int, jobs: int, output: Path) -> list[dict[str, Any]]:
    """Carry out what is missing, and return an entry for each workload and optimizer.

    Args:
        peaks: (workload, optimizer) -> peak learning rate.
        seeds: repetitions.
        jobs: processes.
        output: where runs are kept.

    Raises:
        StudyError: some runs failed: without all seeds nothing is paired.
    """
    entries = []
    for (workload, optimizer), lr in peaks.items():
        folder = StudyFolder(output / workload)
        folder.prepare()
        steps = check_workload(TUNING[workload]).total_steps
        runs = [Run(TUNING[workload], optimizer, r, lr, seed, steps) for r in RECIPES for seed in range(seeds)]
        found = folder.complete(runs, jobs=jobs)
        if len(found) < len(runs):
            raise StudyError(f"runs of {workload} failed (tracebacks are in {folder.store.directory})")
        cells = {cell.recipe: cell for cell in collect_cells(found.values())}
        target = target_of(cells["cosine"])
        entries.append(
            {
                "workload": workload,
                "optimizer": optimizer,
                "peak_lr": lr,
                "steps": steps,
                "target_loss": rounded([target])[0],
                "steps_to_target": {recipe: arrivals(cell, target) for recipe, cell in cells.items()},
                "recipes": {recipe: asdict(repetitions(cell)) for recipe, cell in cells.items()},
            }
        )
        print(f"{workload} with {optimizer}: done", flush=True)
    return entries


def target_of(cell: Cell) -> float:
    """The validation loss at `TARGET` of the way from where these runs start to where they end, in the mean."""
    start, end = fmean(cell.initial_losses), fmean(cell.validation_losses)
    return start - TARGET * (start - end)


def arrivals(cell: Cell, target: float) -> list[int | None]:
    """Of each seed, the steps of the first evaluation at the target or below; None where there is none."""
    found = [steps_to_target(((step, loss) for step, loss, _ in result.evaluations), target) for result in cell.results]
    return [int(steps) if math.isfinite(steps) else None for steps in found]


def main() -> None:
    """Parse the command line, carry out what is missing, write the record and print its tables."""
    at_tuned_peaks("no_harm", "No harm at the right peak?", measure, markdown, seeds=10)


if __name__ == "__main__":
    main()
