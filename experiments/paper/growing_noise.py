"""What the study of growing noise gives the paper: `results/growing_noise.json` -> numbers."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from adaptive_lr.study.recipe import find_recipe
from adaptive_lr.study.statistics import paired_difference
from experiments.growing_noise import PAIRS, SmallBatches, WrongLabels
from experiments.paper import Part
from experiments.paper.latex import signed

NAMES = {SmallBatches.name: "batches", WrongLabels.name: "labels"}
"""What becomes noisy, in names of numbers."""

WHERE = ("alone", "guarded")
"""Beside which laws `LossVariance` was tried, for each of `PAIRS`."""


def part(record: Mapping[str, Any]) -> Part:
    """The change of the final validation loss by `LossVariance`.

    Args:
        record: the contents of `results/growing_noise.json`.
    """
    numbers = {
        "growing-noise.seeds": str(record["about"]["seeds"]),
        "growing-noise.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    for entry in record["pairs"]:
        for where, pair in zip(WHERE, PAIRS, strict=True):
            treated, control = (entry["recipes"][find_recipe(name).name]["validation_loss"] for name in pair)
            mean, low, high, _ = paired_difference(treated, control)
            level, prefix = fmean(control), f"growing-noise.{NAMES[entry['workload']]}.{entry['optimizer']}.{where}"
            numbers |= {
                f"{prefix}.change": signed(mean / level),
                f"{prefix}.low": signed(low / level),
                f"{prefix}.high": signed(high / level),
            }
    return Part(numbers)
