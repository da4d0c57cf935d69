"""Peers over every decade: `python -m experiments.peers [--workloads NAME ...] [--recipes NAME ...] [--seeds 3]`.

Fixed schedules, other methods and our own are given one learning rate per decade, nine decades wide, with SGD and with
AdamW, on the workloads for tuning. What a step costs is measured apart, in this process (`step_cost`).

Finished runs are kept in `runs/peers` and not repeated, so the command can be stopped and run again. At the end it
writes `results/peers.json` and `results/peers.md` beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

from adaptive_lr.study import Study, StudyError, StudyFolder
from adaptive_lr.study.recipe import PEERS, check_installed, find_recipe
from adaptive_lr.study.statistics import decades_within, lr_sensitivity
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.summary import Cell, collect_cells
from experiments import step_cost
from experiments.peers_tables import OURS, level, markdown
from experiments.workloads import TUNING

FIXED = ("cosine", "constant", "linear", "wsd", "one-cycle", "plateau")

RECIPES = (*FIXED, *PEERS, *OURS)

DECADES = {"sgd": range(-6, 3), "adamw": range(-7, 2)}
"""Exponents of the learning rates that all recipes are given."""

ACCURACY_MARGIN, LOSS_MARGIN = 0.01, 0.02
"""What counts as nearly the best: one point of accuracy, or without accuracies 2 % of the loss."""

COST_LR = {"sgd": 0.1, "adamw": 1e-3}
"""At which the workload of `step_cost` trains under every recipe."""

PACKAGES = ("adaptive-lr", "torch", "numpy", "schedulefree", "prodigyopt", "momo-opt", "transformers")

RECORD = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One recipe with one optimizer on one workload: means over seeds, of the test split unless it says otherwise.

    Attributes:
        workload, optimizer, recipe: names.
        learning_rates: those given, ascending.
        validation_losses, test_losses: at each, clipped at the loss at initialisation.
        test_accuracies: at each, in [0, 1], or None where the task has none.
        sensitivity: of the validation loss, see `statistics.lr_sensitivity`.
        best_lr: the learning rate of least validation loss.
        at_edge: whether that is the first or last one.
        best_loss, best_accuracy: there.
        worst_loss, worst_accuracy: at the learning rate where they are worst.
        decades: the widest stretch that is nearly as good as the best that any recipe reaches there, or None: none is.
        diverged: share of runs whose validation loss ends as no finite number or above that at initialisation.
        runs: how many were carried out.
    """

    workload: str
    optimizer: str
    recipe: str
    learning_rates: list[float]
    validation_losses: list[float]
    test_losses: list[float]
    test_accuracies: list[float] | None
    sensitivity: float
    best_lr: float
    at_edge: bool
    best_loss: float
    best_accuracy: float | None
    worst_loss: float
    worst_accuracy: float | None
    decades: float | None
    diverged: float
    runs: int


def rows_of(workload: str, cells: Sequence[Cell]) -> list[Row]:
    """The rows of one workload with one optimizer, from the cells of all recipes."""
    recipes = {name: [cell for cell in cells if cell.recipe == name] for name in dict.fromkeys(c.recipe for c in cells)}
    scores = {name: _scores(own) for name, own in recipes.items()}
    top = max(score for values in scores.values() for score in values)
    scored = all(cell.test_accuracies is not None for cell in cells)
    margin = ACCURACY_MARGIN if scored else LOSS_MARGIN * abs(top)
    return [_row(workload, own, decades_within([cell.peak_lr for cell in own], scores[name], target=top, margin=margin))
            for name, own in recipes.items()]  # fmt: skip


def _scores(cells: Sequence[Cell]) -> list[float]:
    """Test accuracy at each learning rate, or minus the test loss: higher is better."""
    return [-fmean(cell.test_losses) if cell.test_accuracies is None else fmean(cell.test_accuracies) for cell in cells]


def _row(workload: str, cells: Sequence[Cell], decades: float) -> Row:
    validation = [fmean(cell.validation_losses) for cell in cells]
    test = [fmean(cell.test_losses) for cell in cells]
    known = [fmean(cell.test_accuracies) for cell in cells if cell.test_accuracies is not None]
    accuracies = known if len(known) == len(cells) else None
    best = validation.index(min(validation))
    worse = [
        result.status == "diverged" or result.validation.loss > result.initial.loss
        for cell in cells
        for result in cell.results
        if result.validation is not None and result.initial is not None
    ]
    return Row(
        workload=workload,
        optimizer=cells[0].optimizer,
        recipe=cells[0].recipe,
        learning_rates=[cell.peak_lr for cell in cells],
        validation_losses=validation,
        test_losses=test,
        test_accuracies=accuracies,
        sensitivity=lr_sensitivity([cell.validation_losses for cell in cells], [cell.initial_losses for cell in cells]),
        best_lr=cells[best].peak_lr,
        at_edge=best in (0, len(cells) - 1),
        best_loss=test[best],
        best_accuracy=None if accuracies is None else accuracies[best],
        worst_loss=max(test),
        worst_accuracy=None if accuracies is None else min(accuracies),
        decades=None if math.isnan(decades) else decades,
        diverged=fmean(worse),
        runs=len(worse),
    )


