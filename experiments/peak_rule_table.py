"""What a cosine does over peaks, how rules are judged by it, and the tables of `experiments.peak_rules`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from adaptive_lr.study import RunResult
from experiments.recorded_sweep import LEVELS, RULES, Peak

TOLERANCE, LOSS_TOLERANCE = 0.01, 0.10
"""A peak is as good as the tuned one within a point of accuracy, or, where there is none, 10 % of the loss (a grid of
half-decades cannot tell less on a quadratic)."""

Pairs = Mapping[tuple[str, str], Any]


@dataclass(frozen=True)
class Truth:
    """What a cosine does over peaks.

    Attributes:
        peaks: log10 of the learning rates, ascending.
        validation, test: mean losses, clipped at the loss at initialisation.
        accuracy: mean accuracies on the test split, or None.
    """

    peaks: tuple[float, ...]
    validation: tuple[float, ...]
    test: tuple[float, ...]
    accuracy: tuple[float, ...] | None

    @classmethod
    def of(cls, results: Mapping[float, Sequence[RunResult]]) -> Truth:
        """From runs by log10 of their peak."""
        clipped = {
            peak: [(clip(r, "validation"), clip(r, "test"), r.test.accuracy if r.test else None) for r in found]
            for peak, found in results.items()
        }
        losses = [[fmean(row[column] for row in rows) for rows in clipped.values()] for column in (0, 1)]
        accuracies = [[row[2] for row in rows] for rows in clipped.values()]
        known = accuracies[0][0] is not None
        return cls(tuple(clipped), *map(tuple, losses), tuple(map(fmean, accuracies)) if known else None)  # type: ignore[arg-type]

    @property
    def tuned(self) -> int:
        """The index of the lowest validation loss."""
        return self.validation.index(min(self.validation))

    def interval(self) -> tuple[float, float]:
        """The peaks around the tuned one that are as good."""
        if self.accuracy is not None:
            good = [a >= self.accuracy[self.tuned] - TOLERANCE for a in self.accuracy]
        else:
            good = [loss <= self.validation[self.tuned] * (1.0 + LOSS_TOLERANCE) for loss in self.validation]
        low = high = self.tuned
        while low > 0 and good[low - 1]:
            low -= 1
        while high < len(good) - 1 and good[high + 1]:
            high += 1
        return self.peaks[low], self.peaks[high]

    def gap(self, peak: float) -> float | None:
        """Points of accuracy missing to tuned at a peak (log10), interpolated."""
        if self.accuracy is None:
            return None
        return 100.0 * (self.accuracy[self.tuned] - float(np.interp(peak, self.peaks, self.accuracy)))

    def loss_ratio(self, peak: float) -> float:
        """Test loss over the tuned one's at a peak (log10), interpolated in logarithms."""
        return math.exp(float(np.interp(peak, self.peaks, np.log(self.test)))) / self.test[self.tuned]


def clip(result: RunResult, split: str) -> float:
    """A loss, at most the one at initialisation."""
    evaluation = getattr(result, split)
    assert evaluation is not None
    assert result.initial is not None
    return float(min(evaluation.loss, result.initial.loss))


def judged(rule: Peak, truths: Pairs, sweeps: Pairs) -> dict[str, float]:
    """Summary of one rule over pairs; both seeds count."""
    errors, gaps, losses, objectives = [], [], [], []
    for pair, truth in truths.items():
        low, high = truth.interval()
        for sweep in sweeps[pair]:
            peak = rule(sweep)
            errors.append(max(low - peak, 0.0, peak - high))
            if truth.accuracy is None:
                objectives.append(math.log(truth.loss_ratio(peak)))
            else:
                gaps.append(truth.gap(peak))
                losses.append(math.log(truth.loss_ratio(peak)))
    return {
        "inside": sum(error < 1e-9 for error in errors) / len(errors),
        "in+": sum(error <= 0.25 for error in errors) / len(errors),
        "worst error": max(errors),
        "median gap": median(gaps),
        "mean gap": fmean(min(max(gap, -1.0), 10.0) for gap in gaps),
        "within 1": sum(gap <= 1.0 for gap in gaps) / len(gaps),
        "loss ratio": math.exp(fmean(losses)),
        "objectives": math.exp(fmean(objectives)) if objectives else math.nan,
    }


def left_out(truths: Pairs, sweeps: Pairs) -> dict[str, str]:
    """For each workload the level that does best on all others, by the mean gap."""
    workloads = list(dict.fromkeys(name for name, _ in truths))
    chosen = {}
    for name in workloads:
        others = {pair: truth for pair, truth in truths.items() if pair[0] != name}
        chosen[name] = min(LEVELS, key=lambda level: judged(LEVELS[level], others, sweeps)["mean gap"])
    return chosen


