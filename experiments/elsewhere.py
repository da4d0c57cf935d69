"""Problems of other kinds, when the laws are fixed: `python -m experiments.elsewhere [--seeds 3] [--jobs 2]`.

On each of `workloads.ELSEWHERE`, on which no constant was ever chosen, with SGD and with AdamW:

1. `cosine` is tuned on two seeds of which nothing is reported: seven half-decades, the same for all problems, and more
   where the best is at the edge. The best by validation loss counts.
2. On the seeds that follow, `cosine` and `cosine+guarded` are given the tuned peak, and 3, 10 and 30 times as much.
3. `automatic` is given one learning rate, on the same seeds: it does not depend on it.

Finished runs are kept in `runs/elsewhere` and not repeated. Writes `results/elsewhere.json` and `results/elsewhere.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from adaptive_lr.study import StudyFolder
from adaptive_lr.study.study import check_workload
from experiments import horizons, robustness
from experiments.elsewhere_tables import markdown
from experiments.records import carried_out, header, options, parsed, write
from experiments.workloads import ELSEWHERE

MIDDLE = {"sgd": -2, "adamw": -5}
"""Where tuning begins, in half-decades: at 0.1 and 0.003, whatever the problem."""


class Bench(horizons.Bench):
    """One problem with one optimizer, in a folder that keeps its runs."""

    references: ClassVar[Mapping[str, str]] = ELSEWHERE
    above: ClassVar[Sequence[int]] = robustness.ABOVE


def measure(problems: Mapping[str, str], *, seeds: int, jobs: int, output: Path) -> list[dict[str, Any]]:
    """Carry out what is missing, and return an entry for each problem and optimizer.

    Raises:
        StudyError: runs failed.
    """
    entries = []
    for name, reference in problems.items():
        folder = StudyFolder(output / name)
        folder.prepare()
        for optimizer, middle in MIDDLE.items():
            steps = check_workload(reference).total_steps
            bench = Bench(name, optimizer, steps, folder, seeds=seeds, jobs=jobs)
            entries.append(bench.entry_around([middle + offset for offset in robustness.NEIGHBOURS]))
            print(f"{name} with {optimizer}: done", flush=True)
    return entries


def main() -> None:
    """Parse the command line, carry out what is missing, write the record and print its tables."""
    parser = options("elsewhere", "Problems of other kinds.", seeds=3)
    parser.set_defaults(output=Path("runs/elsewhere"))
    arguments = parsed(parser)

    def study() -> list[dict[str, Any]]:
        return measure(ELSEWHERE, seeds=arguments.seeds, jobs=arguments.jobs, output=arguments.output)

    entries = carried_out("elsewhere", study, arguments.output)
    write(arguments.record, arguments.name, header("elsewhere", arguments.seeds), {"pairs": entries}, markdown)


if __name__ == "__main__":
    main()
