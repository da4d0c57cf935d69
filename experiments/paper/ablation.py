"""What the ablation gives the paper: `results/ablation.json` -> numbers, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptive_lr.study.figures.style import BLUE, COLUMN, VERMILION, legend_above, new_figure
from experiments.ablation_tables import FACTORS, Score, scores
from experiments.paper import Part
from experiments.paper.drawing import pdf, styled
from experiments.paper.latex import escape, number, points, tabular

LOOKS = {"1": ("0.45", "o"), "10": (BLUE, "s"), "30": (VERMILION, "D")}


def part(record: Mapping[str, Any]) -> Part:
    """All of it.

    Args:
        record: the contents of `results/ablation.json`.
    """
    found = scores(record)
    numbers = {
        "ablation.seeds": str(record["about"]["seeds"]),
        "ablation.pairs": str(len(record["pairs"])),
        "ablation.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    for recipe, by_factor in found.items():
        name = label(recipe).replace(" ", "-")
        for factor, score in by_factor.items():
            prefix = f"ablation.{name}.above-{factor}"
            numbers[f"{prefix}.within"] = str(score.within)
            numbers[f"{prefix}.loss-ratio"] = number(score.loss_ratio)
            numbers[f"{prefix}.gap"] = points(score.gap)
    return Part(numbers, {"ablation": _table(found)}, {"ablation.pdf": _figure(found, len(record["pairs"]))})


def label(recipe: str) -> str:
    """How a recipe is called."""
    return {"cosine+guarded": "guarded"}.get(recipe, recipe.replace("_", " "))


def _table(found: Mapping[str, Mapping[str, Score]]) -> str:
    heads = ["", *(["within", "loss", "gap"] * len(FACTORS))]
    rows = [
        [
            escape(label(recipe)),
            *(
                text
                for score in by_factor.values()
                for text in (str(score.within), number(score.loss_ratio), points(score.gap))
            ),
        ]
        for recipe, by_factor in found.items()
    ]
    spans = (("", 1), *((rf"$\times{factor}$", 3) for factor in FACTORS))
    return tabular("l" + "rrr" * len(FACTORS), heads, rows, spans=spans)


def _figure(found: Mapping[str, Mapping[str, Score]], pairs: int) -> bytes:
    """The mean loss, relative to the tuned schedule's, of every recipe at every multiple of the tuned peak."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    with styled():
        figure = new_figure(COLUMN, 1.05 + 0.19 * len(found))
        axes = figure.subplots()
        handles = []
        for factor in reversed(FACTORS):
            colour, marker = LOOKS[factor]
            ratios = [by_factor[factor].loss_ratio for by_factor in found.values()]
            look = {"linestyle": "none", "color": colour, "marker": marker, "markersize": 5.0}
            look |= {"markeredgecolor": "white", "markeredgewidth": 0.4, "label": f"{factor} × tuned"}
            handles += axes.plot(ratios, range(len(found)), **look)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        highest = max(score.loss_ratio for by_factor in found.values() for score in by_factor.values())
        axes.xaxis.set_major_locator(FixedLocator([mark for mark in MARKS if mark <= 1.3 * highest]))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
        axes.axvline(1.0, color="0.25", linewidth=0.8, zorder=1)
        axes.set_yticks(range(len(found)), [label(recipe) for recipe in found])
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlabel(f"loss over the tuned one's,\ngeometric mean of {pairs} pairs")
        axes.grid(True)
        legend_above(figure, reversed(handles), num_columns=3)
        return pdf(figure)


MARKS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Where the axis of loss ratios may be marked."""
