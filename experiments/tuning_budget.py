"""What tuning buys: `python -m experiments.tuning_budget [--workloads NAME ...] [--seeds 3]`.

One run of `automatic`, given any learning rate, against `cosine` tuned with k runs, k = 1 to 7: the expected best of k
of the seven half-decades around the peak, and of k of the nine decades that all recipes were given. Nothing is trained:
all runs are those of `experiments.robustness`, found in its folder. Writes `results/tuning_budget.json` and
`results/tuning_budget.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptive_lr.study import Run, StudyError, StudyFolder
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.summary import Cell, collect_cells
from experiments.records import carried_out, header, options, parsed, recorded_workloads, write
from experiments.robustness import DECADES, NEIGHBOURS, best, outcome, rate
from experiments.tuning_budget_tables import markdown
from experiments.workloads import TUNING


def recorded(folder: StudyFolder, runs: Iterable[Run]) -> list[Cell]:
    """The cells of runs that are all there.

    Raises:
        StudyError: one is not.
    """
    wanted = list(runs)
    found = folder.finished(wanted)
    if len(found) < len(wanted):
        raise StudyError(
            f"{len(wanted) - len(found)} of {len(wanted)} runs are not in {folder.root}: run `python -m "
            "experiments.robustness` with the same workloads, seeds and folder first"
        )
    return collect_cells(found.values())


def measure(workload: str, optimizer: str, *, seeds: int, output: Path) -> dict[str, Any]:
    """The outcomes of one workload with one optimizer.

    Raises:
        StudyError: its runs are not there.
    """
    folder = StudyFolder(output / workload)
    steps = check_workload(TUNING[workload]).total_steps

    def cells(recipe: str, half_decades: Iterable[int]) -> list[Cell]:
        lrs = [rate(number) for number in half_decades]
        runs = (Run(TUNING[workload], optimizer, recipe, lr, seed, steps) for lr in lrs for seed in range(seeds))
        return recorded(folder, runs)

    halves = [2 * decade for decade in DECADES[optimizer]]
    decades = cells("cosine", halves)
    nearby = [halves[best(decades)] + offset for offset in NEIGHBOURS]
    found = {"nearby": cells("cosine", nearby), "decades": decades, "automatic": cells("automatic", halves)}
    return {
        "workload": workload,
        "optimizer": optimizer,
        **{name: [asdict(outcome(cell)) for cell in of_one] for name, of_one in found.items()},
    }


def main() -> None:
    """Parse the command line, collect what is there, write the record and print its tables."""
    arguments = parsed(options("tuning_budget", "What tuning buys.", seeds=3, workloads=recorded_workloads()))

    def study() -> list[dict[str, Any]]:
        return [
            measure(workload, optimizer, seeds=arguments.seeds, output=arguments.output)
            for workload in arguments.workloads
            for optimizer in DECADES
        ]

    entries = carried_out("tuning_budget", study, arguments.output)
    about = header("tuning_budget", arguments.seeds)
    write(arguments.record, "tuning_budget", about, {"pairs": entries}, markdown)


if __name__ == "__main__":
    main()
