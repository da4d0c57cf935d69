"""The main job: carry out a study with a progress bar, and leave its folder with everything in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adaptive_lr.study.errors import StudyError, require
from adaptive_lr.study.figure import ERROR, draw
from adaptive_lr.study.recipe import RECIPES
from adaptive_lr.study.report import NOTES, csv_text, has_accuracies, markdown, terminal_tables
from adaptive_lr.study.run import Run, RunResult
from adaptive_lr.study.study import TENSORBOARD_SEED, Study, StudyFolder, check_workload
from adaptive_lr.study.summary import RecipeSummary, summarise
from adaptive_lr.study.tensorboard import export
from adaptive_lr.study.workload import title_of

PIPE_WIDTH = 120
"""Characters in a line where the output is no terminal."""

README = """\
# {name}: adaptive against fixed schedules

| what | where |
| --- | --- |
| the tables, to read | `table.md` |
| the numbers behind them, every optimizer, recipe and learning rate | `table.csv` |
| final validation loss against the learning rate given; the flatter, the safer | `figure.pdf`, `figure.png` |
{error_figure}| one record a run: configuration, curves, decisions, versions (float64 JSON) | `results/<hash>.json` |
{tensorboard}
The study: workload `{workload}`, {steps} steps a run, seeds 0 to {last_seed}, {runs} runs. Every recipe is
given the same learning rates: the peaks of its schedule, unless it finds its own.

{recipes}

The same command again carries out only what is missing here, and writes tables and figures anew.
`adaptive-lr explain` on the folder of an adaptive run in `tensorboard/` says what was changed, when and why.
"""

ERROR_LINE = "| the same for the error on the test split | `figure-error.pdf`, `figure-error.png` |\n"

TENSORBOARD_LINE = (
    "| curves, learning rates and decisions of seed {seed} | `tensorboard --logdir tensorboard`; "
    "one recipe at a time is easier to read: `tensorboard --logdir tensorboard/sgd/cosine+guarded` |\n"
)


class InterruptedStudyError(StudyError):
    """The user stopped the study."""


def compare(study: Study, output: Path, *, jobs: int | None = None, tensorboard: bool = True) -> list[RunResult]:
    """Carry out what is missing of a study, then print its tables and write its folder.

    Args:
        study: what to compare.
        output: the folder.
        jobs: processes, >= 1; None: one for each core.
        tensorboard: whether runs of the first seed are shown in TensorBoard.

    Returns:
        The failed runs.

    Raises:
        StudyError: the workload or the folder cannot be used, an extra is missing, or every run failed.
        InterruptedStudyError: Ctrl-C; what was finished is kept.
        OSError: a file cannot be written.
    """
    if jobs is not None and jobs < 1:
        raise StudyError(f"jobs must be >= 1, got {jobs}")
    console = make_console()
    for module in ("matplotlib", *(("joblib",) if jobs != 1 else ())):
        require(module)  # found missing now, not after the work
    workload = check_workload(study.workload)
    folder = StudyFolder(output)
    folder.prepare()
    runs = study.runs()
    finished = folder.finished(runs)
    missing = [run for run in runs if run not in finished]
    failed: list[RunResult] = []
    if missing and finished:
        console.print(f"{len(finished)} of {len(runs)} runs are there already in {output}; {len(missing)} to go.")
    elif not missing:
        console.print(f"All {len(runs)} runs are there already in {output}.")
    try:
        with contextlib.closing(folder.carry_out(missing, jobs=jobs, tensorboard=tensorboard)) as results:
            for result in _with_progress(console, results, len(missing)):
                if result.ok:
                    finished[result.run] = result
                else:
                    failed.append(result)
    except KeyboardInterrupt:
        raise InterruptedStudyError(
            f"stopped: {len(finished)} of {len(runs)} runs are finished and kept in {output}; "
            "run the same command again to go on"
        ) from None
    if not finished:
        last = failed[0].error.strip().splitlines()[-1]
        raise StudyError(
            f"all {len(failed)} runs failed, the first with {last} (tracebacks are in {output / 'results'})"
        )

    ordered = [finished[run] for run in runs if run in finished]
    summaries = summarise(ordered)
    for table in terminal_tables(summaries, console):
        console.print(table)
    for note in NOTES:
        console.print(note, style="dim", highlight=False)
    write_report(folder, summaries, name=title_of(workload))
    if tensorboard:
        for result in ordered:
            if result.run.seed == TENSORBOARD_SEED:
                export(result, folder.trace_path(result.run))
    _write_readme(folder, runs, name=title_of(workload), scored=has_accuracies(summaries), tensorboard=tensorboard)
    console.print(f"\nTables, figure and results: {output} (README.md there says what is what)", highlight=False)
    return failed


def write_report(folder: StudyFolder, summaries: Sequence[RecipeSummary], *, name: str) -> None:
    """Write the tables and the figures of a study.

    Raises:
        OSError: a file cannot be written.
    """
    (folder.root / "table.md").write_text(f"# {name}\n\n{markdown(summaries)}")
    (folder.root / "table.csv").write_text(csv_text(summaries))
    draw(summaries, folder.root / "figure", workload=name)
    if has_accuracies(summaries):
        draw(summaries, folder.root / "figure-error", workload=name, measure=ERROR)


def _write_readme(folder: StudyFolder, runs: Sequence[Run], *, name: str, scored: bool, tensorboard: bool) -> None:
    recipes = "\n".join(f"- `{r}`: {RECIPES[r].description}" for r in dict.fromkeys(run.recipe for run in runs))
    (folder.root / "README.md").write_text(
        README.format(
            name=name,
            workload=runs[0].workload,
            steps=runs[0].steps,
            last_seed=runs[-1].seed,
            runs=len(runs),
            recipes=recipes,
            error_figure=ERROR_LINE if scored else "",
            tensorboard=TENSORBOARD_LINE.format(seed=TENSORBOARD_SEED) if tensorboard else "",
        )
    )


def make_console() -> Any:
    """A rich console as wide as its terminal, or wide enough for the tables in a pipe or a file."""
    console_class = require("rich.console").Console
    console = console_class()
    # Into a pipe or a file rich assumes 80 columns, although there is no edge.
    return console if console.is_terminal else console_class(width=PIPE_WIDTH)


def _with_lines(console: Any, results: Iterator[RunResult], total: int) -> Iterator[RunResult]:
    """Pass results through, with a line at every tenth: a bar is of no use in a log."""
    num_failed = 0
    for done, result in enumerate(results, start=1):
        num_failed += not result.ok
        if done == total or done * 10 // total > (done - 1) * 10 // total:
            console.print(f"{done} of {total} runs" + (f", {num_failed} failed" if num_failed else ""))
        yield result


def _with_progress(console: Any, results: Iterator[RunResult], total: int) -> Iterator[RunResult]:
    """Pass results through, with a bar that shows how many are done, how many failed, and the time left."""
    if total == 0:
        return
    if not console.is_terminal:
        yield from _with_lines(console, results, total)
        return
    progress = require("rich.progress")
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    num_failed = 0
    with progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("runs", total=total)
        for result in results:
            num_failed += not result.ok
            description = "runs" if not num_failed else f"runs ([red]{num_failed} failed[/red])"
            bar.update(task, advance=1, description=description)
            yield result
