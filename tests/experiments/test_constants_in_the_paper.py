"""Constants of the laws are the same in the paper and in the code: where one differs, its sentence is named here."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from adaptive_lr import update_ratio
from adaptive_lr.controllers import (
    compound,
    damage,
    futility,
    hold,
    loss_variance,
    motion,
    peak,
    probe,
    range_probe,
    range_ramp,
    range_sweep,
    range_test,
    regain,
    rehearsal,
    relapse,
    rescue,
    setback,
    stretch,
    suspicion,
    sweep,
    vanished,
)
from adaptive_lr.controllers.gradient_spike import GradientSpike
from adaptive_lr.controllers.loss_variance import LossVariance
from adaptive_lr.lag import CUDA_LAG
from adaptive_lr.scores import NORM_LAW
from adaptive_lr.study.digits import Digits
from experiments import robustness, workloads
from experiments.growing_noise import SMALL_BATCH

PAPER = Path(__file__).parents[2] / "paper"
README = Path(__file__).parents[2] / "experiments" / "README.md"

SPIKE, RESCUE, RANGE, VARIANCE = GradientSpike(), rescue.Rescue(), range_test.RangeTest(), LossVariance()

WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}
WORDS |= {12: "twelve"}
FRACTIONS = {0.1: "a tenth", 0.2: "a fifth", 0.25: "a quarter", 0.5: "half", 1 / 3: "a third", 1 / 16: "a sixteenth"}
FRACTIONS |= {0.02: "a fiftieth", 0.75: "three quarters", 2 / 3: "two thirds"}
ORDINALS = {3: "third", 5: "fifth"}


def shown(value: float) -> str:
    return f"{value:g}"


def percent(share: float) -> str:
    return rf"{100.0 * share:g}\,\%"


def reciprocal(share: float) -> str:
    assert math.isclose(1.0 / share, round(1.0 / share))
    return str(round(1.0 / share))


def power_of_ten(value: float) -> str:
    return f"10^{{{round(math.log10(value))}}}"


FACTS = {
    "main.tex": [
        rf"$s=\max(\sqrt v,\ {shown(NORM_LAW.spread_floor)})$ and $\sigma=s\,(1+2/n)$ for $n\ge{NORM_LAW.warmup}$",
        rf"$e=\min(\max(\ell_t-m,\,-{shown(NORM_LAW.bound)}s),\,{shown(NORM_LAW.bound)}s)$",
        rf"$b\leftarrow b+e/({reciprocal(NORM_LAW.trend)}k)$",
        rf"$k=\min(n,\max({shown(NORM_LAW.least_memory)},\min(n/{shown(NORM_LAW.level_share)},"
        rf"{shown(NORM_LAW.level_memory)})))$",
        rf"$l=\max(1,\min(n/{shown(NORM_LAW.scale_share)},{shown(NORM_LAW.scale_memory)}))$",
        rf"of $\min(z^2,{shown(NORM_LAW.bound**2)})$ for a normal",
        f"after {NORM_LAW.adopt_after} errors in a row at the bound on one side, $n$ is {NORM_LAW.warmup} again",
        f"Above {shown(SPIKE.damp_above)} the gradients are damped",
        f"g\\,e^{{m-\\ell_t}}$; above {shown(SPIKE.skip_above)}, or",
        f"{WORDS[SPIKE.spike_limit].capitalize()} spikes within some {SPIKE.spike_memory} steps",
        f"at most once in {SPIKE.spike_memory} steps and down to {FRACTIONS[SPIKE.min_factor]}",
        f"after every {SPIKE.recover_after} quiet steps",
        f"stop after {SPIKE.stop_after} non-finite gradients in a row",
        f"fits a line to the last {VARIANCE.window} losses",
        f"statistic of the slope above {shown(loss_variance.RISING)}",
        f"over {WORDS[loss_variance.LONG]} such windows, "
        f"and by more than {percent(loss_variance.LEAST_CHANGE)} of the loss",
        f"median deviation of {WORDS[loss_variance.BLOCKS]} blocks from their own lines "
        f"is {WORDS[int(VARIANCE.growth)]} times",
        f"does not fall ($t\\ge{shown(loss_variance.FALLING)}$)",
        f"does not rise ($t\\le{shown(-loss_variance.FALLING)}$), the deviation is within "
        + {4.0: "twice"}[VARIANCE.growth] + " the lowest",
        rf"w_0=\tfrac1{{{reciprocal(update_ratio.WEIGHT_FLOOR)}}}\sqrt{{|W|",
        f"a fixed lag later ({WORDS[CUDA_LAG]} updates by default)",
        "best, by validation loss on as many other seeds, of "
        f"{WORDS[len(robustness.NEIGHBOURS)]} half-decades around the best decade of "
        + WORDS[len(robustness.DECADES["sgd"])],
    ],
    "stretch.tex": [rf">{shown(stretch.CLEARLY)}\,\sqrt"],
    "rescue.tex": [
        f"and for {RESCUE.watch_steps} updates beyond",
        f"renewed after {WORDS[rescue.SNAPSHOT_STEPS]} updates or more",
        f"exceeded $r={shown(damage.SNAPSHOT_RATIO)}$",
        rf"${shown(RESCUE.max_ratio)}\le r_t<{shown(rescue.BEYOND_DOUBT * RESCUE.max_ratio)}$ while the base rises",
        f"goes on for {WORDS[suspicion.GRANTED]} updates",
        f"the bound of {shown(rescue.BEYOND_DOUBT * RESCUE.max_ratio)};",
        f"$k+{suspicion.GRANTED}$ updates are made again",
        rf"$r_t\ge{shown(rescue.BEYOND_DOUBT * RESCUE.max_ratio)}$ while the base rises, or later "
        rf"$r_t\ge{shown(rescue.LATER_RATIO)}$",
        f"and {WORDS[compound.UPDATES]} with $r_t<{shown(RESCUE.max_ratio)}$, none more than "
        f"{WORDS[compound.AFTER_THE_RISE]} updates after the rise, had $c_t\\ge{shown(compound.BOUND)}$",
        f"over the {update_ratio.DEPTH} matrices with the largest ratios",
        f"nor by more than {FRACTIONS[damage.ALIVE]} of it",
        f"no longer once {FRACTIONS[hold.LEARNED]} of the loss are gone",
        f"above its start by {FRACTIONS[sweep.RISE]} of the fall",
        f"{WORDS[damage.HIGH_LOSSES]} losses in a row stand {FRACTIONS[sweep.UNKNOWN_RISE]} above the start after an "
        f"$r>{shown(RESCUE.target_ratio)}$",
        f"mean of the last {setback.BLOCK * setback.BLOCKS} losses stands above the best of $n$ such means, "
        f"one every {WORDS[setback.BLOCK]} updates, by {percent(setback.SHARE)} of the fall and by at least "
        f"{WORDS[int(setback.SIGNIFICANT)]} standard errors",
        rf"\sqrt{{\ln(n/{power_of_ten(setback.FALSE_ALARM)})}}",
        f"smoothed by {shown(motion.MEMORY)}, has come down to {FRACTIONS[motion.SHARE]} of its highest since the "
        f"{ORDINALS[motion.FIRST_UPDATES]} update, and the median of the last {WORDS[damage.KEPT]} losses",
        f"after an $r>{shown(damage.STORM_RATIO)}$, the gradient vanishes",
        f"where $r<{shown(hold.IDLE['update_ratio'])}$ until the {hold.IDLE_STEPS}th",
        f"only where $c<{shown(hold.IDLE['compound_ratio'])}$ until then",
        f"the run goes on for {relapse.COMPARED} updates and is set aside",
        f"as many are made again at {FRACTIONS[rescue.MOST_CUT]} of the learning rate",
        f"is lower by {shown(stretch.CLEARLY)} standard errors",
        f"After {WORDS[relapse.MOST_MISTAKEN]} comparisons in vain",
        f"{damage.STORM_STEPS} updates after the first with $r>{shown(damage.STORM_RATIO)}$",
        f"or of a fall by more than noise less than {FRACTIONS[damage.GIVEN_BACK]} is left",
        f"since the snapshot had $r>{shown(damage.TOO_SMALL)}$. "
        f"Where it asks for a {ORDINALS[futility.MOST_CUTS + 1]} cut in a row, or for a second by such small updates",
        f"before the first of them, in {WORDS[regain.REGAIN_UPDATES]} equal parts",
        f"to its former value in {WORDS[regain.REGAIN_UPDATES]} equal parts",
        f"median of the last {WORDS[damage.RECENT]} losses stands above the mean of the start by "
        f"{WORDS[int(damage.BEYOND_NOISE)]} standard errors",
        f"before the first $r>{shown(damage.STORM_RATIO)}$, differ by more than {shown(damage.NOISY)} of the start",
        f"is above {FRACTIONS[suspicion.NOISY]} of that mean (and before it, above half as much), "
        f"the mean before it is higher by less than "
        f"{WORDS[int(suspicion.WORSE)]} such errors, and $r$ stayed below {shown(suspicion.MILD * RESCUE.max_ratio)}",
        f"losses of up to {WORDS[rescue.BAD_BATCHES]} skipped updates in a row",
        rf"<\frac1{{{reciprocal(vanished.SHARE)}}}\,\min_{{s\le{vanished.FIRST_UPDATES}}}",
        f"at {WORDS[vanished.UPDATES]} the network counts as dead",
        f"nor are the {WORDS[rescue.SETTLE]} updates after a rewind",
        f"target of {shown(RESCUE.target_ratio)}, at least to {FRACTIONS[rescue.MOST_CUT]}",
        rf"\frac\eta{reciprocal(rescue.MOST_CUT)},\ {shown(RESCUE.target_ratio)}\Big/",
        f"bounded below by ${power_of_ten(rescue.LEAST_CUT)}\\eta$",
        f"where $r$ passes {shown(RESCUE.target_ratio)} while the base goes on rising "
        f"or within {hold.HOLD_STEPS} updates",
        f"at most to {FRACTIONS[hold.LOWEST]} at a time",
        f"regains {FRACTIONS[round(hold.REGAIN - 1.0, 9)]} an update for {WORDS[hold.REGAIN_STEPS]} updates",
    ],
    "peak.tex": [
        f"{WORDS[range_sweep.TRIALS].capitalize()} trial updates",
        f"where $s$ is {FRACTIONS[range_sweep.START_SHARE]} of its bar",
        f"the sum over the {update_ratio.DEPTH} largest",
        f"raised by {shown(RANGE.steps_per_decade)} steps a decade",
        rf"c(T)={shown(RANGE.size)}\,\min\bigl(1,\sqrt{{{peak.REFERENCE_STEPS}/T}}\bigr)",
        f"or {FRACTIONS[RANGE.max_share]} of the run is spent",
        f"a {shown(peak.DIVERGENCE_DIVISOR)}th of the rate of divergence",
        f"in proportion by at most {WORDS[int(peak.LARGEST_STEP)]}",
        rf"w=\frac{{1/{reciprocal(RANGE.usual_weight)}}}{{1+(d/{shown(peak.USUAL_SPREAD)})^2}}",
        rf"$T\ge{rehearsal.SHORTEST_RUN}$ updates",
        f"makes {WORDS[len(rehearsal.OFFSETS)]} short runs",
        rf"L=\lfloor T/{reciprocal(rehearsal.SHARE)}\rfloor$",
        f"none below {rehearsal.LEAST_UPDATES}",
        rf"(T/L)^{{{shown(rehearsal.DRIFT)}}}",
        rf"\min(1,{reciprocal(rehearsal.WARMUP_SHARE)}(i+1)/L)",
        f"mean over its last {FRACTIONS[rehearsal.TAIL_SHARE].removeprefix('a ')}",
        f"from {FRACTIONS[range_ramp.RAMP_DEPTH]} of the peak after rehearsals",
        rf"$n={shown(RANGE.probe_share)}\,T$ updates are made at {WORDS[int(probe.HIGHER)]} times as much",
        f"at most {WORDS[probe.MOST_PROBES]} times",
        f"stands above the start by {FRACTIONS[sweep.UNKNOWN_RISE]} of it",
        f"mean of the last {WORDS[probe.RECENT]} is not below",
        f"less than {WORDS[probe.FEWEST_UPDATES]} are not probed",
        f"below {FRACTIONS[range_probe.LEAST_BASE]} of the reference",
    ],
    "limits.tex": [
        f"A suspicion costs the run {WORDS[suspicion.GRANTED]} updates",
        f"takes back up to {percent(RANGE.probe_share)} of the run",
        f"the level {shown(RANGE.size)}",
        f"the exponent {shown(rehearsal.DRIFT)}",
        f"the {shown(stretch.CLEARLY)} standard errors",
    ],
}  # fmt: skip


def text(name: str) -> str:
    return " ".join((PAPER / name).read_text().split())


@pytest.mark.parametrize(("name", "fact"), [(name, fact) for name, facts in FACTS.items() for fact in facts])
def test_the_text_gives_the_constant_of_the_code(name: str, fact: str) -> None:
    assert fact in text(name)


def test_backing_off_halves() -> None:
    """The text says so in words: spikes halve learning rate and momentum, the variance law halves the factor."""
    assert (SPIKE.backoff, SPIKE.momentum, VARIANCE.backoff) == (0.5, 0.5, 0.5)
    assert "spikes within some 20 steps halve the learning rate and the momentum" in text("main.tex")
    assert rehearsal.OFFSETS == (-0.5, 0.0, 0.5)


def test_batches_become_as_small_as_the_text_says() -> None:
    assert f"{FRACTIONS[SMALL_BATCH / Digits.batch_size]} as large half-way" in text("limits.tex")


def test_the_table_of_workloads_is_that_of_the_readme() -> None:
    """Name, parameters, steps and batch; the number of parameters in the README is tested against the models."""
    documented = {}
    for line in README.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0] in {**workloads.TUNING, **workloads.SET_ASIDE}:
            documented[cells[0]] = (
                cells[4],
                cells[5].removesuffix(" windows").replace("\N{MULTIPLICATION SIGN}", r"$\times$"),
            )
    rows = re.findall(
        r"^([a-z0-9-]+) & .* & ([\d,]+) & (.+) \\\\$", (PAPER / "workloads.tex").read_text(), re.MULTILINE
    )
    assert rows
    assert {name: (parameters, size) for name, parameters, size in rows} == {
        name: documented[name] for name, _, _ in rows
    }
    assert {name for name, _, _ in rows} >= set(workloads.SET_ASIDE)
