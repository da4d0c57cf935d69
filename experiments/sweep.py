"""A quick look at how every workload learns: `python -m experiments.sweep [name ...]`.

Each workload is trained under a cosine with 5 % warm-up, at half-decade peaks, with one seed, by SGD with momentum
and by AdamW. The table that is printed is the one in this folder's README. Finished runs are kept in `runs/sweep` and
not repeated. Single seeds rank learning rates, not recipes.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from adaptive_lr.study import RunResult, Study, StudyFolder
from adaptive_lr.study.study import check_workload
from experiments.workloads import ON_DISK, SET_ASIDE, SPIKES, TUNING

GRIDS = {
    "sgd": tuple(10.0 ** (k / 2) for k in range(-7, 2)),
    "adamw": tuple(10.0 ** (k / 2) for k in range(-8, 3)),
}
"""Half-decades that hold the optimum of every workload here, with room on both sides."""

ACCURACY_TOLERANCE, LOSS_TOLERANCE = 0.01, 0.02
"""What counts as nearly the best: one point of accuracy, or where there is none 2 % of the loss."""

HEADER = (
    "| workload | optimizer | loss at start | best peak LR | validation loss | accuracy | nearly as good | seconds |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def nearly_best(results: list[RunResult], best: RunResult) -> list[RunResult]:
    """The results within the tolerance of the best one, by accuracy where the workload has it."""
    assert best.validation is not None
    near = []
    for result in results:
        if result.validation is None:
            continue
        if best.validation.accuracy is not None and result.validation.accuracy is not None:
            good = result.validation.accuracy >= best.validation.accuracy - ACCURACY_TOLERANCE
        else:
            good = result.validation.loss <= best.validation.loss * (1.0 + LOSS_TOLERANCE)
        if good and math.isfinite(result.validation.loss):
            near.append(result)
    return near


def row(name: str, optimizer: str, results: list[RunResult]) -> str:
    """One line of the table: the run with the lowest final validation loss, and the peaks that do nearly as well."""
    results = sorted(results, key=lambda result: result.run.peak_lr)
    best = min(results, key=lambda result: math.inf if result.validation is None else result.validation.loss)
    if best.validation is None or best.initial is None:
        return f"| {name} | {optimizer} | | failed | | | | |"
    accuracy = "" if best.validation.accuracy is None else f" {best.validation.accuracy:.1%}"
    near = [result.run.peak_lr for result in nearly_best(results, best)]
    seconds = sorted(result.seconds for result in results)[len(results) // 2]
    return (
        f"| {name} | {optimizer} | {best.initial.loss:.3g} | {best.run.peak_lr:.2g} | {best.validation.loss:.3g} "
        f"|{accuracy} | {min(near):.2g} to {max(near):.2g} | {seconds:.1f} |"
    )


def main() -> None:
    """Parse the command line, carry out what is missing, and print the table."""
    known = {**TUNING, **SET_ASIDE, **SPIKES, **ON_DISK}
    parser = argparse.ArgumentParser(prog="python -m experiments.sweep", description="A learning-rate sweep.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of: {', '.join(known)}; default: those for tuning")
    parser.add_argument("--jobs", type=int, help="processes; default: one for each core")
    parser.add_argument("--output", type=Path, default=Path("runs/sweep"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(known))
    if unknown:
        parser.error(f"unknown workload {', '.join(unknown)}; known: {', '.join(known)}")

    print(HEADER)
    for name in arguments.names or TUNING:
        check_workload(known[name])
        folder = StudyFolder(arguments.output / name)
        folder.prepare()
        for optimizer, grid in GRIDS.items():
            runs = Study(
                (known[name],), recipes=("cosine",), optimizers=(optimizer,), learning_rates=grid, seeds=1
            ).runs()
            results = folder.complete(runs, jobs=arguments.jobs)
            print(row(name, optimizer, list(results.values())), flush=True)


if __name__ == "__main__":
    main()
