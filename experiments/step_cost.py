"""What a training step costs under each recipe: `python -m experiments.step_cost [--recipes NAME ...] [--rounds 15]`.

The time of a step is that between two batches of digits-mlp: forward, backward, update and whatever the recipe does,
evaluations left out; of a run it is the median over steps. Recipes take turns with `cosine` in one process, so that a
machine that slows down slows all of them, and each time is divided by that of `cosine` in the same round. Writes
`results/step_cost.json` and `results/step_cost.md`; `experiments.peers` measures its own costs in the same way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from adaptive_lr.study import Run, StudyError, execute
from adaptive_lr.study.recipe import check_installed, find_recipe
from adaptive_lr.study.workload import load_workload
from experiments.peers_tables import RECIPES
from experiments.records import RECORD, header, rounded, table, write
from experiments.workloads.clocked_digits import STEPS, ClockedDigits

REFERENCE = f"{ClockedDigits.__module__}:ClockedDigits"
BASE = "cosine"
ROUNDS = 5

COST_LR = {"sgd": 0.1, "adamw": 1e-3}
"""At which the workload trains under every recipe."""

INTRODUCTION = """\
Time of a training step over that under `cosine` in the same round, on digits-mlp ({steps} steps a run, its median step;
one thread): median and quartiles over {rounds} rounds in which recipes took turns. Under `cosine` a step took {base}.
"""


def suited(recipes: Sequence[str], optimizer: str) -> list[str]:
    """Those of the recipes that are for this optimizer."""
    return [recipe for recipe in recipes if optimizer in (find_recipe(recipe).optimizers or (optimizer,))]


def step_seconds(optimizer: str, recipe: str, lr: float, *, steps: int = STEPS) -> float:
    """Median seconds of a step."""
    workload = load_workload(REFERENCE)
    assert isinstance(workload, ClockedDigits)
    execute(Run(REFERENCE, optimizer, recipe, lr, 0, steps))
    moments = workload.moments
    return median(later - earlier for earlier, later in pairwise(moments))


def measured(
    optimizer: str, recipes: Sequence[str], lr: float, *, rounds: int = ROUNDS, steps: int = STEPS
) -> dict[str, list[float]]:
    """Recipe -> median seconds of a step in each round; `cosine` is measured in every round, first.

    Args:
        optimizer: name.
        recipes: that are for this optimizer.
        lr: given to all of them; one at which the workload trains.
        rounds: how often recipes take turns, >= 1.
        steps: of each run, >= 2.
    """
    step_seconds(optimizer, BASE, lr, steps=steps)  # the first run of a process is slower
    found: dict[str, list[float]] = {recipe: [] for recipe in dict.fromkeys([BASE, *recipes])}
    for _ in range(rounds):
        for recipe, seconds in found.items():
            seconds.append(step_seconds(optimizer, recipe, lr, steps=steps))
    return found


def over_base(seconds: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Recipe -> the time of its step over that of `cosine`, round by round."""
    return {recipe: [own / base for own, base in zip(found, seconds[BASE], strict=True)]
            for recipe, found in seconds.items()}  # fmt: skip


def ratios(
    optimizer: str, recipes: Sequence[str], lr: float, *, rounds: int = ROUNDS, steps: int = STEPS
) -> dict[str, float]:
    """Recipe -> the time of its step over that of `cosine`: the median over rounds; see `measured`."""
    found = over_base(measured(optimizer, recipes, lr, rounds=rounds, steps=steps))
    return {recipe: median(found[recipe]) for recipe in recipes}


def quartiles(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """First quartile, median and third quartile of the ratios of one row of the record."""
    low, middle, high = np.quantile(row["ratios"], (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    about, rows = record["about"], record["rows"]
    base = ", ".join(f"{1e3 * median(one['seconds']):.2f} ms with {one['optimizer']}"
                     for one in rows if one["recipe"] == BASE)  # fmt: skip
    cells = []
    for one in rows:
        low, middle, high = quartiles(one)
        cells.append([one["recipe"], one["optimizer"], f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return "\n".join(
        [
            f"# What a step costs under each recipe\n\n`{about['command']}`, {about['date']}.",
            f"{versions}; code of control {about['control_sha256'][:12]}.\n",
            INTRODUCTION.format(steps=about["steps"], rounds=about["rounds"], base=base),
            table(["recipe", "optimizer", "ratio", "quartiles"], cells),
            "",
        ]
    )


def main() -> None:
    """Parse the command line, measure, write the record and print its table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.step_cost", description="What a step costs.")
    parser.add_argument("--recipes", nargs="+", metavar="NAME", default=list(RECIPES), choices=list(RECIPES),
                        help=f"of: {', '.join(RECIPES)}; default: all")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3 * ROUNDS, help="in which recipes take turns (default: 15)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run (default: %(default)s)")
    parser.add_argument("--record", type=Path, default=RECORD, help="tables (default: results/ beside this file)")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.steps < 2:
        parser.error("--rounds must be at least 1, and --steps at least 2")
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    try:
        for recipe in arguments.recipes:
            check_installed(find_recipe(recipe))
        for optimizer, lr in COST_LR.items():
            seconds = measured(
                optimizer, suited(arguments.recipes, optimizer), lr, rounds=arguments.rounds, steps=arguments.steps
            )
            relative = over_base(seconds)
            rows += [
                {"optimizer": optimizer, "recipe": recipe, "lr": lr, "seconds": rounded(own),
                 "ratios": rounded(relative[recipe])}
                for recipe, own in seconds.items()
            ]  # fmt: skip
            print(f"{optimizer}: done", flush=True)
    except StudyError as error:
        sys.exit(f"step_cost: {error}")
    about = {**header("step_cost", 1), "rounds": arguments.rounds, "steps": arguments.steps}
    write(arguments.record, "step_cost", about, {"rows": rows}, markdown)


if __name__ == "__main__":
    main()
