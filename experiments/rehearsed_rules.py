"""Rules that find the peak of longer runs, judged on recorded sweeps and rehearsals; a part of `experiments.horizons`.

Rehearsals are recorded once, at half-decades, from the first weights: then every rule that chooses among them is judged
without training anything, by what a cosine does at the peak it names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from adaptive_lr.controllers import RangeTest
from adaptive_lr.controllers.rehearsal import OFFSETS, SHARE, Rehearsals
from adaptive_lr.snapshot import Snapshot
from adaptive_lr.study.recipe import find_optimizer
from adaptive_lr.study.run import derive_seed
from adaptive_lr.study.workload import load_workload, trainable
from experiments.peak_rule_table import Truth, judged
from experiments.peak_rules import record_sweep
from experiments.recorded_sweep import Sweep, by_ratio, size
from experiments.workloads import TUNING

HALF_DECADES = range(-9, 3)
"""Peaks of the recorded rehearsals."""

SWEPT = 40
"""Batches that the sweep has used up."""

LARGEST_LOSS = 1e6


@dataclass(frozen=True)
class Recorded:
    """What a run would have seen.

    Attributes:
        sweep: the recorded sweep, with the horizon of the run.
        losses: half-decade -> the mean of the last third of a rehearsal's losses.
    """

    sweep: Sweep
    losses: Mapping[int, float]

    def loss(self, peak: float) -> float:
        """Of a rehearsal at a peak (log10), interpolated."""
        return float(np.interp(2.0 * peak, list(self.losses), list(self.losses.values())))


Rule = Callable[[Recorded], float]

_measured = by_ratio(RangeTest().size, size, weight=RangeTest().usual_weight)


def by_sweep(exponent: float = 0.5) -> Rule:
    """The law without rehearsals, with the ratio lowered by another power of the length."""

    def rule(seen: Recorded) -> float:
        return _measured(replace(seen.sweep, steps=round(300.0 * (seen.sweep.steps / 300.0) ** (2.0 * exponent))))

    return rule


def by_rehearsal(drift: float, *, offsets: tuple[float, ...] = OFFSETS, weight: float = 1.0) -> Rule:
    """Rehearsals around the peak measured.

    Args:
        drift: power of the ratio of lengths by which their peaks lie above the run's.
        offsets: decades around it.
        weight: 1: the best of them; less: a geometric mean of that and of what was measured.
    """

    def rule(seen: Recorded) -> float:
        measured = _measured(seen.sweep)
        middle = measured - drift * math.log10(SHARE)
        losses = [seen.loss(middle + offset) for offset in offsets]
        best = min(range(len(offsets)), key=losses.__getitem__)
        if 0 < best < len(offsets) - 1:
            decades = offsets[best] + Rehearsals(losses=tuple(losses[best - 1 : best + 2])).decades()
        else:
            decades = offsets[best]
        return measured + weight * decades

    return rule


FIVE = (-1.0, *OFFSETS, 1.0)

RULES: dict[str, Rule] = {
    "the sweep alone (the law of shorter runs)": by_sweep(),
    **{f"the sweep alone, length to the power {power}": by_sweep(power) for power in (0.25, 0.35)},
    **{f"3 rehearsals, drift {drift}": by_rehearsal(drift) for drift in (0.15, 0.25, 0.3, 0.4, 0.5, 0.6)},
    **{f"5 rehearsals, drift {drift}": by_rehearsal(drift, offsets=FIVE) for drift in (0.25, 0.5)},
    **{f"3 rehearsals, drift {drift}, half way": by_rehearsal(drift, weight=0.5) for drift in (0.15, 0.25, 0.5)},
}
"""Name -> rule: log10 of the peak it names."""


def rehearse(name: str, optimizer: str, seed: int, length: int) -> list[list[float]]:
    """The losses of rehearsals at `HALF_DECADES`, each from the first weights and on the batches that come."""
    workload = load_workload(TUNING[name])
    torch.set_num_threads(1)
    weights = derive_seed(workload.name, seed, "weights")
    torch.manual_seed(weights)
    model = workload.build_model(weights)
    torch.manual_seed(weights)
    trained = find_optimizer(optimizer).build(trainable(workload, model, 1.0), 1.0)
    shares = [group["lr"] for group in trained.param_groups]
    batches = workload.batches(derive_seed(workload.name, seed, "batches"))
    for _ in range(SWEPT):
        next(batches)
    snapshot = Snapshot(trained, model)
    found = []
    for half in HALF_DECADES:
        losses = []
        for position in range(length):
            level = Rehearsals(length, 10.0 ** (half / 2 - OFFSETS[0]), position).level
            for group, share in zip(trained.param_groups, shares, strict=True):
                group["lr"] = level * share
            loss = workload.loss(model, next(batches))
            trained.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            trained.step()
            losses.append(loss.item())
        snapshot.put_back(trained, model)
        found.append(losses)
    return found


def recorded(name: str, optimizer: str, seed: int, steps: int, folder: Path) -> Recorded:
    """Sweep and rehearsals, from disk where they are there."""
    sweep = record_sweep(name, optimizer, seed, folder / "sweeps")
    length = int(SHARE * steps)
    path = folder / "rehearsals" / f"{name}-{optimizer}-{seed}-{length}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rehearse(name, optimizer, seed, length)))
    tails = [losses[-(length // 3) :] for losses in json.loads(path.read_text())]
    means = [min(fmean(tail), LARGEST_LOSS) if all(map(math.isfinite, tail)) else LARGEST_LOSS for tail in tails]
    return Recorded(replace(sweep, steps=steps), dict(zip(HALF_DECADES, means, strict=True)))


def truth(entry: Mapping[str, Any]) -> Truth:
    """What a cosine does over peaks on the seeds for tuning, from an entry of the record."""
    cosine = entry["tuning"]
    columns = [tuple(one[name] for one in cosine) for name in ("validation_loss", "test_loss", "test_accuracy")]
    accuracy = None if None in columns[2] else columns[2]
    return Truth(tuple(math.log10(one["lr"]) for one in cosine), columns[0], columns[1], accuracy)


def judged_rules(entries: Iterable[Mapping[str, Any]], seeds: int, folder: Path) -> list[dict[str, Any]]:
    """An entry for each rule and length: see `experiments.peak_rule_table.judged`.

    Args:
        entries: of the record.
        seeds: sweeps and rehearsals of each pair.
        folder: where those are kept.
    """
    given = list(entries)
    found = []
    for steps in dict.fromkeys(entry["steps"] for entry in given):
        own = {(entry["workload"], entry["optimizer"]): entry for entry in given if entry["steps"] == steps}
        truths = {pair: truth(entry) for pair, entry in own.items()}
        seen = {pair: [recorded(*pair, seed, steps, folder) for seed in range(seeds)] for pair in own}
        for name, rule in RULES.items():
            found.append({"steps": steps, "rule": name, **judged(rule, truths, seen)})  # type: ignore[arg-type]
    return found
