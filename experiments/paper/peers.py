"""What the comparison with peers gives the paper: `results/peers.json` -> numbers, a table, a figure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, median_high, median_low
from typing import TYPE_CHECKING, Any

from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.figures.style import BLUE, PAGE, VERMILION, legend_above, new_figure
from experiments.paper import Part
from experiments.paper.drawing import pdf, styled
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, tabular
from experiments.peers import Row
from experiments.peers_tables import MEASURES, OURS, by_place, by_workload, median_decades, quality, winners

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOOTNOTES = {"prodigy": "*", "momo": r"\dagger"}
"""Recipes to which a learning rate means another thing -> their mark, which the caption explains."""

MARKS = {"prodigy": "*", "momo": "†"}
"""The same in the figure."""

LOOKS = {"cosine+guarded": (BLUE, "s"), "automatic": (VERMILION, "D")}
"""Colour and marker of our own recipes."""

NONE = -2.0
"""Where a recipe stands that has no learning rate within a point of the best."""

GAPS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Where the axis of gaps may be marked."""

KINDS = dict(zip(("sensitive", "best", "wide"), MEASURES, strict=True))
"""How the measures are called in names of numbers."""


@dataclass(frozen=True)
class PeerResult:
    """One recipe with one optimizer, over workloads.

    Attributes:
        recipe: a name.
        sensitivities: learning-rate sensitivity on each workload, over that of `cosine` there.
        gaps: what its best accuracy is short of the best of all recipes, in points, on each workload that has one.
        decades: the widest stretch of nearly best learning rates on each workload, or None where it has none.
        diverged: share of its runs.
        won: kind of measure -> on how many workloads it is the best, ties included.
        rank: median over workloads of its place by what it reaches at its best learning rate.
    """

    recipe: str
    sensitivities: Mapping[str, float]
    gaps: Mapping[str, float]
    decades: Mapping[str, float | None]
    diverged: float
    won: Mapping[str, int]
    rank: float


def part(record: Mapping[str, Any]) -> Part:
    """All of it.

    Args:
        record: the contents of `results/peers.json`; but for `cosine`, it may be of any recipes and workloads.

    Raises:
        StudyError: `cosine`, which others are compared with, is missing somewhere.
    """
    rows = [Row(**entry) for entry in record["rows"]]
    without = [" with ".join(place) for place, group in by_place(rows).items()
               if all(row.recipe != "cosine" for row in group)]  # fmt: skip
    if without:
        raise StudyError(f"the record of peers lacks cosine, which others are compared with, on {', '.join(without)}")
    found = {name: peer_results([row for row in rows if row.optimizer == name]) for name in OPTIMIZERS}
    places = by_place(rows)
    numbers = {
        "peers.seeds": str(record["about"]["seeds"]),
        "peers.recipes": str(len({row.recipe for row in rows})),
        "peers.workloads": str(len({row.workload for row in rows})),
        "peers.pairs": str(len(places)),
    }
    for kind, words in KINDS.items():
        first = [winners(group, MEASURES[words]) for group in places.values()]
        known = [names for names in first if names]
        numbers[f"peers.{kind}.known"] = str(len(known))
        numbers[f"peers.{kind}.by-peer"] = str(sum(not set(names) & set(OURS) for names in known))
        numbers[f"peers.{kind}.most-often"] = _most_often(known)
    for optimizer, of_one in found.items():
        for result in of_one:
            numbers |= _numbers(f"peers.{optimizer}.{label(result.recipe).replace(' ', '-')}", result, rows)
    return Part(numbers, {"peers": _table(found)}, {"peers.pdf": _figure(found)})


