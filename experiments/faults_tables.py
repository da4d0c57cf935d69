"""What the record of spikes and faults comes to, and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any, NamedTuple

from adaptive_lr.study.statistics import Interval, mean_interval
from experiments.records import heading, table

HOME = "digits-mlp"
"""Which has all faults."""

OF_ADAM = "adam-quadratic"
NO_FAULT = "none"

INTRODUCTION = """\
Workloads with a fault at three updates, at the tuned peak; *against clean* is the mean final validation loss over
that of the same recipe and seeds without the fault, less 1, with Student's 95 % interval of the paired difference.
*Caught*: faults in whose very step the gradient was damped or the update left out. *False alarms*: other steps in
which that happened, per 1,000. *Interventions*: everything that the guard did, per 1,000 updates. In label-noise
every batch is as wrong as any other: there is nothing to catch, and its clean run is another task.
"""

WORST = """\
Of the faults at known updates (label noise aside), over workloads and optimizers:
"""

ADAM = """\
## AdamW's own spikes

`adam-quadratic`, constant learning rate 1, 6,000 updates: without any noise, Adam's second moment decays until its
steps are unstable. *Highest*: the highest training loss from update 2,000 on, just before the first spike, over seeds.
"""

SIMULATED = """\
## Made-up norms

`GradientSpike` over log-normal norms, each 100th ten times as large as it was, or ten times the median. False
alarms are per 10,000 steps, without spikes and between those of the first kind.
"""


class Harm(NamedTuple):
    """What a fault did to one recipe with one optimizer.

    Attributes:
        ratio: mean final validation loss over that of the clean runs.
        difference: of the two, paired by seed, as a share of the clean mean.
        caught: share of the faults that were caught in their step; None where none was injected.
        false_alarms, interventions: per 1,000 steps.
        accuracy: mean final validation accuracy.
    """

    ratio: float
    difference: Interval
    caught: float | None
    false_alarms: float
    interventions: float
    accuracy: float


class Setting(NamedTuple):
    """Of one entry of the record."""

    workload: str
    fault: str
    optimizer: str
    recipe: str


def harm(record: Mapping[str, Any], setting: Setting) -> Harm:
    """What a fault did to a recipe."""
    found, clean = (cell(record, one) for one in (setting, setting._replace(fault=NO_FAULT)))
    level = fmean(clean["validation_loss"])
    pairs = zip(found["validation_loss"], clean["validation_loss"], strict=True)
    injected, updates = sum(found["injected"]), sum(found["updates"])
    return Harm(
        ratio=fmean(found["validation_loss"]) / level,
        difference=mean_interval([(mine - its) / level for mine, its in pairs]),
        caught=sum(found["caught"]) / injected if injected else None,
        false_alarms=1000.0 * sum(found["false_alarms"]) / (updates - injected),
        interventions=1000.0 * sum(found["interventions"]) / updates,
        accuracy=fmean(found["validation_accuracy"]),
    )


def cell(record: Mapping[str, Any], setting: Setting) -> Mapping[str, Any]:
    """The entry of that setting."""
    found: Mapping[str, Any] = next(one for one in record["suites"] if _of(one) == setting)
    return found


def settings(record: Mapping[str, Any]) -> list[Setting]:
    """All but AdamW's own spikes; those of a workload together, in the order of the record."""
    found = [_of(one) for one in record["suites"] if one["workload"] != OF_ADAM]
    order = list(dict.fromkeys(setting.workload for setting in found))
    return sorted(found, key=lambda setting: order.index(setting.workload))


def _of(entry: Mapping[str, Any]) -> Setting:
    return Setting(entry["workload"], entry["fault"], entry["optimizer"], entry["recipe"])


def worst(record: Mapping[str, Any], recipe: str) -> tuple[Setting, Harm]:
    """The fault at known updates that did this recipe the greatest harm."""
    known = [s for s in settings(record) if s.recipe == recipe and sum(cell(record, s)["injected"])]
    return max(((s, harm(record, s)) for s in known), key=lambda found: found[1].ratio)


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    heads = ["workload", "fault", "optimizer", "recipe", "loss", "accuracy", "against clean", "95 % interval", "caught",
             "false alarms", "interventions"]  # fmt: skip
    rows = []
    for setting in settings(record):
        loss = fmean(cell(record, setting)["validation_loss"])
        found = harm(record, setting)
        clean = setting.fault == NO_FAULT
        low, high = found.difference.low, found.difference.high
        rows.append(
            [*setting, f"{loss:.4g}", f"{found.accuracy:.1%}", "" if clean else f"{found.ratio - 1.0:+.2%}",
             "" if clean else f"{low:+.2%} to {high:+.2%}",
             "" if found.caught is None else f"{found.caught:.0%}", f"{found.false_alarms:.2f}",
             f"{found.interventions:.2f}"]
        )  # fmt: skip
    of_adam = [one for one in record["suites"] if one["workload"] == OF_ADAM]
    adam = [
        [one["recipe"], f"{min(one['highest_loss']):.2g} to {max(one['highest_loss']):.2g}",
         f"{sum(one['interventions']) / len(one['interventions']):.1f}"]
        for one in of_adam
    ]  # fmt: skip
    simulated = [
        [f"{one['sigma']:g}", f"{one['caught']:,} of {one['injected']:,}", f"{one['caught'] / one['injected']:.2%}",
         f"{one['caught_of_usual'] / one['injected']:.2%}",
         f"{alarms_per_10000(one, beside=False):.2f}", f"{alarms_per_10000(one, beside=True):.2f}"]
        for one in record["simulated"]
    ]  # fmt: skip
    return "\n".join(
        [
            heading("Spikes and faults", record["about"]),
            INTRODUCTION,
            table(heads, rows, left=4),
            "",
            WORST,
            *(_worst(record, recipe) for recipe in ("cosine", "cosine+guarded")),
            "",
            ADAM,
            table(["recipe", "highest", "interventions a run"], adam, left=1),
            "",
            SIMULATED,
            table(
                [
                    "sigma",
                    "10 x their own: caught in their step",
                    "share",
                    "10 x the median: share",
                    "false alarms alone",
                    "between spikes",
                ],
                simulated,
                left=0,
            ),
            "",
        ]
    )


def _worst(record: Mapping[str, Any], recipe: str) -> str:
    setting, found = worst(record, recipe)
    where = f"{setting.fault} on {setting.workload} with {setting.optimizer}"
    return f"- {recipe}: at worst {found.ratio - 1.0:+.2%} ({where}; up to {found.difference.high:+.2%})."


def alarms_per_10000(simulated: Mapping[str, Any], *, beside: bool) -> float:
    """False alarms per 10,000 steps of made-up norms, between spikes or without any."""
    suffix = "_beside" if beside else ""
    rate: float = 1e4 * simulated[f"false_alarms{suffix}"] / simulated[f"steps{suffix}"]
    return rate
