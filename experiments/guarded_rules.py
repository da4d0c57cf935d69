"""Rules for a peak that is given and may be too large: `python -m experiments.guarded_rules [--seeds 2] [--rules ...]`.

Every rule is run on every workload for tuning, with SGD and with AdamW, at the tuned learning rate of
`results/robustness.json` and at 10 and 30 times as much. Finished runs are kept in `runs/robustness`, beside those of
`experiments.robustness`, and not repeated. At the end it writes all that was ever finished with the present code to
`results/guarded_rules.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

from adaptive_lr import controllers
from adaptive_lr.controllers import Adjustment, Composition, Controller, GradientSpike, LossVariance, Rescue
from adaptive_lr.controllers.base import Reason
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.study import Run, RunResult, StudyError, StudyFolder, recipe
from adaptive_lr.study.sources import control_digest
from adaptive_lr.study.study import check_workload
from experiments.records import RECORD
from experiments.robustness import rate
from experiments.workloads import TUNING

HALF_DECADES = (0, 2, 3)
"""Above the tuned learning rate: 1, 10 and 30 times as much."""


class HoldFromStartState(NamedTuple):
    """The highest learning rate allowed, in units of the base; 0 while none is."""

    ceiling: float = 0.0
    base: float = 0.0
    factor: float = 1.0


@dataclass(frozen=True)
class HoldFromStart(Controller[HoldFromStartState]):
    """While the base learning rate rises, hold it where the update-to-weight ratio first passes a level.

    Args:
        level: that ratio.
    """

    phase: ClassVar[Phase] = Phase.AFTER
    level: float = 0.14

    @property
    def requires(self) -> frozenset[str]:
        """The ratio and the base learning rate."""
        return frozenset(("update_ratio", "base_lr"))

    def init(self) -> HoldFromStartState:
        """No ceiling."""
        return HoldFromStartState()

    def update(self, state: HoldFromStartState, statistics: Statistics) -> tuple[HoldFromStartState, Adjustment]:
        """One update more."""
        base, ratio = statistics.get("base_lr"), statistics.get("update_ratio")
        if base is None or ratio is None:
            return state, Adjustment(factor=state.factor)
        rises, following = base > state.base, 2.0 * base - state.base if state.base else base
        ceiling = state.ceiling
        if rises and not ceiling and not ratio <= self.level:
            ceiling = base * self.level / ratio if ratio < 1e9 else base * 1e-9
        factor = min(1.0, ceiling / following) if ceiling and rises else state.factor
        following_state = HoldFromStartState(ceiling, max(base, state.base), factor)
        if factor == state.factor:
            return following_state, Adjustment(factor=factor)
        reason = Reason("hold", "update_ratio", ratio, self.level, f"the learning rate is held at {ceiling:.4g}")
        return following_state, Adjustment(factor=factor, reasons=(reason,))


@dataclass(frozen=True)
class Without(Controller[Any]):
    """A law from which one statistic is hidden.

    Args:
        law: the law.
        hidden: the name of the statistic.
    """

    law: Controller[Any]
    hidden: str

    @property
    def requires(self) -> frozenset[str]:
        """What the law requires."""
        return self.law.requires

    def needs_snapshot(self, state: Any) -> bool:
        """As the law does."""
        return self.law.needs_snapshot(state)

    def init(self) -> Any:
        """As the law begins."""
        return self.law.init()

    def update(self, state: Any, statistics: Statistics) -> tuple[Any, Adjustment]:
        """The law's update on the row without the statistic."""
        shown = {name: value for name, value in statistics.values.items() if name != self.hidden}
        return self.law.update(state, replace(statistics, values=shown))


def _laws(*laws: Controller[Any]) -> Callable[[int], Composition]:
    return lambda total_steps: Composition(laws, min_factor=1e-8, max_factor=1.0)


RULES: Mapping[str, Callable[[int], Composition] | None] = {
    "fixed": None,
    "guarded": lambda total_steps: controllers.guarded(),
    "without the update-to-weight ratio": _laws(Without(Rescue(), "update_ratio"), GradientSpike(), LossVariance()),
    "without the loss": _laws(Without(Rescue(), "loss"), GradientSpike()),
    "without the norm score": _laws(Rescue(), LossVariance()),
    "without LossVariance": _laws(Rescue(), GradientSpike()),
    "without snapshots": lambda total_steps: controllers.guarded(snapshots=False),
    "hold at ratio 0.14 from the start": _laws(HoldFromStart(), GradientSpike(), LossVariance()),
}
"""Name -> the laws layered over the cosine schedule."""


def register() -> None:
    """Make each rule a recipe, so that runs are carried out and kept as a study's are."""
    base = recipe.RECIPES["cosine"]
    recipe.RECIPES = {
        **recipe.RECIPES,
        **{name: replace(base, name=name, controllers=laws, partner="cosine") for name, laws in RULES.items() if laws},
    }


def recipe_of(rule: str) -> str:
    """The recipe that carries a rule out; two have a name of their own, under which other studies keep their runs."""
    return {"fixed": "cosine", "guarded": "cosine+guarded"}.get(rule, rule)


@dataclass(frozen=True)
class Cell:
    """What came of one rule on one pair, means over seeds.

    Attributes:
        gaps: at each of `HALF_DECADES`: points of accuracy lost to tuned, or the ratio of losses where there is none.
        interventions: decisions per 1,000 steps at the tuned learning rate.
        loss_change: of the validation loss at the tuned learning rate, against the fixed schedule; 0.01 is 1 %.
        in_points: whether gaps are points.
    """

    gaps: tuple[float, ...]
    interventions: float
    loss_change: float
    in_points: bool

    def __str__(self) -> str:
        return " / ".join(f"{gap:+.1f}" if self.in_points else f"{gap:.3g}x" for gap in self.gaps)


