"""What the robustness study gives the paper: `results/robustness.json` -> numbers, tables, a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from adaptive_lr.study.figures.style import BLUE, PAGE, VERMILION, new_figure
from experiments.paper import Part
from experiments.paper.drawing import pdf, styled
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, points, tabular
from experiments.robustness import Outcome, Pair
from experiments.robustness_tables import FACTORS, gaps, ratio

LOOKS: Mapping[str, dict[str, Any]] = {
    "cosine": {"color": "0.25", "linestyle": (0, (3.0, 1.6)), "linewidth": 1.0, "marker": "o", "markersize": 2.2},
    "cosine+guarded": {"color": BLUE, "linewidth": 1.6, "marker": "o", "markersize": 3.0},
    "automatic": {"color": VERMILION, "linewidth": 1.6, "marker": "D", "markersize": 2.6},
}
SMALL: Mapping[str, Any] = {
    "font.size": 6.5, "axes.titlesize": 7.0, "axes.labelsize": 7.0, "xtick.labelsize": 6.0, "ytick.labelsize": 6.0,
    "legend.fontsize": 7.5, "figure.constrained_layout.use": False,
}  # fmt: skip
"""For many small panels, whose places are given: laying them out takes as long as drawing them."""

LABELS = {"cosine": "cosine", "cosine+guarded": "the same, guarded", "automatic": "automatic"}


def part(record: Mapping[str, Any]) -> Part:
    """All of it.

    Args:
        record: the contents of `results/robustness.json`.
    """
    pairs = [pair_of(entry) for entry in record["pairs"]]
    numbers = {
        "robustness.seeds": str(record["about"]["seeds"]),
        "robustness.workloads": str(len({pair.workload for pair in pairs})),
        "robustness.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    functions = [
        fmean(ratio(o, p.tuned) for o in p.decades["automatic"]) for p in pairs if p.tuned.test_accuracy is None
    ]
    if functions:
        numbers |= {"robustness.functions.least-ratio": number(min(functions), 2),
                    "robustness.functions.most-ratio": number(max(functions), 2)}  # fmt: skip
    for name in OPTIMIZERS:
        numbers |= _numbers(name, [pair for pair in pairs if pair.optimizer == name])
    return Part(
        numbers,
        {"any-lr": _any_lr(pairs), "too-large": _too_large(pairs)},
        {"any-lr.pdf": _figure(pairs)},
    )


def pair_of(entry: Mapping[str, Any]) -> Pair:
    """A pair, from its entry in the record."""
    outcomes = {
        part: {recipe: [Outcome(**o) for o in found] for recipe, found in entry[part].items()}
        for part in ("decades", "above")
    }
    return Pair(**{**entry, **outcomes, "tuned": Outcome(**entry["tuned"])})


def _numbers(optimizer: str, pairs: Sequence[Pair]) -> dict[str, str]:
    scored = {p.workload: gaps(p.decades["automatic"], p.tuned)[0] for p in pairs if p.tuned.test_accuracy is not None}
    above = {
        p.workload: {r: gaps(p.above[r], p.tuned)[0] for r in ("cosine", "cosine+guarded")}
        for p in pairs
        if p.tuned.test_accuracy is not None
    }
    worst = max(scored, key=lambda name: max(scored[name]))
    prefix = f"robustness.{optimizer}"
    numbers = {
        f"{prefix}.pairs": str(len(scored)),
        f"{prefix}.within-one": str(sum(max(values) <= 1.0 for values in scored.values())),
        f"{prefix}.median-gap": points(median(map(fmean, scored.values()))),
        f"{prefix}.worst-gap": points(max(scored[worst])),
        f"{prefix}.worst-workload": escape(worst),
        f"{prefix}.loss-ratio": number(median(fmean(ratio(o, p.tuned) for o in p.decades["automatic"]) for p in pairs)),
    }
    for recipe, name in (("cosine", "cosine"), ("cosine+guarded", "guarded"), ("automatic", "automatic")):
        numbers[f"{prefix}.sensitivity.{name}"] = number(
            median(p.sensitivity[recipe] for p in pairs if p.tuned.test_accuracy is not None), 2
        )
    for index, factor in enumerate(FACTORS):
        for recipe, name in (("cosine", "cosine"), ("cosine+guarded", "guarded")):
            lost = [above[workload][recipe][index] for workload in above]
            numbers[f"{prefix}.above-{factor}.{name}.within-one"] = str(sum(value <= 1.0 for value in lost))
            numbers[f"{prefix}.above-{factor}.{name}.worst"] = points(max(lost))
    return numbers


def _any_lr(pairs: Sequence[Pair]) -> str:
    heads = [
        "workload",
        "optimizer",
        "tuned",
        "gap",
        r"95\,\% interval",
        "loss ratio",
        "cosine",
        "guarded",
        "automatic",
    ]
    rows = []
    for pair in pairs:
        outcomes, tuned = pair.decades["automatic"], pair.tuned
        values, _ = gaps(outcomes, tuned)
        scored = tuned.test_accuracy is not None
        write = points if scored else lambda value: number(value) + r"$\times$"
        rows.append(
            [
                escape(pair.workload) if pair.optimizer == "sgd" else "",
                OPTIMIZERS[pair.optimizer],
                percent(tuned.test_accuracy) if tuned.test_accuracy is not None else number(tuned.test_loss),
                write(fmean(values)),
                " to ".join(map(write, pair.intervals["automatic"][0])) if pair.intervals else "",
                number(fmean(ratio(outcome, tuned) for outcome in outcomes)),
                *(number(value, 2) for value in pair.sensitivity.values()),
            ]
        )
    return tabular("ll" + "r" * 7, heads, rows, spans=(("", 6), ("LR sensitivity", 3)))


def _too_large(pairs: Sequence[Pair]) -> str:
    heads = ["workload", "optimizer", *(rf"$\times{factor}$" for factor in (*FACTORS[1:], *FACTORS))]
    rows = []
    for pair in pairs:
        write = points if pair.tuned.test_accuracy is not None else lambda value: number(value) + r"$\times$"
        fixed, _ = gaps(pair.above["cosine"], pair.tuned)
        guarded, _ = gaps(pair.above["cosine+guarded"], pair.tuned)
        first = escape(pair.workload) if pair.optimizer == "sgd" else ""
        rows.append([first, OPTIMIZERS[pair.optimizer], *map(write, fixed[1:]), *map(write, guarded)])
    return tabular("ll" + "r" * 7, heads, rows, spans=(("", 2), ("cosine", 3), ("guarded", 4)))


def _figure(pairs: Sequence[Pair]) -> bytes:
    """Test error (or loss) against the learning rate given: a panel for each workload, a row for each optimizer."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullFormatter, NullLocator

    names = list(dict.fromkeys(pair.workload for pair in pairs))
    per_row = -(-len(names) // 2)
    found = {(pair.workload, pair.optimizer): pair for pair in pairs}
    with styled(SMALL):
        figure = new_figure(PAGE, 6.4)
        panels = figure.subplots(4, per_row, squeeze=False)
        figure.subplots_adjust(left=0.085, right=0.995, bottom=0.06, top=0.915, wspace=0.42, hspace=0.36)
        for index, axes in enumerate(panels.flat):
            row, column = divmod(index, per_row)
            place = per_row * (row // 2) + column
            in_row = names[per_row * (row // 2) :][:per_row]
            optimizer = list(OPTIMIZERS)[row % 2]
            pair = found.get((names[place], optimizer)) if place < len(names) else None
            if pair is None:
                axes.set_visible(False)
                continue
            curves = {recipe: _curve(outcomes) for recipe, outcomes in pair.decades.items()}
            ((_, level),) = _curve([pair.tuned])
            for recipe, points_of_one in curves.items():
                axes.plot(*zip(*points_of_one, strict=True), **LOOKS[recipe])
            axes.axhline(level, color="0.5", linewidth=0.7, linestyle=":")
            axes.set(xscale="log", yscale="log")
            lrs, values = zip(*(point for curve in curves.values() for point in curve), strict=True)
            axes.xaxis.set_major_locator(FixedLocator(_decades(min(lrs), max(lrs), (1.0,), most=4)))
            axes.yaxis.set_major_locator(FixedLocator(_decades(min(*values, level), max(values), (1.0, 3.0), most=5)))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
                axis.set_minor_formatter(NullFormatter())
            axes.grid(True)
            if row % 2 == 0:
                axes.set_title(names[place] + ("" if pair.tuned.test_accuracy is not None else " (loss)"))
            if column == 0:
                axes.set_ylabel(f"{OPTIMIZERS[optimizer]}\n{_what([found.get((n, optimizer)) for n in in_row])}")
        handles = [Line2D([], [], label=LABELS[recipe], **look) for recipe, look in LOOKS.items()]
        handles.append(Line2D([], [], color="0.5", linewidth=0.7, linestyle=":", label="cosine, tuned"))
        figure.legend(handles=handles, loc="upper center", ncols=4)
        figure.supxlabel("learning rate given", fontsize=7.5, y=0.005)
        return pdf(figure)


def _what(pairs: Sequence[Pair | None]) -> str:
    """What the panels of a row show; of which a loss is drawn, their titles say."""
    scored = {pair.tuned.test_accuracy is not None for pair in pairs if pair is not None}
    return "test error, %" if scored == {True} else "test loss" if scored == {False} else "test error, % (or loss)"


def _curve(outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
    """(learning rate, test error in percent, or test loss where there is no accuracy)."""
    return [
        (one.lr, one.test_loss if one.test_accuracy is None else 100.0 * (1.0 - one.test_accuracy)) for one in outcomes
    ]


def _decades(low: float, high: float, leading: Sequence[float], *, most: int) -> list[float]:
    """Round numbers from `low` to `high` (a little beyond, that there are some), thinned out to so many at most."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    marks = [lead * 10.0**exponent for exponent in exponents for lead in leading]
    inside = [mark for mark in marks if low / 1.1 <= mark <= high * 1.1]
    return inside[:: -(-len(inside) // most)] if inside else []