def _table(truths: Pairs, sweeps: Pairs) -> list[str]:
    lines = [
        "| rule | inside | in+ | worst error | median gap | mean gap | within 1 | loss ratio | objectives |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, rule in RULES.items():
        row = judged(rule, truths, sweeps)
        lines.append(
            f"| {name} | {row['inside']:.2f} | {row['in+']:.2f} | {row['worst error']:.2f} "
            f"| {row['median gap']:+.1f} | {row['mean gap']:+.1f} | {row['within 1']:.2f} "
            f"| {row['loss ratio']:.2f} | {row['objectives']:.1f} |"
        )
    return lines


def rule_tables(truths: Pairs, sweeps: Pairs, command: str) -> str:
    """The tables of rules, as Markdown."""
    first = {pair: truth for pair, truth in truths.items() if pair[1] in ("sgd", "adamw")}
    chosen = ", ".join(f"{name} {level}" for name, level in left_out(first, sweeps).items())
    lines = [
        "# Which rule finds the peak?",
        "",
        f"`{command}`",
        "",
        "Sweeps were recorded once, 12 updates a decade up from an update-to-weight ratio of 0.001, and every rule",
        "sees what a tenth of the run would have seen. A rule is judged by what a cosine does at the peak it names.",
        "*Inside*: within a point of the tuned accuracy (10 % of the loss where there is none); *in+*: or missing",
        "that by at most a quarter of a decade; *worst error* in decades. *Gap*: points of accuracy missing to tuned",
        "(in the mean at most 10 count, and no less than -1); *within 1*: share of runs within a point. *Loss ratio*:",
        "geometric mean over classification; *objectives*: over the quadratic and Rosenbrock. Divergence stops every",
        "sweep. The law uses the same code here and in a run (`adaptive_lr.controllers.peak`).",
        "",
        f"## SGD and AdamW, {len(first)} pairs",
        "",
        *_table(first, sweeps),
        "",
        f"The level of the law that does best on all other workloads, by the mean gap: {chosen}.",
        "",
        "No rule is clearly the best. What all matrices come to, by compound or size, does better than the largest",
        "ratio with SGD and AdamW, no worse over all optimizers, and names better peaks on problems beside these",
        "(`comparison_notes.md`); of the two the size falls less with depth, of which eleven matrices are the most",
        "that was tried. Classification wants a size of 0.1 to 0.14, by accuracy and by loss, the objectives and",
        "what has too few steps (MNIST-1D, fine-tuning) 0.14 to 0.2. The law takes 0.17: a peak that is too high is",
        "put right by the guard that follows, one that is too low by nothing.",
        "",
        f"## All optimizers, {len(truths)} pairs",
        "",
        *_table(truths, sweeps),
        "",
    ]
    return "\n".join(lines)


def end_to_end_table(truths: Pairs, automatic: Pairs) -> str:
    """What `automatic` came to, as Markdown.

    Args:
        truths: pair -> cosine.
        automatic: pair -> for each learning rate given the results over seeds.
    """
    lines = [
        "",
        "## `automatic` itself",
        "",
        "Sweep, ramp, cosine for what remains, and guarded control, against the tuned cosine; means over seeds, the",
        "worse of two learning rates given, three decades apart. *Same*: whether every seed ended at the same test",
        "loss, to the last bit, from both. *Spent*: updates until the peak was known, and of probes, largest share of",
        "the run.",
        "",
        "| workload | optimizer | tuned peak, as good | found | gap | loss ratio | same | spent |",
        "| --- | --- | --- | --- | ---: | ---: | --- | ---: |",
    ]
    gaps = []
    for (name, optimizer), starts in automatic.items():
        truth = truths[name, optimizer]
        low, high = truth.interval()
        reference = truth.test[truth.tuned]
        ratio = max(fmean(clip(result, "test") for result in results) / reference for results in starts)
        gap = None
        if truth.accuracy is not None:
            reached = min(fmean(result.test.accuracy for result in results) for results in starts)
            gap = 100.0 * (truth.accuracy[truth.tuned] - reached)
            gaps.append(gap)
        same = all(len({result.test.loss for result in seed}) == 1 for seed in zip(*starts, strict=True))
        results = [result for start in starts for result in start]
        lines.append(
            f"| {name} | {optimizer} | {truth.peaks[truth.tuned]:.1f}, {low:.1f} to {high:.1f} | "
            f"{', '.join(f'{math.log10(peak):.2f}' for peak in map(found_peak, starts[0]))} | "
            f"{'' if gap is None else f'{gap:+.1f}'} | {ratio:.2f} | {'yes' if same else 'no'} | "
            f"{max(map(spent, results)):.0%} |"
        )
    if gaps:
        lines += ["", f"Within a point: {sum(gap <= 1.0 for gap in gaps)} of {len(gaps)}; median {median(gaps):+.1f}, "
                  f"worst {max(gaps):+.1f} points."]  # fmt: skip
    return "\n".join([*lines, ""])


def found_peak(result: RunResult) -> float:
    """The learning rate at which the factor was set in the end, of the group where it is largest."""
    factors = [d["factor_after"] for d in _of_sweep(result) if d["factor_after"] != 1.0]
    return float(factors[-1]) * result.run.peak_lr if factors else math.nan


def spent(result: RunResult) -> float:
    """Share of the run that finding the peak took: updates until it was known, rehearsals included, and of probes."""
    decisions = [d for d in _of_sweep(result) if d["action"] != "skip"]  # which ends no probe
    known = max((d["step"] + 1 for d in decisions if d["action"] in ("peak", "confirm")), default=0)
    probes = [index for index, d in enumerate(decisions[:-1]) if d["action"] == "probe"]
    return (known + sum(decisions[i + 1]["step"] - decisions[i]["step"] for i in probes)) / result.run.steps


def _of_sweep(result: RunResult) -> list[dict[str, Any]]:
    return [decision for decision in result.decisions if decision["controller"] == "range_test"]
