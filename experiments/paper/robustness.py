"""What the robustness study gives the paper: `results/robustness.json` -> numbers, tables, a figure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from adaptive_lr.study.figure import STYLE
from experiments.paper import Part
from experiments.paper.latex import escape, number, percent, points, tabular
from experiments.robustness import Outcome, Pair
from experiments.robustness_tables import FACTORS, gaps, ratio

OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}

LOOKS: Mapping[str, dict[str, Any]] = {
    "cosine": {"color": "0.25", "linestyle": (0, (3.0, 1.6)), "linewidth": 1.0, "marker": "o", "markersize": 2.2},
    "cosine+guarded": {"color": "#0072B2", "linewidth": 1.6, "marker": "o", "markersize": 3.0},
    "automatic": {"color": "#D55E00", "linewidth": 1.6, "marker": "D", "markersize": 2.6},
}
LABELS = {"cosine": "cosine", "cosine+guarded": "the same, guarded", "automatic": "automatic"}


def part(record: Mapping[str, Any]) -> Part:
    """All of it.

    Args:
        record: the contents of `results/robustness.json`.
    """
    pairs = [_pair(entry) for entry in record["pairs"]]
    numbers = {
        "robustness.seeds": str(record["about"]["seeds"]),
        "robustness.workloads": str(len({pair.workload for pair in pairs})),
        "robustness.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    for name in OPTIMIZERS:
        numbers |= _numbers(name, [pair for pair in pairs if pair.optimizer == name])
    return Part(
        numbers,
        {"any-lr": _any_lr(pairs), "too-large": _too_large(pairs)},
        {"any-lr.pdf": _figure(pairs)},
    )


def _pair(entry: Mapping[str, Any]) -> Pair:
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
    heads = ["workload", "optimizer", "tuned", "mean", "worst", "loss ratio", "cosine", "guarded", "automatic"]
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
                write(max(values)),
                number(fmean(ratio(outcome, tuned) for outcome in outcomes)),
                *(number(value, 2) for value in pair.sensitivity.values()),
            ]
        )
    return tabular("ll" + "r" * 7, heads, rows, spans=(("", 3), ("gap", 2), ("", 1), ("LR sensitivity", 3)))


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
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, NullLocator

    names = list(dict.fromkeys(pair.workload for pair in pairs))
    per_row = -(-len(names) // 2)
    with matplotlib.rc_context({**STYLE, "font.size": 6.5, "axes.titlesize": 7.0, "axes.labelsize": 7.0,
                                "xtick.labelsize": 6.0, "ytick.labelsize": 6.0, "legend.fontsize": 7.0}):  # fmt: skip
        figure = Figure(figsize=(6.3, 6.1))
        panels = figure.subplots(4, per_row, squeeze=False)
        for axes in panels.flat:
            axes.set_visible(False)
        for index, name in enumerate(names):
            for row, optimizer in enumerate(OPTIMIZERS):
                pair = next((p for p in pairs if (p.workload, p.optimizer) == (name, optimizer)), None)
                if pair is None:
                    continue
                axes = panels[2 * (index // per_row) + row][index % per_row]
                axes.set_visible(True)
                scored = pair.tuned.test_accuracy is not None
                for recipe, outcomes in pair.decades.items():
                    values = [_error(outcome) if scored else outcome.test_loss for outcome in outcomes]
                    axes.plot([outcome.lr for outcome in outcomes], values, **LOOKS[recipe])
                level = _error(pair.tuned) if scored else pair.tuned.test_loss
                axes.axhline(level, color="0.5", linewidth=0.7, linestyle=":")
                axes.set(xscale="log", yscale="log")
                axes.xaxis.set_major_locator(LogLocator(numticks=4))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
                axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
                axes.yaxis.set_minor_formatter(NullFormatter())
                axes.grid(True, color="0.92", linewidth=0.5)
                axes.set_axisbelow(True)
                if row == 0:
                    axes.set_title(name + ("" if scored else " (loss)"), fontweight="bold")
                if index % per_row == 0:
                    axes.set_ylabel(f"{OPTIMIZERS[optimizer]}\ntest error, %")
        handles = [Line2D([], [], label=LABELS[recipe], **look) for recipe, look in LOOKS.items()]
        handles.append(Line2D([], [], color="0.5", linewidth=0.7, linestyle=":", label="cosine, tuned"))
        figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
        figure.supxlabel("learning rate given", fontsize=7.0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Producer": None})
    return buffer.getvalue()


def _error(outcome: Outcome) -> float:
    assert outcome.test_accuracy is not None
    return 100.0 * (1.0 - outcome.test_accuracy)
