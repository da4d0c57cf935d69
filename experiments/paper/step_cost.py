"""What the cost of a step gives the paper: `results/step_cost.json` -> numbers, a table."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from experiments.paper import Part
from experiments.paper.cost import time
from experiments.paper.latex import OPTIMIZERS, escape, tabular
from experiments.paper.peers import label
from experiments.step_cost import BASE, quartiles


def part(record: Mapping[str, Any]) -> Part:
    """Times of a training step over that under a cosine.

    Args:
        record: the contents of `results/step_cost.json`.
    """
    rows = {(row["recipe"], row["optimizer"]): row for row in record["rows"]}
    numbers = {"step-cost.rounds": str(record["about"]["rounds"])}
    for (recipe, optimizer), found in rows.items():
        name = f"step-cost.{optimizer}.{label(recipe)}"
        low, middle, high = (f"${value:.2f}$" for value in quartiles(found))
        numbers |= {f"{name}.ratio": middle, f"{name}.low": low, f"{name}.high": high}
        if recipe == BASE:
            numbers[f"{name}.time"] = time(median(found["seconds"]))
    cells = []
    for recipe in dict.fromkeys(recipe for recipe, _ in rows):
        line = [escape(label(recipe))]
        for optimizer in OPTIMIZERS:
            row = rows.get((recipe, optimizer))
            low, middle, high = ("",) * 3 if row is None else (f"${value:.2f}$" for value in quartiles(row))
            line += [middle, f"{low} to {high}" if row else ""]
        cells.append(line)
    heads = ["", *(["ratio", "quartiles"] * len(OPTIMIZERS))]
    spans = [("", 1), *((name, 2) for name in OPTIMIZERS.values())]
    return Part(numbers, {"step-cost": tabular("l" + "rr" * len(OPTIMIZERS), heads, cells, spans=spans)})
