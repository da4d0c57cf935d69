"""From results to numbers: cells (all seeds of one setting) and one line for each recipe."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from adaptive_lr.study.recipe import OPTIMIZERS, RECIPES, find_recipe
from adaptive_lr.study.run import RunResult
from adaptive_lr.study.statistics import (
    Interval,
    PairedDifference,
    clip_losses,
    decades_within,
    holm,
    lr_sensitivity,
    mean_interval,
    paired_difference,
    win_rate,
)
from adaptive_lr.study.workload import Evaluation

NEAR_BEST = 0.01
"""How near to the best accuracy a learning rate must come to count as good: one percentage point."""

UNTRAINED = 0.9
"""A run that ends above this share of its loss at initialisation has learned next to nothing: a rate far too large
leaves most networks there, dead but finite."""


@dataclass(frozen=True)
class Cell:
    """One setting with all its seeds.

    Attributes:
        optimizer, recipe, peak_lr: the setting.
        results: those carried out, in the order of their seeds; at least one.
    """

    optimizer: str
    recipe: str
    peak_lr: float
    results: tuple[RunResult, ...]

    @property
    def initial_losses(self) -> list[float]:
        """Validation loss at initialisation of each seed."""
        return [_known(result.initial).loss for result in self.results]

    @property
    def initial_accuracies(self) -> list[float] | None:
        """Validation accuracy at initialisation of each seed, or None if the workload has none."""
        return _complete([_known(result.initial).accuracy for result in self.results])

    @property
    def validation_losses(self) -> list[float]:
        """Final validation loss of each seed, clipped at the loss at initialisation."""
        losses = [_known(result.validation).loss for result in self.results]
        return [float(loss) for loss in clip_losses(losses, self.initial_losses)]

    @property
    def test_losses(self) -> list[float]:
        """Final test loss of each seed, clipped at the (validation) loss at initialisation."""
        losses = [_known(result.test).loss for result in self.results]
        return [float(loss) for loss in clip_losses(losses, self.initial_losses)]

    @property
    def test_accuracies(self) -> list[float] | None:
        """Final test accuracy of each seed, or None if the workload has none."""
        return _complete([_known(result.test).accuracy for result in self.results])

    @property
    def diverged(self) -> int:
        """Runs whose loss ended as no finite number."""
        return sum(result.status == "diverged" for result in self.results)

    @property
    def untrained(self) -> int:
        """Runs that ended above `UNTRAINED` of their loss at initialisation, diverged ones among them."""
        pairs = zip(self.validation_losses, self.initial_losses, strict=True)
        return sum(loss > UNTRAINED * initial for loss, initial in pairs)


@dataclass(frozen=True)
class RecipeSummary:
    """One recipe with one optimizer over its whole grid of peak learning rates.

    The best peak is the one of least mean validation loss; what is reported there is the test split.

    Attributes:
        optimizer, recipe: names.
        cells: ascending in peak learning rate.
        best: the best cell.
        at_edge: whether the best peak is the first or last of several: the grid may be too narrow.
        validation_loss, test_loss, test_accuracy: at the best peak, with t-intervals over seeds.
        sensitivity: learning-rate sensitivity of the validation loss, see `statistics.lr_sensitivity`.
        good_decades: see `statistics.decades_within`, of the mean test accuracy, within one point of the best that any
            recipe reaches with this optimizer; NaN without accuracies.
        worst: the cell of highest mean test loss (of lowest mean test accuracy, if there are accuracies).
        untrained: share of all runs that are untrained, see `Cell.untrained`.
        difference: test accuracy (loss, without accuracies) minus that of the fixed partner, paired by seed, at the
            partner's best peak; None for fixed recipes and where nothing can be paired.
        adjusted_p: its p-value after Holm, over all differences that are summarised together; None without one.
        wins: share of those seeds in which it is the better one, a tie being half a win; None without a difference.
    """

    optimizer: str
    recipe: str
    cells: tuple[Cell, ...]
    best: Cell
    at_edge: bool
    validation_loss: Interval
    test_loss: Interval
    test_accuracy: Interval | None
    sensitivity: float
    good_decades: float
    worst: Cell
    untrained: float
    difference: PairedDifference | None
    adjusted_p: float | None = None
    wins: float | None = None

    @property
    def median(self) -> float:
        """Of the test accuracies at the best peak (of the losses, without accuracies)."""
        accuracies = self.best.test_accuracies
        return median(self.best.test_losses if accuracies is None else accuracies)


def collect_cells(results: Iterable[RunResult]) -> list[Cell]:
    """Group results into cells, ordered by optimizer, recipe and peak. Failed runs are left out."""
    groups: dict[tuple[str, str, float], list[RunResult]] = defaultdict(list)
    for result in results:
        if result.ok:
            groups[result.run.optimizer, result.run.recipe, result.run.peak_lr].append(result)
    # In the order of the tables; a user's own come after those that have a name here.
    optimizers, recipes = (
        {name: place for place, name in enumerate(dict.fromkeys([*named, *(setting[i] for setting in groups)]))}
        for i, named in enumerate((OPTIMIZERS, RECIPES))
    )
    ordered = sorted(groups, key=lambda setting: (optimizers[setting[0]], recipes[setting[1]], setting[2]))
    return [Cell(*setting, tuple(sorted(groups[setting], key=lambda result: result.run.seed))) for setting in ordered]


def summarise(results: Iterable[RunResult]) -> list[RecipeSummary]:
    """One summary for each optimizer and recipe that has results, in the order of their tables."""
    grids: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in collect_cells(results):
        grids[cell.optimizer, cell.recipe].append(cell)
    best = {setting: min(cells, key=lambda cell: fmean(cell.validation_losses)) for setting, cells in grids.items()}
    targets: dict[str, float] = defaultdict(lambda: -math.inf)
    for (optimizer, _), cells in grids.items():
        targets[optimizer] = max([targets[optimizer], *(fmean(cell.test_accuracies or [-math.inf]) for cell in cells)])
    summaries = [
        _summarise(cells, best[setting], targets[setting[0]], _partner(setting, grids, best))
        for setting, cells in grids.items()
    ]
    compared = [summary.difference for summary in summaries if summary.difference is not None]
    adjusted = iter(holm([difference.p_value for difference in compared]).tolist())
    return [s if s.difference is None else replace(s, adjusted_p=next(adjusted)) for s in summaries]


def _summarise(cells: Sequence[Cell], best: Cell, target: float, partner: tuple[Cell, Cell] | None) -> RecipeSummary:
    accuracies = [cell.test_accuracies for cell in cells]
    known = [values for values in accuracies if values is not None]
    complete = len(known) == len(cells)
    means = [fmean(values) for values in known]
    rates = [cell.peak_lr for cell in cells]
    difference, wins = _difference(*partner) if partner is not None else (None, None)
    return RecipeSummary(
        optimizer=best.optimizer,
        recipe=best.recipe,
        cells=tuple(cells),
        best=best,
        at_edge=len(cells) > 1 and best.peak_lr in (rates[0], rates[-1]),
        validation_loss=mean_interval(best.validation_losses),
        test_loss=mean_interval(best.test_losses),
        test_accuracy=mean_interval(best.test_accuracies) if best.test_accuracies is not None else None,
        sensitivity=lr_sensitivity([cell.validation_losses for cell in cells], [cell.initial_losses for cell in cells]),
        good_decades=decades_within(rates, means, target=target, margin=NEAR_BEST) if complete else math.nan,
        worst=(cells[means.index(min(means))] if complete else max(cells, key=lambda cell: fmean(cell.test_losses))),
        untrained=sum(cell.untrained for cell in cells) / sum(len(cell.results) for cell in cells),
        difference=difference,
        wins=wins,
    )


def _partner(
    setting: tuple[str, str], grids: dict[tuple[str, str], list[Cell]], best: dict[tuple[str, str], Cell]
) -> tuple[Cell, Cell] | None:
    """The cell of an adaptive recipe at its partner's best peak, and the partner's cell there."""
    optimizer, recipe = setting
    control = best.get((optimizer, find_recipe(recipe).partner or ""))
    if control is None:
        return None
    treated = [cell for cell in grids[setting] if cell.peak_lr == control.peak_lr]
    return (treated[0], control) if treated else None


def _difference(treated: Cell, control: Cell) -> tuple[PairedDifference, float] | tuple[None, None]:
    """Of accuracies, or of losses, and the share of seeds in which `treated` is better."""
    scored = treated.test_accuracies is not None

    def by_seed(cell: Cell) -> dict[int, float]:
        values = cell.test_accuracies if cell.test_accuracies is not None else cell.test_losses
        return {result.run.seed: value for result, value in zip(cell.results, values, strict=True)}

    first, second = by_seed(treated), by_seed(control)
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None, None
    pairs = [first[seed] for seed in shared], [second[seed] for seed in shared]
    wins = win_rate(*pairs)
    return paired_difference(*pairs), wins if scored else 1.0 - wins


def _complete(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _known(evaluation: Evaluation | None) -> Evaluation:
    assert evaluation is not None, "only runs that were carried out are summarised"
    return evaluation
