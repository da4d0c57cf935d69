"""What a recipe may try before it is judged: one customary setting, a grid of learning rates, or a search."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.recipe import Recipe

BUDGETS = ("default", "grid-7", "search-20")
"""The usual ones. Any number of points can be asked for."""

DECADES = 1.5
"""How far a search for the learning rate goes to either side of the centre; seven half-decades span the same."""

SEARCH_SEED = 0
"""Of the scrambling: every recipe gets the same points, as far as it has the same settings."""


class Point(NamedTuple):
    """One setting of a recipe that is tried.

    Attributes:
        peak_lr: the learning rate given.
        settings: (name, value) of what else is not at its default, by name.
    """

    peak_lr: float
    settings: tuple[tuple[str, float], ...] = ()


class Budget(NamedTuple):
    """How many settings every recipe may try.

    Attributes:
        kind: "default", "grid" (learning rates, half a decade apart) or "search" (quasi-random, over the learning rate
            and the recipe's own settings).
        size: points.
    """

    kind: str
    size: int

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From a text like `BUDGETS`.

        Raises:
            StudyError: it is not of that form, or too small.
        """
        match = re.fullmatch(r"(grid|search)-(\d+)", str(text))
        if text == "default":
            return cls("default", 1)
        if match is None or int(match[2]) < 2:
            raise StudyError(f"a budget is one of {', '.join(BUDGETS)} (or another number >= 2), got {text!r}")
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return self.kind if self.kind == "default" else f"{self.kind}-{self.size}"

    def points(self, recipe: Recipe, centre: float, learning_rates: Sequence[float] | None = None) -> list[Point]:
        """What is tried of a recipe.

        Args:
            recipe: whose settings are searched.
            centre: the customary learning rate.
            learning_rates: a grid of one's own, `size` long; None: half-decades around the centre.
        """
        if self.kind == "default":
            return [Point(centre)]
        if self.kind == "grid":
            rates = learning_rates or [
                _rounded(centre * 10.0 ** (k / 2)) for k in range(-(self.size // 2), (self.size + 1) // 2)
            ]
            return [Point(rate) for rate in sorted(rates)]
        return [_placed(recipe, centre, unit) for unit in _halton(self.size, 1 + len(recipe.settings))]


def at_edge(chosen: Point, points: Sequence[Point]) -> tuple[str, ...]:
    """What of a choice lies at the first or last value that was tried: the best may lie beyond."""

    def values(point: Point) -> dict[str, float]:
        return {"learning rate": point.peak_lr, **dict(point.settings)}

    here, tried = values(chosen), [values(point) for point in points]
    edges = {name: (min(each[name] for each in tried), max(each[name] for each in tried)) for name in here}
    return tuple(name for name, (low, high) in edges.items() if low < high and here[name] in (low, high))


def centre_of(recipe: Recipe, optimizer: str, default_lr: float, centres: Mapping[str, float]) -> float:
    """The learning rate around which a recipe is tuned: the workload's, or the optimizer's.

    A recipe whose customary learning rate is another than its optimizer's is given as many times the centre.
    """
    ratio = recipe.default_lrs.get(optimizer, default_lr) / default_lr
    return _rounded(centres.get(optimizer, default_lr) * ratio)


def _halton(size: int, dimensions: int) -> list[list[float]]:
    from scipy.stats import qmc

    halton: Any = qmc.Halton
    # Dimension by dimension, so that a setting more leaves the learning rates as they are.
    columns = [
        halton(dimension + 1, scramble=True, seed=SEARCH_SEED).random(size)[:, dimension]
        for dimension in range(dimensions)
    ]
    return [[float(value) for value in row] for row in zip(*columns, strict=True)]


def _placed(recipe: Recipe, centre: float, unit: Sequence[float]) -> Point:
    rate = _rounded(centre * 10.0 ** (DECADES * (2.0 * unit[0] - 1.0)))
    settings = {}
    for (name, setting), share in zip(recipe.settings.items(), unit[1:], strict=True):
        low, high = (math.log(setting.low), math.log(setting.high)) if setting.log else (setting.low, setting.high)
        value = low + share * (high - low)
        settings[name] = _rounded(math.exp(value) if setting.log else value)
    return Point(rate, tuple(sorted(settings.items())))


def _rounded(value: float) -> float:
    """To three digits: what is tried can be read, written down and given again."""
    return float(f"{value:.3g}")
