"""The one seam: recorded results in, a folder of tables and figures out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptive_lr.study.errors import FailedStudyError, require
from adaptive_lr.study.reports import drawing
from adaptive_lr.study.reports.comparison import Comparison, compare_recipes
from adaptive_lr.study.reports.names import Names
from adaptive_lr.study.reports.result_tables import (
    cells_csv,
    pair_table,
    pairs_csv,
    pooled_table,
    sensitivity_table,
    task_table,
)
from adaptive_lr.study.reports.tables import Table, latex, markdown
from adaptive_lr.study.reports.targets import TimeToTarget, target_table, targets_csv, times_to_target
from adaptive_lr.study.reports.tasks import Measure, Task, collect_tasks
from adaptive_lr.study.run import RunResult

BASELINE = "cosine"
"""What recipes are compared with, unless it is said otherwise."""


@dataclass(frozen=True)
class Report:
    """What there is to say about the results of a study.

    Attributes:
        tasks: workloads x optimizers x horizons.
        comparisons: by measure: one for each optimizer that can be compared.
        targets: optimizer -> how soon each recipe reaches the target on each task.
        tables: file name without suffix -> table.
        names: how things are called.
    """

    tasks: tuple[Task, ...]
    comparisons: Mapping[Measure, tuple[Comparison, ...]]
    targets: Mapping[str, list[TimeToTarget]]
    tables: Mapping[str, Table]
    names: Names

    def first_tables(self) -> list[Table]:
        """What to read first: for each optimizer every task, and all tasks in one number, by the first measure.

        Where nothing can be compared, how much depends on the learning rate.
        """
        measure = next(iter(self.comparisons))
        optimizers = [short(comparison.optimizer) for comparison in self.comparisons[measure]]
        chosen = [f"{kind}-{measure}-{optimizer}" for optimizer in optimizers for kind in ("tasks", "pooled")]
        return [self.tables[name] for name in chosen or (n for n in self.tables if n.startswith("sensitivity-"))]


def make_report(
    searched: Iterable[RunResult],
    reported: Iterable[RunResult] | None = None,
    *,
    baseline: str = BASELINE,
    recipes: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Report:
    """Compute the tables of a study.

    Args:
        searched: runs over learning rates and other settings, of any workloads, optimizers, recipes and horizons; the
            setting with the least mean validation loss is chosen. Failed runs are left out.
        reported: runs at chosen settings, of fresh seeds; None: those of `searched` at the setting chosen, which is a
            little kinder to recipes that were searched more.
        baseline: the recipe that others are compared with.
        recipes: those that are reported, in this order; None: all.
        titles: workload reference -> how it is called; without one, what the reference ends in.

    Raises:
        StudyError: no run was carried out.
    """
    tasks = tuple(collect_tasks(searched, reported, recipes=recipes))
    if not tasks:
        raise FailedStudyError("there is nothing to report: no run was carried out")
    names = Names(tasks, titles or {})
    measures: tuple[Measure, ...] = ("error", "loss") if any(task.scored for task in tasks) else ("loss",)
    comparisons = {measure: tuple(compare_recipes(tasks, baseline, measure)) for measure in measures}
    tables: dict[str, Table] = {}
    for measure, of_measure in comparisons.items():
        for comparison in of_measure:
            ending = f"{measure}-{short(comparison.optimizer)}"
            tables[f"pooled-{ending}"] = pooled_table(comparison, names)
            tables[f"tasks-{ending}"] = task_table(comparison, names)
            tables[f"medians-{ending}"] = task_table(comparison, names, middle=True)
            tables[f"pairs-{ending}"] = pair_table(comparison, names)
    targets = {comparison.optimizer: times_to_target(comparison) for comparison in comparisons["loss"]}
    for comparison in comparisons["loss"]:
        optimizer = comparison.optimizer
        tables[f"targets-{short(optimizer)}"] = target_table(comparison, targets[optimizer], names)
    for optimizer in dict.fromkeys(task.optimizer for task in tasks):
        table = sensitivity_table(tasks, names, optimizer)
        if table is not None:
            tables[f"sensitivity-{short(optimizer)}"] = table
    return Report(tasks, comparisons, targets, tables, names)


def write_reports(
    searched: Iterable[RunResult],
    folder: Path,
    reported: Iterable[RunResult] | None = None,
    *,
    baseline: str = BASELINE,
    recipes: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
    title: str = "Study",
) -> list[Path]:
    """Compute the tables of a study and write all that applies; see `make_report` and `write_report`.

    Args:
        searched: see `make_report`.
        folder: see `write_report`.
        reported: see `make_report`.
        baseline: see `make_report`.
        recipes: see `make_report`.
        titles: see `make_report`.
        title: of the report.

    Returns:
        The files written.

    Raises:
        StudyError: no run was carried out, or matplotlib is not installed.
        OSError: a file cannot be written.
    """
    report = make_report(searched, reported, baseline=baseline, recipes=recipes, titles=titles)
    return write_report(report, folder, title=title)


def write_report(report: Report, folder: Path, *, title: str) -> list[Path]:
    """Write all tables and figures that apply, a pure function of the results: equal results make equal bytes.

    `report.md` has all tables and figures to read; `tables/` each table as a LaTeX `tabular`; `cells.csv`, `pairs.csv`
    and `targets.csv` the numbers at full precision; `figures/` every figure as PDF and PNG. What other files are in the
    folder is left as it is.

    Args:
        report: what to write.
        folder: made if need be.
        title: of the report.

    Returns:
        The files written.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    require("matplotlib")  # found missing now, not after half of the files
    figures, tables = folder / "figures", folder / "tables"
    for directory in (figures, tables):
        directory.mkdir(parents=True, exist_ok=True)
    drawn = draw(report, figures)
    texts = {
        folder / "report.md": _document(report, title, [path.name for path in drawn if path.suffix == ".png"]),
        folder / "cells.csv": cells_csv(report.tasks, report.names),
        folder / "pairs.csv": pairs_csv([c for found in report.comparisons.values() for c in found], report.names),
        folder / "targets.csv": targets_csv([one for found in report.targets.values() for one in found], report.names),
        **{tables / f"{name}.tex": latex(table) for name, table in report.tables.items()},
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return [*texts, *drawn]


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw all figures that apply into a folder that exists.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    files: list[Path] = []
    for comparisons in report.comparisons.values():
        files += drawing.draw_pooled(comparisons, report.names, folder)
    for comparison in report.comparisons["loss"]:
        name = f"targets-{short(comparison.optimizer)}"
        files += drawing.draw_targets(comparison, report.targets[comparison.optimizer], report.names, folder / name)
    files += drawing.draw_budget(report.comparisons["loss"], report.names, folder)
    files += drawing.draw_learning_rates(report.tasks, report.names, folder)
    files += drawing.draw_traces(report.tasks, report.names, folder)
    return files


def short(optimizer: str) -> str:
    """An optimizer's name as part of a file's: of a reference, what it ends in."""
    return optimizer.rpartition(":")[2].lower()


def _document(report: Report, title: str, figures: Iterable[str]) -> str:
    parts = [f"# {title}\n", *map(markdown, report.tables.values())]
    images = "\n\n".join(f"![{name.removesuffix('.png')}](figures/{name})" for name in figures)
    return "\n".join([*parts, f"## Figures\n\n{images}\n"])
