"""What the study of spikes and faults gives the paper: `results/faults.json` -> numbers, a table, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from adaptive_lr.study.figures.style import BLUE, COLUMN, VERMILION, legend_above, new_figure
from adaptive_lr.study.statistics import binomial_rate
from experiments.faults_tables import HOME, NO_FAULT, OF_ADAM, Setting, alarms_per_10000, cell, harm, settings, worst
from experiments.paper import Part
from experiments.paper.drawing import pdf, styled
from experiments.paper.latex import OPTIMIZERS, escape, number, percent, tabular

NAMES = {"cosine": "cosine", "cosine+guarded": "guarded"}


def part(record: Mapping[str, Any]) -> Part:
    """All of it.

    Args:
        record: the contents of `results/faults.json`.
    """
    numbers = {
        "faults.seeds": str(record["about"]["seeds"]),
        "faults.control": rf"\texttt{{{record['about']['control_sha256'][:12]}}}",
    }
    for setting in settings(record):
        if setting.fault != NO_FAULT:
            numbers |= _of_setting(record, setting)
    for recipe, name in NAMES.items():
        setting, found = worst(record, recipe)
        numbers[f"faults.worst.{name}.change"] = change(found.ratio - 1.0)
        numbers[f"faults.worst.{name}.upper"] = change(found.difference.high)
        numbers[f"faults.worst.{name}.fault"] = escape(setting.fault)
        numbers[f"faults.worst.{name}.workload"] = escape(setting.workload)
        numbers[f"faults.worst.{name}.optimizer"] = OPTIMIZERS[setting.optimizer]
    for one in record["suites"]:
        if one["workload"] == OF_ADAM:
            name = "guarded" if one["recipe"].endswith("+guarded") else "constant"
            numbers[f"faults.{OF_ADAM}.{name}.highest"] = number(max(one["highest_loss"]), 2)
            numbers[f"faults.{OF_ADAM}.{name}.interventions"] = number(fmean(one["interventions"]), 2)
    for one in record["simulated"]:
        prefix = f"faults.simulated.{one['sigma']:g}"
        numbers[f"{prefix}.caught"] = percent(one["caught"] / one["injected"])
        numbers[f"{prefix}.caught-of-median"] = percent(one["caught_of_usual"] / one["injected"])
        numbers[f"{prefix}.false-alarms"] = number(alarms_per_10000(one, beside=False), 2)
        numbers[f"{prefix}.false-alarms-between"] = number(alarms_per_10000(one, beside=True), 2)
    home = [setting for setting in settings(record) if setting.workload == HOME]
    tables = {"faults": _suites(record, home), "faults-elsewhere": _elsewhere(record)}
    return Part(numbers, tables, {"simulated-spikes.pdf": _figure(record)})


def _of_setting(record: Mapping[str, Any], setting: Setting) -> dict[str, str]:
    where = "" if setting.workload == HOME else f"{setting.workload}."
    prefix = f"faults.{where}{setting.fault}.{setting.optimizer}.{NAMES[setting.recipe]}"
    found = harm(record, setting)
    numbers = {
        f"{prefix}.change": change(found.ratio - 1.0),
        f"{prefix}.upper": change(found.difference.high),
        f"{prefix}.accuracy": percent(found.accuracy),
        f"{prefix}.false-alarms": number(found.false_alarms, 2),
    }
    return numbers if found.caught is None else numbers | {f"{prefix}.caught": percent(found.caught)}


def change(share: float) -> str:
    """A change of the loss as a percentage with its sign."""
    return rf"${round(100.0 * share, 1) + 0.0:+.1f}\,\%$"


def _suites(record: Mapping[str, Any], home: Sequence[Setting]) -> str:
    heads = ["fault", "", "", "loss", "accuracy", "change, \\%", "interval", "caught", "false alarms"]
    rows = []
    for setting in home:
        found = harm(record, setting)
        loss = fmean(cell(record, setting)["validation_loss"])
        first, clean = setting.recipe == "cosine", setting.fault == NO_FAULT
        interval = rf"$[{100 * found.difference.low:+.1f}, {100 * found.difference.high:+.1f}]$"
        rows.append(
            [escape(setting.fault) if first and setting.optimizer == "sgd" else "",
             OPTIMIZERS[setting.optimizer] if first else "", NAMES[setting.recipe], number(loss),
             percent(found.accuracy),
             "" if clean else f"${100.0 * (found.ratio - 1.0):+.1f}$", "" if clean else interval,
             "" if found.caught is None else percent(found.caught), number(found.false_alarms, 2)]
        )  # fmt: skip
    return tabular("lll" + "r" * 6, heads, rows)


def _elsewhere(record: Mapping[str, Any]) -> str:
    """The other workloads: what each fault changes without and with the guard."""
    heads = ["workload", "fault", "", "cosine, \\%", "guarded, \\%", "interval", "caught"]
    rows, last = [], ("", "")
    for setting in settings(record):
        if setting.workload == HOME or setting.fault == NO_FAULT or setting.recipe != "cosine":
            continue
        plain, guarded = (harm(record, setting._replace(recipe=recipe)) for recipe in NAMES)
        interval = rf"$[{100 * guarded.difference.low:+.1f}, {100 * guarded.difference.high:+.1f}]$"
        workload, fault = setting.workload, setting.fault
        rows.append(
            [escape(workload) if workload != last[0] else "", escape(fault) if (workload, fault) != last else "",
             OPTIMIZERS[setting.optimizer], f"${100.0 * (plain.ratio - 1.0):+.1f}$",
             f"${100.0 * (guarded.ratio - 1.0):+.1f}$", interval,
             "" if guarded.caught is None else percent(guarded.caught)]
        )  # fmt: skip
        last = (workload, fault)
    return tabular("lll" + "r" * 4, heads, rows)


def _figure(record: Mapping[str, Any]) -> bytes:
    """Share of made-up spikes that are caught in their step, against the spread of the norms."""
    sigmas = [one["sigma"] for one in record["simulated"]]
    kinds = (
        ("caught_of_usual", "10 × the median", BLUE, "s"),
        ("caught", "10 × their own norm", VERMILION, "D"),
    )
    with styled():
        figure = new_figure(COLUMN, 2.3)
        axes = figure.subplots()
        handles = []
        for key, label, colour, marker in kinds:
            shares = [binomial_rate(one[key], one["injected"]) for one in record["simulated"]]
            axes.fill_between(sigmas, [100 * s.low for s in shares], [100 * s.high for s in shares], color=colour,
                              alpha=0.18, linewidth=0.0)  # fmt: skip
            handles += axes.plot(sigmas, [100 * s.share for s in shares], color=colour, marker=marker, markersize=4.4,
                                 markeredgecolor="white", markeredgewidth=0.4, linewidth=1.6, label=label)  # fmt: skip
        axes.set(ylim=(-3.0, 103.0), xlabel="spread σ of the logarithm of the norm", ylabel="caught in their step, %")
        axes.grid(True)
        legend_above(figure, handles, num_columns=2)
        return pdf(figure)
