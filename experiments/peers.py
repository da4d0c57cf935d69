"""Peers over every decade: `python -m experiments.peers [--workloads NAME ...] [--recipes NAME ...] [--seeds 3]`.

Fixed schedules, other methods and our own are given one learning rate per decade, nine decades wide, with SGD and with
AdamW, on the workloads for tuning. What a step costs is measured apart, in this process (`step_cost`).

Finished runs are kept in `runs/peers` and not repeated, so the command can be stopped and run again. `--reuse FOLDER`
takes over what another study carried out (`runs/robustness` has `cosine` and our own). At the end it
writes `results/peers.json` and `results/peers.md` beside this file.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean

import numpy as np

from adaptive_lr.study import Study, StudyFolder
from adaptive_lr.study.errors import exception_of
from adaptive_lr.study.recipe import check_installed, find_recipe
from adaptive_lr.study.statistics import decades_within, lr_sensitivity
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.summary import Cell, collect_cells
from experiments import step_cost
from experiments.peers_tables import RECIPES, level, markdown
from experiments.records import carried_out, header, options, parsed, taken_over
from experiments.workloads import TUNING

DECADES = {"sgd": range(-6, 3), "adamw": range(-7, 2)}
"""Exponents of the learning rates that all recipes are given."""

ACCURACY_MARGIN, LOSS_MARGIN = 0.01, 0.02
"""What counts as nearly the best: one point of accuracy, or without accuracies 2 % of the loss."""

PACKAGES = ("adaptive-lr", "torch", "numpy", "schedulefree", "prodigyopt", "momo-opt", "transformers")

OUTPUT = Path("runs/peers")
"""Where runs are kept."""


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
        best_loss, best_accuracy: at the best learning rate, each seed at the one that the other seeds choose.
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
    chosen = chosen_by_others([cell.validation_losses for cell in cells])
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
        best_loss=_reported([cell.test_losses for cell in cells], chosen),
        best_accuracy=None if accuracies is None else _reported([cell.test_accuracies or () for cell in cells], chosen),
        worst_loss=max(test),
        worst_accuracy=None if accuracies is None else min(accuracies),
        decades=None if math.isnan(decades) else decades,
        diverged=fmean(worse),
        runs=len(worse),
    )


def chosen_by_others(losses: Sequence[Sequence[float]]) -> list[int]:
    """For each seed the row of least mean loss over the other seeds, so that no seed chooses what it is reported at.

    Args:
        losses: a row for each learning rate, a column for each seed; a single seed has to choose for itself.
    """
    table = np.asarray(losses)
    others = table.sum(axis=1, keepdims=True) - table if table.shape[1] > 1 else table
    return [int(row) for row in others.argmin(axis=0)]


def _reported(values: Sequence[Sequence[float]], chosen: Sequence[int]) -> float:
    """The mean over seeds (columns), each at its own learning rate (row)."""
    return fmean(values[row][seed] for seed, row in enumerate(chosen))


def measure(
    name: str,
    optimizer: str,
    recipes: Sequence[str],
    folder: StudyFolder,
    *,
    seeds: int,
    jobs: int,
    reuse: StudyFolder | None = None,
) -> tuple[list[Row], dict[str, str]]:
    """Carry out what is missing of one workload with one optimizer.

    Args:
        name: of the workload, in `TUNING`.
        optimizer: "sgd" or "adamw".
        recipes: names; those that are not for this optimizer are left out.
        folder: where runs are kept.
        seeds: repetitions of every run.
        jobs: processes.
        reuse: another folder whose finished results are taken over where they are the same.

    Returns:
        A row for each recipe, and for those of which runs failed the reason instead.
    """
    suited = tuple(step_cost.suited(recipes, optimizer))
    rates = tuple(10.0**decade for decade in DECADES[optimizer])
    runs = Study((TUNING[name],), suited, (optimizer,), learning_rates=rates, seeds=seeds).runs()
    if reuse is not None:
        taken_over(runs, reuse, folder)
    found = folder.complete(runs, jobs=jobs)
    refused: dict[str, str] = {}
    for run, result in folder.known(run for run in runs if run not in found).items():
        refused.setdefault(run.recipe, exception_of(result.error))
    whole = [result for result in found.values() if result.run.recipe not in refused]
    order = {recipe: place for place, recipe in enumerate(recipes)}
    cells = sorted(collect_cells(whole), key=lambda cell: (order[cell.recipe], cell.peak_lr))
    return rows_of(name, cells), refused


def measured_cost(recipes: Sequence[str], *, rounds: int) -> dict[str, dict[str, float]]:
    """Optimizer -> recipe -> time of its step over that under cosine; empty without rounds."""
    return {
        optimizer: step_cost.ratios(optimizer, step_cost.suited(recipes, optimizer), lr, rounds=rounds)
        for optimizer, lr in step_cost.COST_LR.items()
        if rounds
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that recipes come from, those that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def write(
    rows: Sequence[Row],
    refused: Mapping[tuple[str, str], Mapping[str, str]],
    cost: Mapping[str, Mapping[str, float]],
    seeds: int,
    folder: Path,
    name: str = "peers",
) -> None:
    """Write the record under a name: every row as JSON, the tables as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {**header("peers", seeds), "versions": versions()}
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)  # a line for each: short, and differences show
    reasons = [{"workload": w, "optimizer": o, "recipe": r, "reason": reason}
               for (w, o), found in refused.items() for r, reason in found.items()]  # fmt: skip
    (folder / f"{name}.json").write_text(
        f'{{"about": {json.dumps(about)},\n"step_cost": {json.dumps(cost)},\n"refused": {json.dumps(reasons)},\n'
        f'"rows": [\n{lines}\n]}}\n'
    )
    (folder / f"{name}.md").write_text(markdown(rows, refused, cost, about))


