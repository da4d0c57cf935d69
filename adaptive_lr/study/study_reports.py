"""The reports of a study: one call that writes all there is to read of what was recorded, budget by budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from adaptive_lr.study import reports
from adaptive_lr.study.budget import Budget, Point
from adaptive_lr.study.job import Standing, edges
from adaptive_lr.study.references import canonical
from adaptive_lr.study.reports.writing import BASELINE
from adaptive_lr.study.run import Run, RunResult
from adaptive_lr.study.study import Group, Study, group_of
from adaptive_lr.study.tensorboard import TUNED, aggregate
from adaptive_lr.study.workload import load_workload, title_of


class BudgetReport(NamedTuple):
    """The report of one budget.

    Attributes:
        budget: of which it is, or nothing without tuning.
        report: tables, and what figures are drawn from.
    """

    budget: str
    report: reports.Report


class Part(NamedTuple):
    """What is reported together.

    Attributes:
        budget: of which it is, or nothing without tuning.
        searched: the runs from which a setting was chosen; without tuning all.
        reported: those of fresh seeds at the settings chosen, or None without tuning.
    """

    budget: str
    searched: list[RunResult]
    reported: list[RunResult] | None


def parts(study: Study, now: Standing) -> Iterator[Part]:
    """What there is to report of a study: one part, or one for each budget of its tuning."""
    if study.tuning is None:
        yield Part("", now.reported_results(), None)
        return
    for text in dict.fromkeys(study.tuning.budgets):
        budget = Budget.parse(text)
        tried = {(group, point) for group in study.groups() for point in study.points(group, budget)}
        chosen = {(choice.group, choice.point) for choice in now.choices if choice.budget == text}
        searched = [now.results[run] for run in now.tuning if _setting(run) in tried and now.results[run].ok]
        yield Part(text, searched, [result for result in now.reported_results() if _setting(result.run) in chosen])


def baseline_of(study: Study) -> str:
    """What the recipes of a study are compared with: the usual baseline, or without it the study's first recipe."""
    return BASELINE if BASELINE in study.recipes else study.recipes[0]


def titles_of(study: Study) -> dict[str, str]:
    """Workload reference -> how tables and figures call it."""
    return {workload: title_of(load_workload(workload)) for workload in study.workloads}


def make_reports(study: Study, now: Standing) -> list[BudgetReport]:
    """Compute the tables of a study, for each budget.

    Raises:
        StudyError: of some budget no run was carried out.
    """
    baseline, titles = baseline_of(study), titles_of(study)
    return [
        BudgetReport(part.budget, reports.make_report(part.searched, part.reported, baseline=baseline, titles=titles))
        for part in parts(study, now)
    ]


def write_reports(study: Study, now: Standing, folder: Path, made: Sequence[BudgetReport] | None = None) -> list[Path]:
    """Write tables and figures of a study; with tuning, into a folder for each budget.

    Args:
        study: what was asked for.
        now: what there is of it.
        folder: where reports go; made if need be.
        made: what `make_reports` has computed, or None.

    Returns:
        The files that were written.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    written: list[Path] = []
    for budget, report in make_reports(study, now) if made is None else made:
        title = f"{study.name}, {budget}" if budget else study.name
        written += reports.write_report(report, folder / budget, title=title)
    if now.choices:
        (folder / "choices.md").write_text(choices_table(now))
        written.append(folder / "choices.md")
    return written


def write_tensorboard(study: Study, now: Standing, folder: Path) -> list[Path]:
    """Write all seeds of each setting as one TensorBoard run with a band; with tuning, into a folder for each budget.

    Args:
        study: what was asked for.
        now: what there is of it.
        folder: where to; made if need be.

    Returns:
        The folders of the runs at the settings chosen.

    Raises:
        OSError: a file cannot be written.
    """
    titles = titles_of(study)
    return [
        path
        for part in parts(study, now)
        for path in aggregate(part.searched, folder / part.budget, part.reported, titles=titles)[TUNED]
    ]


def choices_table(now: Standing) -> str:
    """What tuning chose, and what came of it with fresh seeds, as Markdown."""
    headings = ("workload", "steps", "optimizer", "recipe", "budget", "LR", "settings", "validation loss, tuning",
                "test loss", "runs", "tuning updates")  # fmt: skip
    lines = [headings, ("---",) * len(headings)]
    reported: dict[tuple[Group, Point], list[float]] = defaultdict(list)
    for result in now.reported_results():
        assert result.test is not None
        reported[_setting(result.run)].append(result.test.loss)
    for choice in now.choices:
        group, losses = choice.group, reported[choice.group, choice.point]
        lines.append(
            (
                canonical(group.workload),
                str(group.steps),
                canonical(group.optimizer),
                canonical(group.recipe),
                choice.budget,
                f"{choice.point.peak_lr:g}{'*' if choice.at_edge else ''}",
                ", ".join(f"{name} {value:g}" for name, value in choice.point.settings),
                f"{choice.validation_loss:.4g}" if choice.tried else "",
                f"{median(losses):.4g}" if losses else "",
                str(len(losses)),
                str(choice.updates),
            )
        )
    table = [f"| {' | '.join(line)} |" for line in lines]
    notes = ["Test loss: the median over seeds.", *(f"\\* {sentence}." for sentence in edges(now.choices))]
    return "\n".join(table) + "\n\n" + "\n\n".join(notes) + "\n"


def _setting(run: Run) -> tuple[Group, Point]:
    return group_of(run), Point(run.peak_lr, run.settings)
