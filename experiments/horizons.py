"""Longer runs: `python -m experiments.horizons [--workloads NAME ...] [--steps 1200 4800] [--seeds 5] [--jobs 2]`.

Everything else on record has 200 to 400 updates. Here each workload is trained for 1,200 updates, and the cheap ones
for 4,800, with SGD and AdamW:

1. `cosine` is tuned on two seeds of which nothing is reported (`TUNING_SEEDS`): seven half-decades around what shorter
   runs say (the tuned peak of `results/robustness.json`, lowered by the square root of the length), more where the best
   is at the edge. The best by validation loss counts.
2. On the seeds that follow, `cosine` and `cosine+guarded` are given the tuned peak and ten times as much.
3. `automatic` is given one learning rate, on the same seeds: it does not depend on it.
4. With `--rules`, rules that find the peak are judged on sweeps and rehearsals recorded on the seeds for tuning
   (`rehearsed_rules.py`).

Finished runs are kept in `runs/horizons` and not repeated. Writes `results/horizons.json` and `results/horizons.md`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from adaptive_lr.study import StudyError, StudyFolder
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.summary import Cell
from experiments import robustness
from experiments.horizons_tables import markdown
from experiments.peak_rule_table import found_peak, spent
from experiments.records import carried_out, header, options, parsed, recorded_workloads, rounded, tuned_peaks, write
from experiments.rehearsed_rules import judged_rules
from experiments.robustness import DECADES, NEIGHBOURS, best, gap_interval, outcome
from experiments.workloads import TUNING

HORIZONS = (1200, 4800)
CHEAP = ("digits-mlp", "breast-cancer", "quadratic", "fine-tuning", "raw-mlp")
"""Workloads that are also trained for longer than the first of `HORIZONS`."""

TUNING_SEEDS = range(2)
"""Seeds on which `cosine` is tuned; those that are reported follow them."""

ABOVE = (0, 2)
"""Half-decades above the tuned peak that are reported: 1 and 10 times as much."""

GIVEN = -6
"""The learning rate that `automatic` is given, in half-decades."""

MOST_EXTENSIONS = 4
"""Half-decades that are added where the best is at the edge."""


def window(peak: float, shorter: int, steps: int) -> list[int]:
    """The half-decades to tune over.

    Args:
        peak: the tuned peak of runs of `shorter` updates.
        shorter: their length.
        steps: the length of the runs to tune.
    """
    middle = round(2.0 * math.log10(peak) - math.log10(steps / shorter))
    return [middle + offset for offset in NEIGHBOURS]


class Bench(robustness.Bench):
    """One workload with one optimizer for one number of updates, in a folder that keeps its runs.

    Attributes:
        references: name -> reference of the workloads that there are.
        above: half-decades above the tuned peak that are reported.

    Args:
        name: of the workload.
        optimizer: "sgd" or "adamw".
        steps: updates of every run.
        folder: where runs are kept.
        seeds: how many are reported.
        jobs: processes.
    """

    references: ClassVar[Mapping[str, str]] = TUNING
    above: ClassVar[Sequence[int]] = ABOVE

    def __init__(self, name: str, optimizer: str, steps: int, folder: StudyFolder, *, seeds: int, jobs: int) -> None:
        super().__init__(name, self.references[name], optimizer, folder, seeds=seeds, jobs=jobs)
        self.steps = steps
        self.tuning_seeds = TUNING_SEEDS
        self.seeds = range(TUNING_SEEDS.stop, TUNING_SEEDS.stop + seeds)

    def tuned(self, halves: list[int]) -> tuple[list[int], list[Cell]]:
        """Tune `cosine`, on the seeds for tuning, over more half-decades than given where the best is at the edge.

        Returns:
            The half-decades tried, ascending, and what came of each.
        """
        for _ in range(MOST_EXTENSIONS + 1):
            tried, cells = halves, self.cells("cosine", halves, self.tuning_seeds)
            chosen = best(cells)
            if 0 < chosen < len(cells) - 1:
                break
            halves = [halves[0] - 1, *halves] if chosen == 0 else [*halves, halves[-1] + 1]
        return tried, cells

    def entry(self, peak: float) -> dict[str, Any]:
        """The entry of the record.

        Args:
            peak: the tuned peak of runs as long as the workload says.

        Raises:
            StudyError: runs failed.
        """
        return self.entry_around(window(peak, check_workload(self.reference).total_steps, self.steps))

    def entry_around(self, halves: list[int]) -> dict[str, Any]:
        """The entry of the record, tuned over these half-decades and more where the best is at the edge.

        Raises:
            StudyError: runs failed.
        """
        halves, tuning = self.tuned(halves)
        higher = [halves[best(tuning)] + offset for offset in self.above]
        above = {recipe: self.cells(recipe, higher) for recipe in ("cosine", "cosine+guarded")}
        (automatic,) = self.cells("automatic", [GIVEN])
        if len(self.results) < len(self.planned):
            raise StudyError(f"runs of {self.name} failed (tracebacks are in {self.folder.store.directory})")
        tuned = above["cosine"][0]
        compared = {"automatic": [automatic], **above} if len(self.seeds) > 1 else {}
        return {
            "workload": self.name,
            "optimizer": self.optimizer,
            "steps": self.steps,
            "tuning": [asdict(outcome(cell)) for cell in tuning],
            "above": {recipe: [asdict(outcome(cell)) for cell in cells] for recipe, cells in above.items()},
            "automatic": asdict(outcome(automatic)),
            "found": rounded(map(found_peak, automatic.results)),
            "spent": rounded(map(spent, automatic.results)),
            "intervals": {recipe: [gap_interval([one], tuned) for one in cells] for recipe, cells in compared.items()},
        }


def measure(
    workloads: Iterable[str], horizons: Iterable[int], *, seeds: int, jobs: int, output: Path, record: Path
) -> list[dict[str, Any]]:
    """Carry out what is missing, and return an entry for each workload, optimizer and length."""
    chosen = list(workloads)
    peaks = tuned_peaks(record, chosen)
    entries = []
    for steps in horizons:
        for name in chosen:
            if steps > HORIZONS[0] and name not in CHEAP:
                continue
            folder = StudyFolder(output / name)
            folder.prepare()
            for optimizer in DECADES:
                bench = Bench(name, optimizer, steps, folder, seeds=seeds, jobs=jobs)
                entries.append(bench.entry(peaks[name, optimizer]))
                print(f"{name} with {optimizer}, {steps} updates: done", flush=True)
    return entries


def main() -> None:
    """Parse the command line, carry out what is missing, write the record and print its tables."""
    parser = options("horizons", "Longer runs.", seeds=5, workloads=recorded_workloads())
    parser.set_defaults(output=Path("runs/horizons"))
    parser.add_argument("--steps", nargs="+", type=int, default=list(HORIZONS), metavar="N",
                        help="updates of a run (default: 1200, of the cheap workloads 4800 too)")  # fmt: skip
    parser.add_argument("--rules", action="store_true", help="judge rules as well")
    arguments = parsed(parser)
    if min(arguments.steps) < 1:
        parser.error("--steps must be at least 1")

    def study() -> list[dict[str, Any]]:
        return measure(
            arguments.workloads, arguments.steps, seeds=arguments.seeds, jobs=arguments.jobs,
            output=arguments.output, record=arguments.record,
        )  # fmt: skip

    entries = carried_out("horizons", study, arguments.output)
    rules = judged_rules(entries, len(TUNING_SEEDS), arguments.output) if arguments.rules else []
    about = header("horizons", arguments.seeds)
    write(arguments.record, arguments.name, about, {"pairs": entries, "rules": rules}, markdown)


if __name__ == "__main__":
    main()
