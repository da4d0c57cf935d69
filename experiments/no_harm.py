"""No harm at the right peak: `python -m experiments.no_harm [--workloads NAME ...] [--seeds 10] [--jobs 2]`.

At the tuned peak of each workload and optimizer (`results/robustness.json`), `cosine` is carried out, and
`cosine+guarded` and `automatic` with the same seeds. Tuning's own seeds are among them, which favours `cosine`, if
anything. Finished runs are kept and not repeated. Writes `results/no_harm.json` and `results/no_harm.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptive_lr.study import Run, StudyError, StudyFolder
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.summary import collect_cells
from experiments.no_harm_tables import markdown
from experiments.records import (
    carried_out,
    header,
    options,
    parsed,
    recorded_workloads,
    repetitions,
    tuned_peaks,
    write,
)
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
        cells = collect_cells(found.values())
        entries.append(
            {
                "workload": workload,
                "optimizer": optimizer,
                "peak_lr": lr,
                "recipes": {cell.recipe: asdict(repetitions(cell)) for cell in cells},
            }
        )
        print(f"{workload} with {optimizer}: done", flush=True)
    return entries


def main() -> None:
    """Parse the command line, carry out what is missing, write the record and print its tables."""
    arguments = parsed(options("no_harm", "No harm at the right peak?", seeds=10, workloads=recorded_workloads()))

    def study() -> list[dict[str, Any]]:
        peaks = tuned_peaks(arguments.record, arguments.workloads)
        return measure(peaks, seeds=arguments.seeds, jobs=arguments.jobs, output=arguments.output)

    entries = carried_out("no_harm", study, arguments.output)
    write(arguments.record, "no_harm", header("no_harm", arguments.seeds), {"pairs": entries}, markdown)


if __name__ == "__main__":
    main()
