"""What the record of the no-harm study comes to, and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from adaptive_lr.study.statistics import Interval, holm, mean_interval, paired_difference
from experiments.records import Repetitions, heading, table
from experiments.target_tables import target_section

TREATED = ("cosine+guarded", "automatic")

BAR = 0.01
"""How much higher the final validation loss may be, at the upper end of its interval."""

INTERVENTIONS_BAR = 1.0
"""Interventions per 1,000 updates that a healthy run may see."""


@dataclass(frozen=True)
class Difference:
    """A recipe against `cosine`, paired by seed, at one workload's tuned peak.

    Attributes:
        workload, optimizer, recipe: names.
        loss: change of the final validation loss as a share of the mean of cosine's, with its 95 % t-interval.
        accuracy: change of the final validation accuracy in points, with its interval; None where there is none.
        p_value: of the exact sign-flip test on the losses.
        adjusted_p: after Holm, over all workloads and optimizers of the recipe.
        interventions: per 1,000 updates.
    """

    workload: str
    optimizer: str
    recipe: str
    loss: Interval
    accuracy: Interval | None
    p_value: float
    adjusted_p: float
    interventions: float

    @property
    def harmless(self) -> bool:
        """Whether the upper end of the loss's interval is within the bar."""
        return self.loss.high <= BAR


def differences(record: Mapping[str, Any], recipe: str) -> list[Difference]:
    """A recipe against `cosine` on every pair of the record."""
    found = [_difference(entry, recipe) for entry in record["pairs"]]
    adjusted = holm([difference.p_value for difference in found])
    return [replace(one, adjusted_p=float(p)) for one, p in zip(found, adjusted, strict=True)]


def _difference(entry: Mapping[str, Any], recipe: str) -> Difference:
    fixed, treated = (Repetitions(**entry["recipes"][name]) for name in ("cosine", recipe))
    level = fmean(fixed.validation_loss)
    difference = paired_difference(treated.validation_loss, fixed.validation_loss)
    accuracy = None
    if fixed.validation_accuracy is not None and treated.validation_accuracy is not None:
        pairs = zip(treated.validation_accuracy, fixed.validation_accuracy, strict=True)
        accuracy = mean_interval([100.0 * (mine - its) for mine, its in pairs])
    return Difference(
        workload=entry["workload"],
        optimizer=entry["optimizer"],
        recipe=recipe,
        loss=Interval(*(value / level for value in difference[:3])),
        accuracy=accuracy,
        p_value=difference.p_value,
        adjusted_p=difference.p_value,
        interventions=treated.rate,
    )


def summary(found: Sequence[Difference]) -> str:
    """What one recipe's differences come to."""
    harmed = [d for d in found if d.adjusted_p < 0.05 and d.loss.mean > 0.0]
    helped = [d for d in found if d.adjusted_p < 0.05 and d.loss.mean < 0.0]
    equal = sum(d.loss == (0.0, 0.0, 0.0) for d in found)
    calm = sum(d.interventions < INTERVENTIONS_BAR for d in found)
    names = f" ({', '.join(f'{d.workload} with {d.optimizer}' for d in harmed)})" if harmed else ""
    return (
        f"- {found[0].recipe}: upper end within +{BAR:.0%} on {sum(d.harmless for d in found)} of {len(found)}, "
        f"equal to the last digit on {equal}; fewer than {INTERVENTIONS_BAR:g} intervention per 1,000 on {calm}; "
        f"loss higher after Holm on {len(harmed)}{names}, lower on {len(helped)}."
    )


def markdown(record: Mapping[str, Any]) -> str:
    """The whole document, from the record alone."""
    heads = ["workload", "optimizer", "peak LR", "cosine: loss", "change of loss", "95 % interval", "within +1 %",
             "points of accuracy", "95 % interval", "p", "p (Holm)", "interventions"]  # fmt: skip
    sections = []
    for recipe in TREATED:
        rows = []
        found = differences(record, recipe)
        for entry, one in zip(record["pairs"], found, strict=True):
            accuracy = ["", ""]
            if one.accuracy is not None:
                accuracy = [f"{one.accuracy.mean:+.2f}", f"{one.accuracy.low:+.2f} to {one.accuracy.high:+.2f}"]
            level = fmean(entry["recipes"]["cosine"]["validation_loss"])
            rows.append(
                [one.workload, one.optimizer, f"{entry['peak_lr']:.2g}", f"{level:.3g}", f"{one.loss.mean:+.2%}",
                 f"{one.loss.low:+.2%} to {one.loss.high:+.2%}", "yes" if one.harmless else "no", *accuracy,
                 f"{one.p_value:.3g}", f"{one.adjusted_p:.3g}", f"{one.interventions:.2f}"]
            )  # fmt: skip
        sections.append(f"## {recipe}\n\n{table(heads, rows)}\n\n{summary(found)}\n")
    text = (
        "At the tuned peak of each workload, against `cosine` with the same seeds; everything is of the validation "
        "split.\nThe change of the loss is relative to the mean of cosine's; intervals are Student's; p is that of the "
        "exact sign-flip test, Holm's over the rows of a table. Interventions are per 1,000 updates.\n"
    )
    targets = target_section(record, TREATED)
    return "\n".join([heading("No harm at the right peak", record["about"]), text, *sections, *targets])
