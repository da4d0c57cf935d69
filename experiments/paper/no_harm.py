"""What the no-harm study gives the paper: `results/no_harm.json` -> numbers, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from adaptive_lr.study.figures.style import BLUE, PAGE, VERMILION, new_figure
from experiments.no_harm_tables import BAR, INTERVENTIONS_BAR, TREATED, Difference, differences
from experiments.paper import Part
from experiments.paper.drawing import pdf, styled
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, signed, tabular

NAMES = {"cosine+guarded": "guarded", "automatic": "automatic"}
LOOKS = {"cosine+guarded": (BLUE, "s"), "automatic": (VERMILION, "D")}


def part(record: Mapping[str, Any]) -> Part:
    """All of it.

    Args:
        record: the contents of `results/no_harm.json`.
    """
    found = {recipe: differences(record, recipe) for recipe in TREATED}
    numbers = {
        "no-harm.seeds": str(record["about"]["seeds"]),
        "no-harm.pairs": str(len(record["pairs"])),
        "no-harm.bar": percent(BAR),
        "no-harm.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    for recipe, name in NAMES.items():
        numbers |= _numbers(f"no-harm.{name}", found[recipe])
    return Part(numbers, {"no-harm": _table(record, found)}, {"no-harm.pdf": _figure(found)})


def _numbers(prefix: str, found: Sequence[Difference]) -> dict[str, str]:
    worst = max(found, key=lambda one: one.loss.high)
    scored = [one.accuracy for one in found if one.accuracy is not None]
    significant = [one for one in found if one.adjusted_p < 0.05]
    return {
        f"{prefix}.within-bar": str(sum(one.harmless for one in found)),
        f"{prefix}.identical": str(sum(one.loss == (0.0, 0.0, 0.0) for one in found)),
        f"{prefix}.calm": str(sum(one.interventions < INTERVENTIONS_BAR for one in found)),
        f"{prefix}.median-loss": signed(median(one.loss.mean for one in found)),
        f"{prefix}.worst-upper": signed(worst.loss.high),
        f"{prefix}.worst-workload": escape(worst.workload),
        f"{prefix}.worst-optimizer": OPTIMIZERS[worst.optimizer],
        f"{prefix}.significantly-higher": str(sum(one.loss.mean > 0.0 for one in significant)),
        f"{prefix}.significantly-lower": str(sum(one.loss.mean < 0.0 for one in significant)),
        **({f"{prefix}.median-points": f"${median(one.mean for one in scored):+.2f}$",
            f"{prefix}.least-points": f"${min(one.mean for one in scored):+.2f}$"} if scored else {}),
        f"{prefix}.interventions": number(median(one.interventions for one in found), 2),
        f"{prefix}.most-interventions": number(max(one.interventions for one in found), 2),
    }  # fmt: skip


def _table(record: Mapping[str, Any], found: Mapping[str, Sequence[Difference]]) -> str:
    heads = ["workload", "", "loss", *(["change, \\%", "interval", "points", "$p$"] * len(TREATED))]
    rows = []
    previous = ""
    for index, entry in enumerate(record["pairs"]):
        level = fmean(entry["recipes"]["cosine"]["validation_loss"])
        cells = [
            "" if entry["workload"] == previous else escape(entry["workload"]),
            OPTIMIZERS[entry["optimizer"]],
            number(level),
        ]
        previous = entry["workload"]
        for recipe in TREATED:
            one = found[recipe][index]
            low, mean, high = (round(100.0 * value, 1) + 0.0 for value in (one.loss.low, one.loss.mean, one.loss.high))
            points = "" if one.accuracy is None else f"${round(one.accuracy.mean, 1) + 0.0:+.1f}$"
            cells += [f"${mean:+.1f}$", f"$[{low:+.1f}, {high:+.1f}]$", points, number(one.adjusted_p, 2)]
        rows.append(cells)
    spans = (("", 2), ("cosine", 1), ("guarded", 4), ("automatic", 4))
    return tabular("llr" + "rrrr" * len(TREATED), heads, rows, spans=spans)


def _figure(found: Mapping[str, Sequence[Difference]]) -> bytes:
    """The change of the final validation loss with its interval, a line for each pair, a panel for each recipe."""
    rows = found[TREATED[0]]
    with styled():
        figure = new_figure(PAGE, 0.8 + 0.145 * len(rows))
        panels = figure.subplots(1, len(TREATED), sharey=True)
        places = list(range(len(rows)))
        for axes, recipe in zip(panels, TREATED, strict=True):
            colour, marker = LOOKS[recipe]
            mean, low, high = (
                [100.0 * getattr(d.loss, name) for d in found[recipe]] for name in ("mean", "low", "high")
            )
            axes.axvline(0.0, color="0.25", linewidth=0.8)
            axes.axvline(100.0 * BAR, color="0.25", linewidth=0.8, linestyle=(0, (3.0, 1.6)))
            axes.hlines(places, low, high, color=colour, linewidth=1.6)
            axes.plot(mean, places, color=colour, linestyle="none", marker=marker, markersize=4.0,
                      markeredgecolor="white", markeredgewidth=0.4)  # fmt: skip
            axes.set_xlim(1.5 * min(-1.0, *low), 1.5 * max(1.0, *high))
            axes.set_xscale("symlog", linthresh=1.0, linscale=0.8)
            axes.set_title({"cosine+guarded": "guarded"}.get(recipe, recipe), loc="left")
            axes.set_xlabel("change of final validation loss, %")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
            axes.grid(True, axis="x")
        panels[0].set_yticks(places, [f"{one.workload}, {OPTIMIZERS[one.optimizer]}" for one in rows])
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        return pdf(figure)
