"""The main job: carry out a study with a progress bar, and leave its folder with everything in it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptive_lr.study.engine import Engine
from adaptive_lr.study.errors import FailedStudyError, StudyError, exception_of, require
from adaptive_lr.study.figures.learning_rates import ERROR, draw
from adaptive_lr.study.folder import TENSORBOARD_SEED, StudyFolder
from adaptive_lr.study.progress import InterruptedStudyError, make_console, with_progress
from adaptive_lr.study.recipe import check_installed, find_recipe
from adaptive_lr.study.run import Run, RunResult
from adaptive_lr.study.study import Study, check_workload
from adaptive_lr.study.summary import RecipeSummary, summarise
from adaptive_lr.study.summary_tables import NOTES, csv_text, has_accuracies, latex, markdown, terminal_tables
from adaptive_lr.study.tensorboard import aggregate, export
from adaptive_lr.study.workload import Workload, title_of

README = """\
# {name}: adaptive against fixed schedules

| what | where |
| --- | --- |
| the tables, to read | `table.md` |
| the same for a paper | `table.tex` |
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
    "| all seeds in one curve with a band, each recipe at its best learning rate | "
    "`tensorboard --logdir tensorboard-seeds/tuned`, tab custom scalars |\n"
    "| the same at every learning rate | `tensorboard --logdir tensorboard-seeds/every-lr/sgd/cosine` |\n"
)


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
    if len(study.workloads) != 1 or len(study.horizons) != 1 or study.tuning is not None:
        raise StudyError("compare takes one workload at one horizon, without tuning; `adaptive-lr study` takes more")
    engine = Engine(jobs=jobs)
    console = make_console()
    engine.require()  # found missing now, not after the work
    require("matplotlib")
    for recipe in dict.fromkeys(study.recipes):
        check_installed(find_recipe(recipe))
    workload = check_workload(study.workloads[0])
    folder = StudyFolder(output)
    folder.prepare()
    runs = study.runs()
    untouched = len(folder.finished(runs)) == len(runs)
    with contextlib.nullcontext() if untouched else folder.locked():
        return _compare(study, workload, folder, engine, console, tensorboard)


def _compare(
    study: Study, workload: Workload, folder: StudyFolder, engine: Engine, console: Any, tensorboard: bool
) -> list[RunResult]:
    output = folder.root
    runs = study.runs()
    finished = folder.finished(runs)
    missing = [run for run in runs if run not in finished]
    failed: list[RunResult] = []
    if missing and finished:
        console.print(f"{len(finished)} of {len(runs)} runs are there already in {output}; {len(missing)} to go.")
    elif not missing:
        console.print(f"All {len(runs)} runs are there already in {output}.")
    try:
        with contextlib.closing(folder.carry_out(missing, engine, tensorboard=tensorboard)) as results:
            for result in with_progress(console, results, len(missing)):
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
        raise FailedStudyError(
            f"all {len(failed)} runs failed, the first with {exception_of(failed[0].error)} "
            f"(tracebacks are in {output / 'results'})"
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
        aggregate(ordered, folder.root / "tensorboard-seeds")
    _write_readme(folder, runs, name=title_of(workload), scored=has_accuracies(summaries), tensorboard=tensorboard)
    console.print(f"\nTables, figure and results: {output} (README.md there says what is what)", highlight=False)
    return failed


def write_report(folder: StudyFolder, summaries: Sequence[RecipeSummary], *, name: str) -> None:
    """Write the tables and the figures of a study.

    Raises:
        OSError: a file cannot be written.
    """
    (folder.root / "table.md").write_text(f"# {name}\n\n{markdown(summaries)}")
    (folder.root / "table.tex").write_text(latex(summaries))
    (folder.root / "table.csv").write_text(csv_text(summaries))
    draw(summaries, folder.root / "figure", workload=name)
    if has_accuracies(summaries):
        draw(summaries, folder.root / "figure-error", workload=name, measure=ERROR)


def _write_readme(folder: StudyFolder, runs: Sequence[Run], *, name: str, scored: bool, tensorboard: bool) -> None:
    recipes = "\n".join(f"- `{r}`: {find_recipe(r).description}" for r in dict.fromkeys(run.recipe for run in runs))
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