def measure(
    name: str, optimizer: str, recipes: Sequence[str], folder: StudyFolder, *, seeds: int, jobs: int
) -> tuple[list[Row], dict[str, str]]:
    """Carry out what is missing of one workload with one optimizer.

    Returns:
        A row for each recipe, and for those of which runs failed the reason instead.
    """
    suited = tuple(recipe for recipe in recipes if optimizer in (find_recipe(recipe).optimizers or (optimizer,)))
    rates = tuple(10.0**decade for decade in DECADES[optimizer])
    runs = Study((TUNING[name],), suited, (optimizer,), learning_rates=rates, seeds=seeds).runs()
    found = folder.complete(runs, jobs=jobs)
    refused: dict[str, str] = {}
    for run, result in folder.known(run for run in runs if run not in found).items():
        refused.setdefault(run.recipe, result.error.strip().splitlines()[-1])
    whole = [result for result in found.values() if result.run.recipe not in refused]
    order = {recipe: place for place, recipe in enumerate(recipes)}
    cells = sorted(collect_cells(whole), key=lambda cell: (order[cell.recipe], cell.peak_lr))
    return rows_of(name, cells), refused


def measured_cost(recipes: Sequence[str], *, rounds: int) -> dict[str, dict[str, float]]:
    """Optimizer -> recipe -> time of its step over that under cosine; empty without rounds."""
    return {
        optimizer: step_cost.ratios(
            optimizer,
            [recipe for recipe in recipes if optimizer in (find_recipe(recipe).optimizers or (optimizer,))],
            lr,
            rounds=rounds,
        )
        for optimizer, lr in COST_LR.items()
        if rounds
    }


def header(seeds: int) -> dict[str, Any]:
    """What the numbers were made with."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "command": shlex.join(["python", "-m", "experiments.peers", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seeds": seeds,
        "versions": versions,
    }


def write(
    rows: Sequence[Row],
    refused: Mapping[tuple[str, str], Mapping[str, str]],
    cost: Mapping[str, Mapping[str, float]],
    seeds: int,
    folder: Path,
) -> None:
    """Write the record: every row as JSON, the tables as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    about = header(seeds)
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)  # a line for each: short, and differences show
    reasons = [{"workload": w, "optimizer": o, "recipe": r, "reason": reason}
               for (w, o), found in refused.items() for r, reason in found.items()]  # fmt: skip
    (folder / "peers.json").write_text(
        f'{{"about": {json.dumps(about)},\n"step_cost": {json.dumps(cost)},\n"refused": {json.dumps(reasons)},\n'
        f'"rows": [\n{lines}\n]}}\n'
    )
    (folder / "peers.md").write_text(markdown(rows, refused, cost, about))


def main() -> None:
    """Parse the command line, carry out what is missing, print a line for each row, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m experiments.peers", description="Ours and others, any LR.")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", default=list(TUNING), choices=list(TUNING),
                        help=f"of: {', '.join(TUNING)}; default: all")  # fmt: skip
    parser.add_argument("--recipes", nargs="+", metavar="NAME", default=list(RECIPES), choices=list(RECIPES),
                        help=f"of: {', '.join(RECIPES)}; default: all")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=step_cost.ROUNDS,
                        help="of measuring what a step costs; 0: it is left out (default: %(default)s)")  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("runs/peers"), help="runs (default: %(default)s)")
    parser.add_argument("--record", type=Path, default=RECORD, help="tables (default: results/ beside this file)")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.jobs < 1 or arguments.rounds < 0:
        parser.error("--seeds and --jobs must be at least 1, --rounds at least 0")
    rows: list[Row] = []
    refused: dict[tuple[str, str], dict[str, str]] = {}
    try:
        for recipe in arguments.recipes:
            check_installed(find_recipe(recipe))
        for name in arguments.workloads:
            check_workload(TUNING[name])
            folder = StudyFolder(arguments.output / name)
            folder.prepare()
            for optimizer in DECADES:
                found, refused[name, optimizer] = measure(
                    name, optimizer, arguments.recipes, folder, seeds=arguments.seeds, jobs=arguments.jobs
                )
                rows += found
                for row in found:
                    print(f"{name}, {optimizer}, {row.recipe}: sensitivity {row.sensitivity:.3f}, "
                          f"best {level(row.best_accuracy, row.best_loss)}", flush=True)  # fmt: skip
        cost = measured_cost(arguments.recipes, rounds=arguments.rounds)
    except KeyboardInterrupt:
        sys.exit(f"stopped: finished runs are kept in {arguments.output}; run the same command again to go on")
    except StudyError as error:
        sys.exit(f"peers: {error}")
    write(rows, refused, cost, arguments.seeds, arguments.record)
    print((arguments.record / "peers.md").read_text())


if __name__ == "__main__":
    main()
