"""Which laws earn their place: `python -m experiments.ablation [--workloads NAME ...] [--seeds 3] [--jobs 2]`.

At the tuned peak of each workload and optimizer (`results/robustness.json`), and at 10 and 30 times as much: `cosine`,
`cosine+guarded`, the guarded set with one of its laws left out, and each of its laws alone, with the same seeds.
Finished runs are kept and not repeated. Writes `results/ablation.json` and `results/ablation.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptive_lr.study import Run, StudyError, StudyFolder
from adaptive_lr.study.recipe import find_recipe
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.summary import collect_cells
from experiments.ablation_tables import markdown
from experiments.guarded_parts import variants
from experiments.records import at_tuned_peaks, repetitions
from experiments.robustness import rate
from experiments.workloads import TUNING

HALF_DECADES = {1: 0, 10: 2, 30: 3}
"""How many times the tuned peak, as it is called -> half-decades above it."""


def measure(peaks: Mapping[tuple[str, str], float], *, seeds: int, jobs: int, output: Path) -> list[dict[str, Any]]:
    """Carry out what is missing, and return an entry for each workload and optimizer.

    Args:
        peaks: (workload, optimizer) -> tuned peak, a whole number of half-decades.
        seeds: repetitions.
        jobs: processes.
        output: where runs are kept.

    Raises:
        StudyError: some runs failed.
    """
    recipes = ["cosine", "cosine+guarded", *variants()]
    entries = []
    for (workload, optimizer), tuned in peaks.items():
        folder = StudyFolder(output / workload)
        folder.prepare()
        steps = check_workload(TUNING[workload]).total_steps
        lrs = {factor: rate(half_decades_of(tuned) + above) for factor, above in HALF_DECADES.items()}
        runs = [
            Run(TUNING[workload], optimizer, recipe, lr, seed, steps)
            for recipe in recipes
            for lr in lrs.values()
            for seed in range(seeds)
        ]
        found = folder.complete(runs, jobs=jobs)
        if len(found) < len(runs):
            raise StudyError(f"runs of {workload} failed (tracebacks are in {folder.store.directory})")
        by_name: dict[str, dict[str, Any]] = {find_recipe(recipe).name: {} for recipe in recipes}
        factors = {lr: str(factor) for factor, lr in lrs.items()}
        for cell in collect_cells(found.values()):
            by_name[find_recipe(cell.recipe).name][factors[cell.peak_lr]] = asdict(repetitions(cell))
        entries.append({"workload": workload, "optimizer": optimizer, "peak_lr": tuned, "recipes": by_name})
        print(f"{workload} with {optimizer}: done", flush=True)
    return entries


def half_decades_of(lr: float) -> int:
    """The number whose `rate` this learning rate is.

    Raises:
        StudyError: there is none.
    """
    nearest = next((number for number in range(-40, 41) if rate(number) == lr), None)
    if nearest is None:
        raise StudyError(f"a tuned peak must be a whole number of half-decades, got {lr}")
    return nearest


def main() -> None:
    """Parse the command line, carry out what is missing, write the record and print its tables."""
    at_tuned_peaks("ablation", "Which laws earn their place?", measure, markdown, seeds=3)


if __name__ == "__main__":
    main()
