"""What the study of data that change gives the paper: `results/changing_data.json` -> numbers."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from adaptive_lr.study.statistics import paired_difference
from experiments.changing_data import GUARDED, PLAIN, NoisierImages, PermutedPixels
from experiments.paper import Part
from experiments.paper.latex import signed

NAMES = {PermutedPixels.name: "permuted", NoisierImages.name: "noisier"}
"""What changes, in names of numbers."""


def part(record: Mapping[str, Any]) -> Part:
    """The change of the final validation loss by guarded control.

    Args:
        record: the contents of `results/changing_data.json`.
    """
    numbers = {
        "changing-data.seeds": str(record["about"]["seeds"]),
        "changing-data.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    for entry in record["pairs"]:
        guarded, plain = (entry["recipes"][name]["validation_loss"] for name in (GUARDED, PLAIN))
        mean, low, high, _ = paired_difference(guarded, plain)
        prefix, level = f"changing-data.{NAMES[entry['workload']]}.{entry['optimizer']}", fmean(plain)
        numbers |= {
            f"{prefix}.change": signed(mean / level),
            f"{prefix}.low": signed(low / level),
            f"{prefix}.high": signed(high / level),
        }
    return Part(numbers)
