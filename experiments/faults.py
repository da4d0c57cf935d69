"""Spikes and faults: `python -m experiments.faults [--seeds 10] [--jobs 2]`.

1. The suites of `workloads.SPIKES` and `workloads.MORE_SPIKES`, and the workloads that they are built on without a
   fault, at their tuned peaks (`results/robustness.json`): `cosine` and `cosine+guarded` with the same seeds.
2. `adam-quadratic` at a constant learning rate of 1, where AdamW itself spikes: `constant` and `constant+guarded`.
3. `GradientSpike` over made-up norms: log-normal of several spreads, with and without spikes of ten times.

Finished runs are kept and not repeated. Writes `results/faults.json` and `results/faults.md`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptive_lr.controllers import GradientSpike
from adaptive_lr.study import Run, RunResult, StudyError, StudyFolder
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.summary import Cell, collect_cells
from experiments.faults_tables import HOME, NO_FAULT, OF_ADAM, markdown
from experiments.records import carried_out, header, options, parsed, repetitions, rounded, tuned_peaks, write
from experiments.workloads import MORE_SPIKES, SPIKES, TUNING


class Suite(NamedTuple):
    """A workload with a fault, or without."""

    workload: str
    fault: str
    reference: str

    @property
    def folder(self) -> str:
        """Where its runs are kept."""
        if self.fault == NO_FAULT:
            return self.workload
        return self.fault if self.workload == HOME else f"{self.workload}-{self.fault}"


SUITES = (
    Suite(HOME, NO_FAULT, TUNING[HOME]),
    *(Suite(HOME, fault, reference) for fault, reference in SPIKES.items() if fault != OF_ADAM),
    *(Suite(name, NO_FAULT, TUNING[name]) for name in dict.fromkeys(name for name, _ in MORE_SPIKES)),
    *(Suite(name, fault, reference) for (name, fault), reference in MORE_SPIKES.items()),
)
"""Those of a workload share its seeds."""

ADAM = Suite(OF_ADAM, NO_FAULT, SPIKES[OF_ADAM])

CONSTANT_LR = 1.0
"""At which the first spike of `adam-quadratic` comes some 2,100 steps in."""

SETTLED = 2000
"""Updates of `adam-quadratic` after which its loss should stay where it has fallen to."""

REFLEX = frozenset(("damp", "skip", "clip"))
"""What catches a spike in the step in which it happens."""

SIGMAS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
"""Spreads of the logarithm of made-up norms; those of healthy training are 0.2 to 0.5."""

NUM_NORMS, SPIKE_EVERY, SPIKE_FACTOR = 10_000, 100, 10.0
"""Of one made-up run: norms, steps from spike to spike, and how much larger those are."""


def alarms(result: RunResult) -> set[int]:
    """The steps in which the guard damped, clipped or left out an update."""
    return {int(d["step"]) for d in result.decisions if d["phase"] == "before" and d["action"] in REFLEX}


def entry(suite: Suite, cell: Cell, injected: Collection[int]) -> dict[str, Any]:
    """What came of one suite with one optimizer and one recipe.

    Args:
        suite: which.
        cell: its runs.
        injected: steps at which a spike or a bad batch was injected.
    """
    reached = [{step for step in injected if step < len(result.train_losses)} for result in cell.results]
    raised = [alarms(result) for result in cell.results]
    return {
        "workload": suite.workload,
        "fault": suite.fault,
        "optimizer": cell.optimizer,
        "recipe": cell.recipe,
        "peak_lr": cell.peak_lr,
        **asdict(repetitions(cell)),
        "injected": [len(steps) for steps in reached],
        "caught": [len(steps & found) for steps, found in zip(reached, raised, strict=True)],
        "false_alarms": [len(found - set(injected)) for found in raised],
        "highest_loss": rounded(highest(result) for result in cell.results) if suite == ADAM else None,
    }


def highest(result: RunResult) -> float:
    """The highest training loss after `SETTLED` updates; infinite where one was no number."""
    losses = [loss if math.isfinite(loss) else math.inf for loss in result.train_losses[SETTLED:]]
    return max(losses, default=math.inf)


def measure(lrs: Mapping[tuple[str, str], float], *, seeds: int, jobs: int, output: Path) -> list[dict[str, Any]]:
    """Carry out what is missing of the trained parts, and return an entry for each cell.

    Args:
        lrs: (workload, optimizer) -> peak of the suites.
        seeds: repetitions.
        jobs: processes.
        output: where runs are kept.

    Raises:
        StudyError: some runs failed.
    """
    wanted = [
        (suite, optimizer, recipe, lr)
        for suite in SUITES
        for (workload, optimizer), lr in lrs.items()
        if workload == suite.workload
        for recipe in ("cosine", "cosine+guarded")
    ]
    wanted += [(ADAM, "adamw", recipe, CONSTANT_LR) for recipe in ("constant", "constant+guarded")]
    entries = []
    for suite, optimizer, recipe, lr in wanted:
        folder = StudyFolder(output / suite.folder)
        folder.prepare()
        workload = check_workload(suite.reference)
        runs = [Run(suite.reference, optimizer, recipe, lr, seed, workload.total_steps) for seed in range(seeds)]
        found = folder.complete(runs, jobs=jobs)
        if len(found) < len(runs):
            raise StudyError(f"runs of {suite.folder} failed (tracebacks are in {folder.store.directory})")
        (cell,) = collect_cells(found.values())
        entries.append(entry(suite, cell, getattr(workload, "steps", frozenset())))
        print(f"{suite.folder}, {recipe} with {optimizer}: {fmean(entries[-1]['validation_loss']):.4g}", flush=True)
    return entries


def simulate(sigma: float, *, seeds: int) -> dict[str, Any]:
    """`GradientSpike` over made-up norms of one spread.

    Returns:
        Spikes injected, and those caught in their step: where they are that many times what their norm would have
        been, and where they are that many times the median. Steps without a spike and alarms in them, of the norms
        without spikes and between those of the first kind.
    """
    spikes = np.arange(2 * SPIKE_EVERY, NUM_NORMS, SPIKE_EVERY)
    caught = of_usual = false_beside = false_alone = 0
    for seed in range(seeds):
        norms = np.exp(sigma * np.random.default_rng(seed).standard_normal(NUM_NORMS))
        false_alone += int(flagged(norms).sum())
        disturbed = norms.copy()
        disturbed[spikes] *= SPIKE_FACTOR
        found = flagged(disturbed)
        caught += int(found[spikes].sum())
        usual = norms.copy()
        usual[spikes] = SPIKE_FACTOR
        of_usual += int(flagged(usual)[spikes].sum())
        false_beside += int(found.sum() - found[spikes].sum())
    return {
        "sigma": sigma,
        "injected": seeds * len(spikes),
        "caught": caught,
        "caught_of_usual": of_usual,
        "steps": seeds * NUM_NORMS,
        "false_alarms": false_alone,
        "steps_beside": seeds * (NUM_NORMS - len(spikes)),
        "false_alarms_beside": false_beside,
    }


def flagged(norms: Sequence[float] | NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the law acts within each step, (n,): it damps or leaves out the update."""
    adjustments = GradientSpike().simulate({"grad_norm": float(norm)} for norm in norms)
    return np.array([adjustment.skip or adjustment.damp < 1.0 for adjustment in adjustments])


def main() -> None:
    """Parse the command line, carry out what is missing, write the record and print its tables."""
    arguments = parsed(options("faults", "Spikes and faults.", seeds=10))

    def study() -> list[dict[str, Any]]:
        lrs = tuned_peaks(arguments.record, sorted({suite.workload for suite in SUITES}))
        return measure(lrs, seeds=arguments.seeds, jobs=arguments.jobs, output=arguments.output)

    entries = carried_out("faults", study, arguments.output)
    simulated = [simulate(sigma, seeds=arguments.seeds) for sigma in SIGMAS]
    about = header("faults", arguments.seeds)
    write(arguments.record, arguments.name, about, {"suites": entries, "simulated": simulated}, markdown)


if __name__ == "__main__":
    main()
