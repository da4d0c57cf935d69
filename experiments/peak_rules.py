"""Which rule finds the peak? `python -m experiments.peak_rules [--workloads NAME ...] [--seeds 2] [--end-to-end]`.

1. The truth: a cosine at half-decade peaks, for every workload for tuning and seven optimizers.
2. Sweeps are recorded once: 12 updates a decade up from an update-to-weight ratio of 0.001, losses and all ratios.
3. Every rule of `recorded_sweep` is applied to what a tenth of the run would have seen of each sweep, and judged by
   what the cosine does at the peak that the rule names (between grid points, interpolated).
4. With `--end-to-end`, `automatic` itself is run, from learning rates three decades apart.

Finished runs and sweeps are kept (`runs/robustness`, `runs/peak_rules`) and not repeated. At the end it writes
`results/peak_rules.md` beside this file. Lion comes from the package lion-pytorch.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from adaptive_lr.snapshot import Snapshot
from adaptive_lr.study import Run, RunResult, StudyFolder
from adaptive_lr.study.recipe import find_optimizer
from adaptive_lr.study.run import derive_seed
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.workload import load_workload, trainable
from experiments.optimizers import MORE
from experiments.peak_rule_table import Truth, end_to_end_table, rule_tables
from experiments.recorded_sweep import Sweep
from experiments.workloads import TUNING

OPTIMIZERS = {"sgd": "sgd", "adamw": "adamw", **MORE}
"""Name -> reference."""

HALF_DECADES = {
    "sgd": range(-12, 5), "adamw": range(-14, 3), "rmsprop": range(-8, 1), "adagrad": range(-6, 3),
    "nadam": range(-7, 2), "lion": range(-9, 0), "muon": range(-7, 2),
}  # fmt: skip
"""Where the cosine is run. Of SGD and AdamW what `experiments.robustness` has run is taken."""

WORKLOADS = tuple(name for name in TUNING if name != "byte-gpt")  # ten seconds a run
ELSEWHERE = ("digits-mlp", "gru", "breast-cancer")
"""Workloads on which the optimizers that nothing was chosen for are run end to end."""

STARTS = (1e-3, 1.0)
STEPS_PER_DECADE, FIRST_RATIO, RUNGS = 12, 1e-3, 44
RECORD = Path(__file__).parent / "results"


def truth(name: str, optimizer: str, seeds: int, folder: StudyFolder, *, run: bool) -> Truth | None:
    """The cosine's outcomes over peaks; None without any."""
    steps = check_workload(TUNING[name]).total_steps
    runs = [
        Run(TUNING[name], OPTIMIZERS[optimizer], "cosine", float(10.0 ** (half / 2)), seed, steps)
        for seed in range(seeds)
        for half in HALF_DECADES[optimizer]
    ]
    results = folder.complete(runs, jobs=1) if run and optimizer in MORE else folder.finished(runs)
    peaks: dict[float, list[RunResult]] = {}
    for item, result in results.items():
        peaks.setdefault(round(2.0 * math.log10(item.peak_lr)) / 2.0, []).append(result)
    whole = {peak: found for peak, found in sorted(peaks.items()) if len(found) == seeds}
    return Truth.of(whole) if len(whole) > 2 else None


def record_sweep(name: str, optimizer: str, seed: int, folder: Path) -> Sweep:
    """The rows of one sweep, from disk where they are there."""
    path = folder / f"{name}-{optimizer}-{seed}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(sweep(name, optimizer, seed))
        path.write_text(json.dumps({"steps": load_workload(TUNING[name]).total_steps, "rows": rows}))
    recorded = json.loads(path.read_text())
    return Sweep(optimizer, recorded["steps"], recorded["rows"])


