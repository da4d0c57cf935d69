"""LR range tests of a workload over several seeds: how much what they suggest varies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from adaptive_lr.lr_range_test import RangeTestResult, range_test
from adaptive_lr.study.errors import FailedStudyError, StudyError, require
from adaptive_lr.study.recipe import OPTIMIZERS, find_optimizer
from adaptive_lr.study.references import describe
from adaptive_lr.study.run import derive_seed, environment
from adaptive_lr.study.study import check_workload
from adaptive_lr.study.workload import Workload, fingerprint, trainable

if TYPE_CHECKING:
    from rich.table import Table

RULES = ("suggestion", "steepest", "valley", "slide", "minimum")
"""The rules in the order of tables and figures."""

NAMES = {"suggestion": "adaptive-lr", "minimum": "minimum/10"}
"""How rules are called there, where not by their own name."""

NOTE = (
    "Mean: geometric. Spread: standard deviation over seeds, in decades. adaptive-lr: the peak that "
    "controllers.RangeTest sets; the others are the classic rules as published. minimum/10: a tenth of where the loss "
    "is lowest, `suggestions['minimum']` in results.json. Interval: where the loss falls."
)


@dataclass(frozen=True)
class RangeStudy:
    """What is swept.

    Args:
        workload: a reference that `load_workload` understands.
        optimizers: names of optimizers; all by default.
        start_lr, end_lr: the range, 0 < start_lr < end_lr.
        steps: updates of each sweep, >= 2.
        seeds: repetitions, >= 1: weights and batches.

    Raises:
        StudyError: something is unknown or out of range.
    """

    workload: str = "digits"
    optimizers: Sequence[str] = tuple(OPTIMIZERS)
    start_lr: float = 1e-7
    end_lr: float = 10.0
    steps: int = 100
    seeds: int = 5

    def __post_init__(self) -> None:
        for name in self.optimizers:
            find_optimizer(name)
        if not self.optimizers:
            raise StudyError("optimizers must not be empty")
        if not 0.0 < self.start_lr < self.end_lr < math.inf:
            raise StudyError(
                f"the range must satisfy 0 < start-lr < end-lr, got start-lr={self.start_lr:g}, end-lr={self.end_lr:g}"
            )
        if self.steps < 2:
            raise StudyError(f"steps must be >= 2, got {self.steps}")
        if self.seeds < 1:
            raise StudyError(f"seeds must be >= 1, got {self.seeds}")


@dataclass(frozen=True)
class Spread:
    """What one rule suggests over seeds.

    Attributes:
        count: seeds in which it suggests something.
        mean: geometric mean; None without any.
        spread: standard deviation in decades; None with fewer than two.
        low, high: the extremes.
    """

    count: int
    mean: float | None = None
    spread: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Spread:
        """The spread of learning rates, None where a rule has none."""
        given = [value for value in values if value is not None]
        if not given:
            return cls(0)
        decades = np.log10(given)
        spread = float(np.std(decades, ddof=1)) if len(given) > 1 else None
        return cls(len(given), float(10.0 ** np.mean(decades)), spread, min(given), max(given))


def sweep_all(
    study: RangeStudy, progress: Callable[[str, int, int, int], object] | None = None
) -> dict[str, list[RangeTestResult]]:
    """Sweep, on one thread, with torch's random state left as it was found.

    Args:
        study: what to do.
        progress: called after each update with the optimizer, the seed, and the updates done and planned.

    Returns:
        For each optimizer the results in the order of the seeds.

    Raises:
        StudyError: the workload cannot be used or raises.
    """
    workload = check_workload(study.workload)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            return {
                optimizer: [_sweep(study, workload, optimizer, seed, progress) for seed in range(study.seeds)]
                for optimizer in dict.fromkeys(study.optimizers)
            }
    except StudyError:
        raise
    except Exception as error:
        raise FailedStudyError(f"workload {workload.name!r} raises during the sweep: {describe(error)}") from error
    finally:
        torch.set_num_threads(threads)


def _sweep(
    study: RangeStudy,
    workload: Workload,
    optimizer: str,
    seed: int,
    progress: Callable[[str, int, int, int], object] | None,
) -> RangeTestResult:
    weights = derive_seed(workload.name, seed, "weights")
    torch.manual_seed(weights)
    model = workload.build_model(weights)
    torch.manual_seed(weights)
    batches: Iterator[tuple[Any, None]] = (
        (batch, None) for batch in workload.batches(derive_seed(workload.name, seed, "batches"))
    )
    return range_test(
        _Objective(workload, model),
        find_optimizer(optimizer).build(trainable(workload, model, study.start_lr), study.start_lr),
        lambda loss, _: loss,
        batches,
        start_lr=study.start_lr,
        end_lr=study.end_lr,
        steps=study.steps,
        total_steps=workload.total_steps,
        progress=None if progress is None else lambda done, steps: progress(optimizer, seed, done, steps),
    )


class _Objective(nn.Module):
    """A workload's model that gives the loss of a batch."""

    def __init__(self, workload: Workload, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._workload = workload

    def forward(self, batch: Any) -> Tensor:
        return self._workload.loss(self.model, batch)


# ---------------------------------------------------------------- tables and records


def spreads(results: Sequence[RangeTestResult]) -> dict[str, Spread]:
    """The spread of every rule over the results of one optimizer, and of both ends of the interval."""
    values = {name: [value(result, name) for result in results] for name in RULES}
    ends = [result.interval or (None, None) for result in results]
    return {
        **{name: Spread.of(given) for name, given in values.items()},
        "interval low": Spread.of([low for low, _ in ends]),
        "interval high": Spread.of([high for _, high in ends]),
    }


def value(result: RangeTestResult, rule: str) -> float | None:
    """What a rule suggests."""
    return result.suggestion if rule == "suggestion" else result.suggestions[rule]


def rows(results: Sequence[RangeTestResult]) -> list[list[str]]:
    """The lines of the table of one optimizer, under `HEADINGS`."""
    return [
        [
            NAMES.get(name, name),
            _text(spread.mean),
            "-" if spread.spread is None else f"{spread.spread:.2f}",
            "-" if spread.low is None else f"{_text(spread.low)} to {_text(spread.high)}",
            f"{spread.count} of {len(results)}",
        ]
        for name, spread in spreads(results).items()
    ]


def outside(results: Sequence[RangeTestResult]) -> list[str]:
    """A sentence where suggestions lie outside the interval of their own sweep; none where all lie inside."""
    pairs = [(r.suggestion, r.interval) for r in results if r.suggestion is not None and r.interval is not None]
    count = sum(not low <= suggestion <= high for suggestion, (low, high) in pairs)
    if not count:
        return []
    return [
        f"In {count} of {len(results)} sweeps the suggestion of adaptive-lr lies outside the interval: it is measured "
        "by the size of updates, or by where the loss diverges, and drawn towards what is usual for the optimizer."
    ]


HEADINGS = ("rule", "mean", "spread", "range", "seeds")


def terminal_table(optimizer: str, results: Sequence[RangeTestResult]) -> Table:
    """One rich table.

    Raises:
        StudyError: rich is not installed.
    """
    box = require("rich.box").SIMPLE_HEAD
    table: Table = require("rich.table").Table(
        title=find_optimizer(optimizer).label, title_justify="left", title_style="bold", box=box, pad_edge=False
    )
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    for line in rows(results):
        table.add_row(*line, style="bold" if line[0] == NAMES["suggestion"] else "")
    return table


def markdown(results: Mapping[str, Sequence[RangeTestResult]]) -> str:
    """The same tables as Markdown."""
    parts = []
    for optimizer, of_one in results.items():
        lines = [list(HEADINGS), ["---", *["---:"] * (len(HEADINGS) - 1)], *rows(of_one)]
        parts.append(
            f"## {find_optimizer(optimizer).label}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
        )
        parts.extend(outside(of_one))
    return "\n\n".join([*parts, NOTE]) + "\n"


def record(study: RangeStudy, results: Mapping[str, Sequence[RangeTestResult]]) -> dict[str, Any]:
    """Everything as plain values; numbers that are not finite are the strings that `float` reads."""
    plain: dict[str, Any] = _plain(
        {
            "study": {**asdict(study), "workload_source": fingerprint(study.workload)},
            "environment": environment(),
            "results": {
                optimizer: {
                    "settings": dict(find_optimizer(optimizer).settings),
                    "sweeps": [{"seed": seed, **asdict(result)} for seed, result in enumerate(of_one)],
                    "spreads": {name: asdict(spread) for name, spread in spreads(of_one).items()},
                }
                for optimizer, of_one in results.items()
            },
        }
    )
    return plain


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