def peer_results(rows: Sequence[Row]) -> list[PeerResult]:
    """Of every recipe with one optimizer, in the order of the record; sensitivities are relative to `cosine`."""
    groups = by_workload(rows)
    top = {name: max(map(quality, group)) for name, group in groups.items()}
    first = {name: {kind: winners(group, MEASURES[words]) for kind, words in KINDS.items()}
             for name, group in groups.items()}  # fmt: skip
    fixed = {row.workload: row.sensitivity for row in rows if row.recipe == "cosine"}
    found = []
    for recipe in dict.fromkeys(row.recipe for row in rows):
        own = [row for row in rows if row.recipe == recipe]
        ranks = [1 + sum(quality(other) > quality(row) for other in groups[row.workload]) for row in own]
        found.append(
            PeerResult(
                recipe=recipe,
                sensitivities={row.workload: row.sensitivity / fixed[row.workload] for row in own},
                gaps={r.workload: 100.0 * (top[r.workload] - r.best_accuracy)
                      for r in own if r.best_accuracy is not None},
                decades={row.workload: row.decades for row in own},
                diverged=sum(row.diverged * row.runs for row in own) / sum(row.runs for row in own),
                won={kind: sum(recipe in first[row.workload][kind] for row in own) for kind in KINDS},
                rank=median(ranks),
            )
        )  # fmt: skip
    return found


def label(recipe: str) -> str:
    """How a recipe is called."""
    return {"cosine+guarded": "guarded"}.get(recipe, recipe)


def _most_often(first: Sequence[Sequence[str]]) -> str:
    """The recipes that are first most often, with how often."""
    counts = Counter(recipe for names in first for recipe in names)
    most = max(counts.values(), default=0)
    names = [escape(label(recipe)) for recipe, count in counts.items() if count == most]
    return f"{' and '.join(names)} ({most})" if names else "none"


def _numbers(prefix: str, result: PeerResult, rows: Sequence[Row]) -> dict[str, str]:
    optimizer = prefix.split(".")[1]
    own = [row for row in rows if (row.recipe, row.optimizer) == (result.recipe, optimizer)]
    decades = median_decades(own)
    return {
        f"{prefix}.workloads": str(len(own)),
        f"{prefix}.sensitivity": number(median(row.sensitivity for row in own), 2),
        f"{prefix}.sensitivity.ratio": number(median(result.sensitivities.values()), 2),
        **({f"{prefix}.gap": _points(median(result.gaps.values())),
            f"{prefix}.worst-gap": _points(max(result.gaps.values()))} if result.gaps else {}),
        f"{prefix}.rank": f"{result.rank:g}",
        f"{prefix}.decades": "none" if decades is None else f"{decades:g}",
        f"{prefix}.within": str(sum(value is not None for value in result.decades.values())),
        f"{prefix}.diverged": percent(result.diverged),
        **{f"{prefix}.won.{kind}": str(count) for kind, count in result.won.items()},
    }  # fmt: skip


def _points(value: float) -> str:
    return f"${value + 0.0:.1f}$"


def _table(found: Mapping[str, Sequence[PeerResult]]) -> str:
    heads = ["", "sensitivity", "gap", "rank", "decades", "within", "diverged", "sensitive", "best", "wide"]
    rows = []
    for optimizer, of_one in found.items():
        most = max((len(result.decades) for result in of_one), default=0)
        rows.append([rf"\emph{{{OPTIMIZERS[optimizer]}, {most} workloads}}", *[""] * (len(heads) - 1)])
        for result in of_one:
            mark = FOOTNOTES.get(result.recipe)
            decades = sorted(-math.inf if value is None else value for value in result.decades.values())
            middle = median(decades)
            rows.append(
                [
                    rf"\quad {escape(label(result.recipe))}" + (f"$^{{{mark}}}$" if mark else ""),
                    f"${median(result.sensitivities.values()):.2f}$",
                    _points(median(result.gaps.values())) if result.gaps else "",
                    f"{result.rank:g}",
                    f"{middle:g}" if math.isfinite(middle) else "--",
                    f"{sum(math.isfinite(value) for value in decades)} of {len(decades)}",
                    percent(result.diverged),
                    *(str(result.won[kind]) for kind in KINDS),
                ]
            )
    return tabular("l" + "r" * (len(heads) - 1), heads, rows, spans=(("", 1), ("median", 4), ("", 2), ("first in", 3)))