def sweep(name: str, optimizer: str, seed: int) -> Iterator[dict[str, Any]]:
    """Train while the learning rate rises; each row has `lr`, `loss` and the `ratios` of the matrices."""
    workload = load_workload(TUNING[name])
    torch.set_num_threads(1)
    weights = derive_seed(workload.name, seed, "weights")
    torch.manual_seed(weights)
    model = workload.build_model(weights)
    torch.manual_seed(weights)
    given = 1e-3
    trained = find_optimizer(OPTIMIZERS[optimizer]).build(trainable(workload, model, given), given)
    shares = [group["lr"] / given for group in trained.param_groups]
    every = [p for group in trained.param_groups for p in group["params"]]
    watched = [p for p in every if p.dim() >= 2] or every
    batches = workload.batches(derive_seed(workload.name, seed, "batches"))

    def update(lr: float) -> dict[str, Any]:
        loss = workload.loss(model, next(batches))
        trained.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group, share in zip(trained.param_groups, shares, strict=True):
            group["lr"] = lr * share
        before = [p.detach().clone() for p in watched]
        trained.step()
        ratios = [
            float((p.detach() - b).double().norm()) / max(float(b.double().norm()), _floor(b))
            for p, b in zip(watched, before, strict=True)
        ]
        return {"lr": lr, "loss": loss.item(), "ratios": ratios}

    start, snapshot = given, Snapshot(trained, model)
    for _ in range(2):
        start *= FIRST_RATIO / max(update(start)["ratios"])
        snapshot.put_back(trained, model)
    for index in range(RUNGS):
        row = update(start * 10.0 ** (index / STEPS_PER_DECADE))
        yield row
        if not math.isfinite(row["loss"]) or not all(map(math.isfinite, row["ratios"])):
            return


def _floor(weight: torch.Tensor) -> float:
    """As in `adaptive_lr.meter`: a tenth of the usual initialisation's norm."""
    fan_in = weight.numel() / weight.shape[0] if weight.dim() >= 2 else weight.numel()
    return 0.1 * math.sqrt(weight.numel() / fan_in)


def run_automatic(name: str, optimizer: str, seeds: int, folder: StudyFolder) -> list[list[RunResult]]:
    """`automatic` from each of `STARTS`."""
    steps = check_workload(TUNING[name]).total_steps
    outcomes = []
    for start in STARTS:
        runs = [Run(TUNING[name], OPTIMIZERS[optimizer], "automatic", start, seed, steps) for seed in range(seeds)]
        outcomes.append(list(folder.complete(runs, jobs=1).values()))
    return outcomes


def pairs(workloads: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What is run end to end."""
    for name in workloads:
        for optimizer in OPTIMIZERS:
            if optimizer not in MORE or name in ELSEWHERE:
                yield name, optimizer


def main() -> None:
    """Parse the command line, carry out what is missing, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m experiments.peak_rules", description="Which rule finds the peak?")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", default=list(WORKLOADS), choices=list(TUNING))
    parser.add_argument("--seeds", type=int, default=2, help="repetitions (default: %(default)s)")
    parser.add_argument("--end-to-end", action="store_true", help="run `automatic` as well")
    parser.add_argument("--no-new-grids", action="store_true", help="judge by the cosines there are")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.add_argument("--record", type=Path, default=RECORD, help="tables (default: results/ beside this file)")
    arguments = parser.parse_args()
    truths: dict[tuple[str, str], Truth] = {}
    sweeps: dict[tuple[str, str], list[Sweep]] = {}
    automatic: dict[tuple[str, str], list[list[RunResult]]] = {}
    chosen = set(pairs(arguments.workloads)) if arguments.end_to_end else set()
    for name in arguments.workloads:
        folder = StudyFolder(arguments.runs / "robustness" / name)
        folder.prepare()
        for optimizer in OPTIMIZERS:
            known = truth(name, optimizer, arguments.seeds, folder, run=not arguments.no_new_grids)
            if known is None:
                continue
            truths[name, optimizer] = known
            sweeps[name, optimizer] = [
                record_sweep(name, optimizer, seed, arguments.runs / "peak_rules") for seed in range(arguments.seeds)
            ]
            if (name, optimizer) in chosen:
                automatic[name, optimizer] = run_automatic(name, optimizer, arguments.seeds, folder)
            print(name, optimizer, flush=True)
    command = shlex.join(["python", "-m", "experiments.peak_rules", *sys.argv[1:]])
    text = rule_tables(truths, sweeps, command)
    if automatic:
        text += end_to_end_table(truths, automatic)
    arguments.record.mkdir(parents=True, exist_ok=True)
    (arguments.record / "peak_rules.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
