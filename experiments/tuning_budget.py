"""What tuning buys: `python -m experiments.tuning_budget [--workloads NAME ...] [--seeds 3]`.

One run of `automatic`, given any learning rate, against `cosine` tuned with k runs, k = 1 to 7: the expected best of k
of the seven half-decades around the peak, and of k of the nine decades that all recipes were given. The best is chosen
on other seeds than it is reported on, those for tuning of `experiments.robustness`. Nearly all runs are of that study,
found in its folder; what is missing is carried out. Writes
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
    tried = {"nearby": bench.nearby(), "decades": bench.halves}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, halves in tried.items():
        reported, tuning = (bench.cells("cosine", halves, seeds) for seeds in (bench.seeds, bench.tuning_seeds))
        found[name] = [
            {**asdict(outcome(cell)), "tuning_loss": outcome(chosen).validation_loss}
            for cell, chosen in zip(reported, tuning, strict=True)
        ]
    automatic = [asdict(outcome(cell)) for cell in bench.cells("automatic", bench.halves)]
    return {"workload": workload, "optimizer": optimizer, **found, "automatic": automatic}


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
    write(arguments.record, arguments.name, about, {"pairs": entries}, markdown)


if __name__ == "__main__":
    main()
