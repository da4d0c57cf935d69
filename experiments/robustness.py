"""Any learning rate, many workloads: `python -m experiments.robustness [--workloads NAME ...] [--seeds 3] [--jobs 2]`.

For each workload for tuning, with SGD and with AdamW:

1. `cosine`, `cosine+guarded` and `automatic` are given one learning rate per decade, nine decades wide.
2. `cosine` is tuned on as many other seeds, of which nothing is reported: one learning rate per decade, then
   half-decades around the best of them, seven in all; the best by validation loss counts.
3. `cosine` and `cosine+guarded` are given the tuned learning rate, and 3, 10 and 30 times as much.

Finished runs are kept in `runs/robustness` and not repeated, so the command can be stopped and run again. At the end it
writes `results/robustness.json` and `results/robustness.md` beside this file (or, for part of the workloads or fewer
seeds, under another `--name`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean

from adaptive_lr.study import Run, RunResult, StudyError, StudyFolder
from adaptive_lr.study.statistics import lr_sensitivity, mean_interval
from adaptive_lr.study.study import FIRST_TUNING_SEED, check_workload
from adaptive_lr.study.summary import Cell, collect_cells
from experiments.records import carried_out, header, options, parsed
from experiments.robustness_tables import markdown, row
from experiments.workloads import TUNING

RECIPES = ("cosine", "cosine+guarded", "automatic")

DECADES = {"sgd": range(-6, 3), "adamw": range(-7, 2)}
"""Exponents of the learning rates that all recipes are given."""

NEIGHBOURS = range(-3, 4)
"""Half-decades around the best decade among which `cosine` is tuned."""

ABOVE = range(4)
"""Half-decades above the tuned learning rate: 1, 3, 10 and 30 times as much."""


@dataclass(frozen=True)
class Outcome:
    """One recipe given one learning rate: means over seeds, losses clipped at the loss at initialisation.

    Attributes:
        lr: the learning rate given.
        validation_loss, test_loss: after the last update.
        test_accuracy: in [0, 1], or None where the task has none.
        seeds: how many of the runs were carried out.
    """

    lr: float
    validation_loss: float
    test_loss: float
    test_accuracy: float | None
    seeds: int


@dataclass(frozen=True)
class Pair:
    """What came of one workload with one optimizer.

    Attributes:
        workload, optimizer: names.
        tuned: `cosine` at the learning rate that was best on the seeds for tuning.
        tuned_at_edge: whether that is the first or last of the learning rates it was tuned over.
        decades: recipe -> its outcomes over the decades, ascending.
        sensitivity: recipe -> learning-rate sensitivity over the decades, see `statistics.lr_sensitivity`.
        above: recipe -> its outcomes at 1, 3, 10 and 30 times the tuned learning rate.
        missing: runs that failed.
        intervals: recipe -> [low, high] of 95 % intervals of its gaps, paired by seed (see `gap_interval`): of
            `automatic` one, of the mean over the decades; of the others one for each of `above`. Empty below two seeds.
    """

    workload: str
    optimizer: str
    tuned: Outcome
    tuned_at_edge: bool
    decades: dict[str, list[Outcome]]
    sensitivity: dict[str, float]
    above: dict[str, list[Outcome]]
    missing: int
    intervals: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def rate(half_decades: int) -> float:
    """10 to the power of half that number; the same float wherever it is needed."""
    return float(10.0 ** (half_decades / 2))


class Bench:
    """One workload with one optimizer, in a folder that keeps its runs.

    Args:
        name: of the workload.
        reference: to it.
        optimizer: "sgd" or "adamw".
        folder: where runs are kept.
        seeds: repetitions of every run, and seeds for tuning.
        jobs: processes.
    """

    def __init__(
        self, name: str, reference: str, optimizer: str, folder: StudyFolder, *, seeds: int, jobs: int
    ) -> None:
        self.name, self.reference, self.optimizer, self.folder = name, reference, optimizer, folder
        self.seeds, self.jobs = range(seeds), jobs
        self.tuning_seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + seeds)
        self.steps = check_workload(reference).total_steps
        self.planned: set[Run] = set()
        self.results: dict[Run, RunResult] = {}

    def cells(self, recipe: str, exponents: Iterable[int], seeds: Iterable[int] | None = None) -> list[Cell]:
        """Those learning rates (in half-decades, ascending) with one recipe; runs are carried out where missing.

        Args:
            recipe: its name.
            exponents: the learning rates.
            seeds: None: those that are reported.

        Raises:
            StudyError: every run at one of the learning rates failed.
        """
        rates = [rate(exponent) for exponent in exponents]
        runs = [
            Run(self.reference, self.optimizer, recipe, lr, seed, self.steps)
            for seed in (self.seeds if seeds is None else seeds)
            for lr in rates
        ]
        self.planned |= set(runs)
        found = self.folder.complete(runs, jobs=self.jobs)
        self.results |= found
        cells = collect_cells(found.values())
        if len(cells) < len(rates):
            raise StudyError(f"runs of {self.name} failed (tracebacks are in {self.folder.store.directory})")
        return cells

    @property
    def halves(self) -> list[int]:
        """The decades that all recipes are given, as half-decades."""
        return [2 * decade for decade in DECADES[self.optimizer]]

    def nearby(self) -> list[int]:
        """The seven half-decades among which `cosine` is tuned, around its best decade on the seeds for tuning."""
        middle = self.halves[best(self.cells("cosine", self.halves, self.tuning_seeds))]
        return [middle + offset for offset in NEIGHBOURS]

    def measure(self) -> Pair:
        """Carry out all three parts."""
        decades = {recipe: self.cells(recipe, self.halves) for recipe in RECIPES}
        nearby = self.nearby()
        chosen = best(self.cells("cosine", nearby, self.tuning_seeds))
        higher = [nearby[chosen] + offset for offset in ABOVE]
        above = {recipe: self.cells(recipe, higher) for recipe in RECIPES[:2]}
        tuned = above["cosine"][0]
        return Pair(
            workload=self.name,
            optimizer=self.optimizer,
            tuned=outcome(tuned),
            tuned_at_edge=chosen in (0, len(nearby) - 1),
            decades={recipe: [outcome(cell) for cell in cells] for recipe, cells in decades.items()},
            sensitivity={recipe: sensitivity(cells) for recipe, cells in decades.items()},
            above={recipe: [outcome(cell) for cell in cells] for recipe, cells in above.items()},
            missing=len(self.planned) - len(self.results),
            intervals={
                "automatic": [gap_interval(decades["automatic"], tuned)],
                **{recipe: [gap_interval([cell], tuned) for cell in cells] for recipe, cells in above.items()},
            }
            if len(self.seeds) > 1
            else {},
        )


def best(cells: Sequence[Cell]) -> int:
    """The index of the lowest mean validation loss."""
    losses = [fmean(cell.validation_losses) for cell in cells]
    return losses.index(min(losses))


def sensitivity(cells: Sequence[Cell]) -> float:
    """Of the validation loss, over these learning rates."""
    return lr_sensitivity([cell.validation_losses for cell in cells], [cell.initial_losses for cell in cells])


def gap_interval(cells: Sequence[Cell], tuned: Cell) -> tuple[float, float]:
    """95 % interval (Student's, paired by seed) of the gap of cells to `tuned`, their mean where there are several.

    The gap is what is missing of the test accuracy, in points; without accuracies the test loss over the mean loss of
    `tuned`, whose own variation enters through the pairs alone.

    Raises:
        ValueError: no seed is in all of them.
    """
    by_seed = [_scores(cell) for cell in (tuned, *cells)]
    seeds = sorted(set.intersection(*(set(scores) for scores in by_seed)))
    reference, *others = ([scores[seed] for seed in seeds] for scores in by_seed)
    differences = [fmean(values) - value for value, *values in zip(reference, *others, strict=True)]
    _, low, high = mean_interval(differences)
    if tuned.test_accuracies is not None:
        return -100.0 * high, -100.0 * low
    return 1.0 + low / fmean(reference), 1.0 + high / fmean(reference)


def _scores(cell: Cell) -> dict[int, float]:
    """Seed -> test accuracy, or test loss where there is none."""
    values = cell.test_losses if cell.test_accuracies is None else cell.test_accuracies
    return {result.run.seed: value for result, value in zip(cell.results, values, strict=True)}


def outcome(cell: Cell) -> Outcome:
    """Means over seeds."""
    return Outcome(
        lr=cell.peak_lr,
        validation_loss=fmean(cell.validation_losses),
        test_loss=fmean(cell.test_losses),
        test_accuracy=None if cell.test_accuracies is None else fmean(cell.test_accuracies),
        seeds=len(cell.results),
    )


def measured(workloads: Mapping[str, str], arguments: argparse.Namespace) -> list[Pair]:
    """Every workload (name -> reference) with every optimizer, with a line printed for each."""
    pairs = []
    for name, reference in workloads.items():
        folder = StudyFolder(arguments.output / name)
        folder.prepare()
        for optimizer in DECADES:
            bench = Bench(name, reference, optimizer, folder, seeds=arguments.seeds, jobs=arguments.jobs)
            pairs.append(bench.measure())
            print(row(pairs[-1]), flush=True)
    return pairs


def record(
    name: str, title: str, pairs: Sequence[Pair], arguments: argparse.Namespace, study: str = "robustness"
) -> None:
    """Write every outcome as JSON and the tables as Markdown, under a name, and print those; `study` is the module."""
    folder = arguments.record
    folder.mkdir(parents=True, exist_ok=True)
    about = header(study, arguments.seeds)
    lines = ",\n".join(json.dumps(asdict(pair)) for pair in pairs)  # a line for each pair: short, and differences show
    (folder / f"{name}.json").write_text(f'{{"about": {json.dumps(about)},\n"pairs": [\n{lines}\n]}}\n')
    (folder / f"{name}.md").write_text(markdown(title, name, pairs, about))
    print((folder / f"{name}.md").read_text())


def main() -> None:
    """Parse the command line, carry out what is missing, and write the record."""
    arguments = parsed(options("robustness", "Any learning rate?", seeds=3, workloads=list(TUNING)))
    workloads = {name: TUNING[name] for name in arguments.workloads}
    pairs = carried_out("robustness", lambda: measured(workloads, arguments), arguments.output)
    record(arguments.name, "Any learning rate, many workloads", pairs, arguments)


if __name__ == "__main__":
    main()
