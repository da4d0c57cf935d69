"""What the language model gives the paper: `results/byte_gpt.json`, `results/byte_gpt_peers.json` -> numbers, a table.

Its runs take ten times as long as those of the other workloads, so that it has fewer seeds and records of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from adaptive_lr.study.errors import StudyError
from experiments.paper import Part
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, tabular
from experiments.paper.peers import FOOTNOTES, label
from experiments.paper.robustness import pair_of
from experiments.peers import Row
from experiments.peers_tables import FINDS_PEAK, OURS, quality, winners
from experiments.robustness_tables import FACTORS, ratio

NAMES = {"cosine": "cosine", "cosine+guarded": "guarded"}


def part(record: Mapping[str, Any]) -> Part:
    """Automatic control from nine decades, and given peaks, as ratios of test losses.

    Args:
        record: the contents of `results/byte_gpt.json`.
    """
    numbers = {
        "language-model.seeds": str(record["about"]["seeds"]),
        "language-model.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    for pair in map(pair_of, record["pairs"]):
        prefix = f"language-model.{pair.optimizer}"
        (low, high), *_ = pair.intervals["automatic"]
        numbers |= {
            f"{prefix}.tuned": number(pair.tuned.test_loss),
            f"{prefix}.automatic.ratio": number(fmean(ratio(one, pair.tuned) for one in pair.decades["automatic"])),
            f"{prefix}.automatic.low": number(low),
            f"{prefix}.automatic.high": number(high),
        }
        for recipe, name in NAMES.items():
            numbers[f"{prefix}.sensitivity.{name}"] = number(pair.sensitivity[recipe], 2)
            for index, factor in enumerate(FACTORS):
                numbers[f"{prefix}.above-{factor}.{name}"] = number(ratio(pair.above[recipe][index], pair.tuned))
    return Part(numbers)


def peers(record: Mapping[str, Any]) -> Part:
    """All recipes at nine decades of learning rates.

    Args:
        record: the contents of `results/byte_gpt_peers.json`.

    Raises:
        StudyError: it is not of one workload, or one of our own recipes is missing.
    """
    rows = [Row(**entry) for entry in record["rows"]]
    if len({row.workload for row in rows}) != 1:
        raise StudyError("the record of peers on the language model must be of one workload")
    found = {name: {row.recipe: row for row in rows if row.optimizer == name} for name in OPTIMIZERS}
    numbers = {"language-model.peers.seeds": str(record["about"]["seeds"]),
               "language-model.peers.recipes": str(len({row.recipe for row in rows}))}  # fmt: skip
    for optimizer, by_recipe in found.items():
        lacking = [recipe for recipe in ("cosine", *OURS) if recipe not in by_recipe]
        if lacking:
            raise StudyError(f"the record of peers on the language model lacks {', '.join(lacking)} with {optimizer}")
        numbers |= _numbers(f"language-model.peers.{optimizer}", by_recipe)
    return Part(numbers, {"language-model": _table(found)})


def _numbers(prefix: str, rows: Mapping[str, Row]) -> dict[str, str]:
    best = winners(list(rows.values()), quality)
    sensitive = winners([row for row in rows.values() if row.recipe != FINDS_PEAK], lambda row: -row.sensitivity)
    numbers = {
        f"{prefix}.recipes": str(len(rows)),
        f"{prefix}.best": " and ".join(escape(label(recipe)) for recipe in best),
        f"{prefix}.best.loss": number(rows[best[0]].best_loss),
        f"{prefix}.least-sensitive": " and ".join(escape(label(recipe)) for recipe in sensitive),
    }
    for recipe in ("cosine", *OURS):
        better = sum(other.best_loss < rows[recipe].best_loss for other in rows.values())
        numbers[f"{prefix}.{label(recipe)}.loss"] = number(rows[recipe].best_loss)
        numbers[f"{prefix}.{label(recipe)}.rank"] = str(1 + better)
    return numbers


def _table(found: Mapping[str, Mapping[str, Row]]) -> str:
    """A row for each recipe; of each optimizer, empty where it is not for that one."""
    heads = ["", *(["best loss", "sensitivity", "decades", "diverged"] * len(found))]
    rows = []
    for recipe in dict.fromkeys(recipe for by_recipe in found.values() for recipe in by_recipe):
        mark = FOOTNOTES.get(recipe)
        cells = [escape(label(recipe)) + (f"$^{{{mark}}}$" if mark else "")]
        for by_recipe in found.values():
            cells += _cells(by_recipe[recipe]) if recipe in by_recipe else [""] * 4
        rows.append(cells)
    spans = [("", 1), *((OPTIMIZERS[optimizer], 4) for optimizer in found)]
    return tabular("l" + "r" * (len(heads) - 1), heads, rows, spans=spans)


def _cells(row: Row) -> list[str]:
    decades = "--" if row.decades is None else f"{row.decades:g}"
    return [f"${row.best_loss:.3f}$", f"${row.sensitivity:.2f}$", decades, percent(row.diverged)]