def measure(rule: str, pair: Mapping[str, Any], folder: StudyFolder, seeds: int, *, missing: bool) -> Cell | None:
    """One rule on one workload with one optimizer; None where runs are missing.

    Args:
        rule: a name in `RULES`.
        pair: of the robustness study, with its tuned learning rate.
        folder: where runs are kept.
        seeds: repetitions.
        missing: whether missing runs are carried out.

    Raises:
        StudyError: a run failed.
    """
    name, tuned = pair["workload"], pair["tuned"]
    steps = check_workload(TUNING[name]).total_steps
    exponent = next(n for n in range(-20, 10) if abs(rate(n) / tuned["lr"] - 1.0) < 1e-6)

    def results(recipe_name: str, above: int) -> list[RunResult]:
        given = rate(exponent + above)
        runs = [Run(TUNING[name], pair["optimizer"], recipe_name, given, seed, steps) for seed in range(seeds)]
        found = folder.complete(runs, jobs=1) if missing else folder.finished(runs)
        if missing and len(found) < len(runs):
            raise StudyError(f"runs of {name} failed (tracebacks are in {folder.store.directory})")
        return [found[run] for run in runs if run in found]

    rows = [results(recipe_of(rule), above) for above in HALF_DECADES]
    reference = results("cosine", 0)
    if any(len(row) < seeds for row in (*rows, reference)):
        return None
    decisions = sum(result.num_decisions for result in rows[0])
    return Cell(
        gaps=tuple(gap(row, reference) for row in rows),
        interventions=1000.0 * decisions / (steps * seeds),
        loss_change=_loss(rows[0], "validation") / _loss(reference, "validation") - 1.0,
        in_points=reference[0].test is not None and reference[0].test.accuracy is not None,
    )


def gap(row: Sequence[RunResult], reference: Sequence[RunResult]) -> float:
    """What is missing on the test split: points of accuracy, or the ratio of losses."""
    accuracies, best = ([_part(r, "test").accuracy for r in results] for results in (row, reference))
    if best[0] is None:
        return _loss(row, "test") / _loss(reference, "test")
    return 100.0 * (fmean(best) - fmean(accuracies))


def _part(result: RunResult, split: str) -> Any:
    return getattr(result, split)


def _loss(row: Sequence[RunResult], split: str) -> float:
    """Mean over seeds, each clipped at the loss at initialisation."""
    return fmean(min(_part(result, split).loss, _part(result, "initial").loss) for result in row)


def markdown(cells: Mapping[tuple[str, str, str], Cell], names: Sequence[str], seeds: int) -> str:
    """The record."""
    lines = [
        "# Rules for a peak that is given",
        "",
        f"`{' '.join(['python', '-m', 'experiments.guarded_rules', *sys.argv[1:]])}`, "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {seeds} seeds a run; code of control {control_digest()[:12]}.",
        "",
        "What is missing to the fixed schedule at its tuned peak, when the peak given is 1 / 10 / 30 times as much:",
        "points of accuracy, or the ratio of losses (x) where there is none; lower is better. *Interventions*:",
        "decisions per 1,000 steps at the tuned peak, mean over pairs. *Harm*: the largest rise of the mean validation",
        "loss there. *Not run*: a rule was tried on some workloads only.",
    ]
    for optimizer in ("sgd", "adamw"):
        lines += ["", f"## {optimizer}", "", "| rule | " + " | ".join(names) + " | interventions | harm |"]
        lines.append("| --- |" + " ---: |" * (len(names) + 2))
        for rule in RULES:
            row = [cells.get((rule, name, optimizer)) for name in names]
            known = [cell for cell in row if cell is not None]
            if known:
                often, harm = fmean(c.interventions for c in known), max(c.loss_change for c in known)
                shown = ["not run" if cell is None else str(cell) for cell in row]
                lines.append(f"| {rule} | " + " | ".join(shown) + f" | {often:.2f} | {harm:+.1%} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line, carry out what is missing, print each cell, and write the record."""
    pairs = json.loads((RECORD / "robustness.json").read_text())["pairs"]
    known = list(dict.fromkeys(pair["workload"] for pair in pairs))
    parser = argparse.ArgumentParser(prog="python -m experiments.guarded_rules", description=__doc__.split(":")[0])
    parser.add_argument("--workloads", nargs="+", default=known, choices=known, metavar="NAME", help="default: all")
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES), metavar="RULE", help="or some")
    parser.add_argument("--seeds", type=int, default=2, help="repetitions (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/robustness"), help="runs (default: %(default)s)")
    parser.add_argument("--record", type=Path, default=RECORD, help="tables (default: results/ beside this file)")
    arguments = parser.parse_args()
    register()
    cells = {}
    for rule in RULES:
        for pair in pairs:
            name, optimizer = pair["workload"], pair["optimizer"]
            folder = StudyFolder(arguments.output / name)
            folder.prepare()
            asked = rule in arguments.rules and name in arguments.workloads
            cell = measure(rule, pair, folder, arguments.seeds, missing=asked)
            if cell is not None:
                cells[rule, name, optimizer] = cell
                print(f"{rule:36} {name:14}{optimizer:6} {cell}  {cell.interventions:.2f} {cell.loss_change:+.1%}",
                      flush=True)  # fmt: skip
    (arguments.record / "guarded_rules.md").write_text(markdown(cells, known, arguments.seeds))


if __name__ == "__main__":
    main()