def main() -> None:
    """Parse the command line, carry out what is missing, print a line for each row, and write the record."""
    parser = options("peers", "Ours and others, any LR.", seeds=3, workloads=list(TUNING))
    parser.set_defaults(output=OUTPUT)
    parser.add_argument("--recipes", nargs="+", metavar="NAME", default=list(RECIPES), choices=list(RECIPES),
                        help=f"of: {', '.join(RECIPES)}; default: all")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=step_cost.ROUNDS,
                        help="of measuring what a step costs; 0: it is left out (default: %(default)s)")  # fmt: skip
    parser.add_argument("--reuse", type=Path, metavar="FOLDER",
                        help="of another study (runs/robustness): what it carried out is taken over")  # fmt: skip
    arguments = parsed(parser)
    if arguments.rounds < 0:
        parser.error("--rounds must be at least 0")
    refused: dict[tuple[str, str], dict[str, str]] = {}
    cost: dict[str, dict[str, float]] = {}

    def study() -> list[Row]:
        rows: list[Row] = []
        for recipe in arguments.recipes:
            check_installed(find_recipe(recipe))
        for name in arguments.workloads:
            check_workload(TUNING[name])
            folder = StudyFolder(arguments.output / name)
            folder.prepare()
            reuse = None if arguments.reuse is None else StudyFolder(arguments.reuse / name)
            for optimizer in DECADES:
                found, refused[name, optimizer] = measure(
                    name, optimizer, arguments.recipes, folder, seeds=arguments.seeds, jobs=arguments.jobs, reuse=reuse
                )
                rows += found
                for row in found:
                    print(f"{name}, {optimizer}, {row.recipe}: sensitivity {row.sensitivity:.3f}, "
                          f"best {level(row.best_accuracy, row.best_loss)}", flush=True)  # fmt: skip
        cost.update(measured_cost(arguments.recipes, rounds=arguments.rounds))
        return rows

    rows = carried_out("peers", study, arguments.output)
    write(rows, refused, cost, arguments.seeds, arguments.record, arguments.name)
    print((arguments.record / f"{arguments.name}.md").read_text())


if __name__ == "__main__":
    main()