def _figure(found: Mapping[str, Sequence[PeerResult]]) -> bytes:
    """A row of panels for each optimizer, a line for each recipe: every workload as a dot, the median as a bar."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullLocator

    most = max(len(of_one) for of_one in found.values())
    columns = ("sensitivity over cosine's", "gap at the best LR, points", "decades within a point", "diverged, %")
    with styled():
        figure = new_figure(PAGE, 0.75 + len(found) * (0.35 + 0.165 * most))
        panels = figure.subplots(len(found), len(columns), squeeze=False, sharex="col",
                                 width_ratios=(1.2, 1.2, 1.0, 0.8))  # fmt: skip
        for row, (optimizer, of_one) in enumerate(found.items()):
            for place, result in enumerate(of_one):
                colour, marker = LOOKS.get(result.recipe, ("0.25", "o"))
                decades = [NONE if value is None else value for value in result.decades.values()]
                for axes, values in zip(
                    panels[row], (result.sensitivities.values(), result.gaps.values(), decades), strict=False
                ):
                    _line(axes, place, list(values), colour, marker)
                panels[row][3].barh(place, 100.0 * result.diverged, height=0.6, color=colour, linewidth=0.0)
            for column, axes in enumerate(panels[row]):
                axes.set_ylim(len(of_one) - 0.4, -0.6)
                axes.set_yticks(range(len(of_one)))
                axes.tick_params(axis="y", length=0, labelleft=column == 0)
                axes.grid(True, axis="x")
                if row == len(found) - 1:
                    axes.set_xlabel(columns[column])
            panels[row][0].set_yticklabels([label(result.recipe) + MARKS.get(result.recipe, "") for result in of_one])
            for text, result in zip(panels[row][0].get_yticklabels(), of_one, strict=True):
                text.set_fontweight("bold" if result.recipe in OURS else "normal")
            panels[row][0].set_title(OPTIMIZERS[optimizer], loc="left")
            panels[row][0].axvline(1.0, color="0.35", linestyle=":", linewidth=1.0, zorder=1)
        panels[0][1].set_xscale("symlog", linthresh=1.0, linscale=0.8)
        panels[0][0].set_xlim(-0.05, None)
        panels[0][1].set_xlim(-0.1, None)
        widest = max((gap for of_one in found.values() for one in of_one for gap in one.gaps.values()), default=1.0)
        panels[0][1].set_xticks([mark for mark in GAPS if mark <= max(1.0, widest)])
        panels[0][1].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panels[0][1].xaxis.set_minor_locator(NullLocator())
        panels[0][2].set_xticks([NONE, *range(9)], ["none", *(str(n) if n % 2 == 0 else "" for n in range(9))])
        panels[0][3].set_xlim(0.0, None)
        handles = [
            Line2D([], [], linestyle="none", marker="o", color="0.6", markersize=3.0, label="a workload"),
            Line2D([], [], linestyle="none", marker="|", color="0.25", markersize=9.0, markeredgewidth=1.8,
                   label="median"),
        ]  # fmt: skip
        legend_above(figure, handles, num_columns=2)
        return pdf(figure)


def _line(axes: Axes, place: int, values: Sequence[float], colour: str, marker: str) -> None:
    if values:
        below = NONE in (median_low(values), median_high(values))  # it lies between none and a number: none
        axes.plot(values, [place] * len(values), linestyle="none", marker=marker, markersize=2.6, color=colour,
                  alpha=0.45, markeredgewidth=0.0, zorder=2)  # fmt: skip
        middle = NONE if below else median(values)
        axes.plot([middle], [place], linestyle="none", marker="|", markersize=8.0, markeredgewidth=1.8,
                  color=colour, zorder=3)  # fmt: skip
