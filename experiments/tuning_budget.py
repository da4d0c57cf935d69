"""What tuning buys: `python -m experiments.tuning_budget [--workloads NAME ...] [--seeds 3]`.

One run of `automatic`, given any learning rate, against `cosine` tuned with k runs, k = 1 to 7: the expected best of k
of the seven half-decades around the peak, and of k of the nine decades that all recipes were given. Nearly all runs are
those of `experiments.robustness`, found in its folder; what is missing is carried out. Writes
`results/tuning_budget.json` and `results/tuning_budget.md`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptive_lr.study import StudyFolder
from experiments.records import carried_out, header, options, parsed, recorded_workloads, write
from experiments.robustness import DECADES, Bench, outcome
from experiments.tuning_budget_tables import markdown
from experiments.workloads import TUNING


def measure(workload: str, optimizer: str, *, seeds: int, jobs: int, output: Path) -> dict[str, Any]:
    """The outcomes of one workload with one optimizer.

    Raises:
        StudyError: runs failed.
    """
    folder = StudyFolder(output / workload)
    folder.prepare()
    bench = Bench(workload, TUNING[workload], optimizer, folder, seeds=seeds, jobs=jobs)
    found = {
        "nearby": bench.cells("cosine", bench.nearby()),
        "decades": bench.cells("cosine", bench.halves),
        "automatic": bench.cells("automatic", bench.halves),
    }
    return {
        "workload": workload,
        "optimizer": optimizer,
        **{name: [asdict(outcome(cell)) for cell in cells] for name, cells in found.items()},
    }


def main() -> None:
    """Parse the command line, collect what is there, write the record and print its tables."""
    arguments = parsed(options("tuning_budget", "What tuning buys.", seeds=3, workloads=recorded_workloads()))

    def study() -> list[dict[str, Any]]:
        return [
            measure(workload, optimizer, seeds=arguments.seeds, jobs=arguments.jobs, output=arguments.output)
            for workload in arguments.workloads
            for optimizer in DECADES
        ]

    entries = carried_out("tuning_budget", study, arguments.output)
    about = header("tuning_budget", arguments.seeds)
    write(arguments.record, "tuning_budget", about, {"pairs": entries}, markdown)


if __name__ == "__main__":
    main()
