"""`adaptive-lr study`: begin one, carry out what a file declares, see how far it is, write its reports and paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adaptive_lr.cli.answers import EXIT_FAILURE, EXIT_INTERRUPTED, list_failures, missing, number_of_jobs, refusal

if TYPE_CHECKING:
    from adaptive_lr.study.engine import Engine
    from adaptive_lr.study.job import Standing
    from adaptive_lr.study.study import Study

EXAMPLES = """\b
Examples:
  adaptive-lr study new my_study                  a folder with a study file and a workload to edit
  adaptive-lr study run my_study/study.toml       carry out what is missing
  adaptive-lr study run my_study/study.toml --engine ray
  adaptive-lr study run my_study/study.toml --shard 3/8    one of eight jobs of an array, 0 to 7
  adaptive-lr study status my_study/study.toml
  adaptive-lr study report my_study/study.toml
  adaptive-lr study paper my_study/study.toml     its numbers, tables and figures into my_study/paper, and the PDF
  adaptive-lr study paper my_study/study.toml --check
"""

TENSORBOARD = "tensorboard-seeds"
"""Folder of TensorBoard runs, each of all seeds of a setting."""

file_argument = click.argument("file", type=click.Path(path_type=Path))
output_option = click.option(
    "--output", type=click.Path(path_type=Path), help="Folder of results.  [default: runs/NAME beside the file]"
)


@click.group(short_help="Studies that a file declares: new, run, status, report, paper.", epilog=EXAMPLES)
def study() -> None:
    """Compare recipes on workloads, as a file declares it, in a folder that can always be gone on with."""


@study.command(short_help="Carry out what is missing of a study.")
@file_argument
@click.option("--jobs", metavar="N|auto", help="Processes, each with one thread.  [default: the file's, or auto]")
@click.option(
    "--engine", "engine_name", metavar="serial|joblib|ray", help="Who does it.  [default: the file's, or joblib]"
)
@click.option("--shard", "shard_text", metavar="I/N", help="Only every N-th run, beginning with the I-th (from 0).")
@output_option
@click.option(
    "--report/--no-report", default=True, show_default=True, help="Print and write the reports when all is done."
)
@click.pass_context
def run(
    context: click.Context,
    file: Path,
    jobs: str | None,
    engine_name: str | None,
    shard_text: str | None,
    output: Path | None,
    report: bool,
) -> None:
    """Carry out what is missing of the study that FILE declares.

    Every finished run is kept: after Ctrl-C or a crash, the same command goes on where it was. Runs that failed are
    listed at the end, and tried again by the same command.
    """
    number = None if jobs is None else number_of_jobs(jobs)
    declared, chosen = _declared(file)
    from dataclasses import replace

    from adaptive_lr.study.errors import StudyError

    try:
        from adaptive_lr.study.job import carry_out
        from adaptive_lr.study.lock import Shard
        from adaptive_lr.study.progress import InterruptedStudyError
    except ModuleNotFoundError as error:
        raise missing(error) from error

    folder = _folder(file, declared, output)
    try:
        shard = None if shard_text is None else Shard.parse(shard_text)
        chosen = chosen if jobs is None else replace(chosen, jobs=number)
        chosen = chosen if engine_name is None else replace(chosen, name=engine_name)
        now = carry_out(declared, folder, chosen, shard=shard)
        if report and now.complete and now.reported_results():
            _report(declared, now, folder)
    except InterruptedStudyError as error:
        click.echo(f"adaptive-lr: {error}", err=True)
        context.exit(EXIT_INTERRUPTED)
    except StudyError as error:
        raise refusal(error) from error
    if now.failed:
        list_failures([(str(result.run), result.error) for result in now.failed], folder)
        context.exit(EXIT_FAILURE)


@study.command(short_help="Say how far a study has come.")
@file_argument
@output_option
def status(file: Path, output: Path | None) -> None:
    """Say how many runs of the study that FILE declares are there, failed, or missing."""
    declared, _ = _declared(file)
    from adaptive_lr.study.errors import StudyError
    from adaptive_lr.study.folder import StudyFolder
    from adaptive_lr.study.job import outdated, progress_table, standing

    place = StudyFolder(_folder(file, declared, output))
    try:
        now = standing(declared, place)
    except StudyError as error:
        raise refusal(error) from error
    for group, counts in progress_table(now):
        words = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        click.echo(f"{group.workload}, {group.steps} steps, {group.optimizer}, {group.recipe}: {words}")
    planned = len(now.tuning) + len(now.reported)
    carried_out = len(now.results) - len(now.failed)
    click.echo(f"{carried_out} of {planned} runs are there, {len(now.failed)} failed, {len(now.missing)} missing")
    if declared.tuning is not None and not now.reported:
        click.echo("tuning is not done; what is reported follows from it")
    for sentence in outdated(declared, place) if now.missing else ():
        click.echo(sentence)
    for holder in place.holders():
        click.echo(f"under way: {holder}")


@study.command(short_help="Write the tables and figures of a study.")
@file_argument
@output_option
def report(file: Path, output: Path | None) -> None:
    """Write tables and figures of what is there of the study that FILE declares, and print the tables to read first.

    Leaves reports/ (report.md, LaTeX, CSV, figures) in the folder of results, and tensorboard-seeds/, where all seeds
    of a setting are one curve with a band in the tab custom scalars (BUDGET/tuned: what tuning chose).
    """
    declared, _ = _declared(file)
    from adaptive_lr.study.errors import FailedStudyError, StudyError
    from adaptive_lr.study.folder import StudyFolder
    from adaptive_lr.study.job import standing

    folder = _folder(file, declared, output)
    try:
        now = standing(declared, StudyFolder(folder))
        _say_outdated(declared, now, folder)
        if not now.reported_results():
            raise FailedStudyError(f"there is nothing to report in {str(folder)!r} yet: adaptive-lr study run {file}")
        if now.missing:
            click.echo(
                f"adaptive-lr: {len(now.missing)} runs are missing; the report is of those that are there", err=True
            )
        _report(declared, now, folder)
    except StudyError as error:
        raise refusal(error) from error


@study.command(short_help="Write the paper of a study: numbers, tables, figures, PDF.")
@file_argument
@output_option
@click.option("--paper", "text", type=click.Path(path_type=Path),
              help="Folder with the text, main.tex.  [default: paper beside the file]")  # fmt: skip
@click.option("--check", is_flag=True, help="Write nothing; fail where a generated file is not what the results make.")
@click.option("--pdf/--no-pdf", default=True, show_default=True, help="Typeset, where LaTeX is installed.")
def paper(file: Path, output: Path | None, text: Path | None, check: bool, pdf: bool) -> None:
    """Bring the paper of the study that FILE declares up to date with what was recorded.

    Writes paper/generated/ (numbers, tables, figures; nothing else is kept there), checks that the text names no number
    and no file that is not there, and typesets paper/main.pdf. The same results make the same files, byte for byte.
    """
    declared, _ = _declared(file)
    from adaptive_lr.study.errors import StudyError
    from adaptive_lr.study.folder import StudyFolder
    from adaptive_lr.study.job import standing
    from adaptive_lr.study.paper import GENERATED, LATEX, build_pdf
    from adaptive_lr.study.study_paper import check_paper, generated_files, require_text, write_paper

    folder = text if text is not None else file.parent / "paper"
    results = _folder(file, declared, output)
    try:
        require_text(folder)
        now = standing(declared, StudyFolder(results))
        _say_outdated(declared, now, results)
        files = generated_files(declared, now)
        if now.failed:
            click.echo(f"adaptive-lr: {len(now.failed)} runs failed; the paper is of the others", err=True)
        if check:
            check_paper(folder, files)
            click.echo(f"{folder / GENERATED} is what the results make; all that the text names is there")
            return
        changed = write_paper(folder, files)
        counts = f"{len(files)} files, {len(changed)} changed"
        click.echo(f"{folder / GENERATED}: {counts}; all that the text names is there")
        typeset = build_pdf(folder) if pdf else None
    except StudyError as error:
        raise refusal(error) from error
    if typeset is not None:
        click.echo(f"wrote {typeset}")
    elif pdf:
        click.echo(f"no PDF: LaTeX is not installed (on Debian or Ubuntu: apt-get install {LATEX})")


@study.command(short_help="Begin a study of your own: a folder that runs as it is.")
@click.argument("name")
def new(name: str) -> None:
    """Make a folder NAME with a study file, a workload and a paper to edit; as it is, it runs in half a minute."""
    from adaptive_lr.study.errors import StudyError
    from adaptive_lr.study.skeleton import make_skeleton

    try:
        folder = make_skeleton(Path(name))
    except StudyError as error:
        raise refusal(error) from error
    click.echo(f"wrote {folder}/: README.md there says what is what; carry it out, and write its paper, with\n"
               f"  adaptive-lr study run {folder}/study.toml\n"
               f"  adaptive-lr study paper {folder}/study.toml")  # fmt: skip


def _declared(file: Path) -> tuple[Study, Engine]:
    try:
        from adaptive_lr.study.errors import StudyError
        from adaptive_lr.study.study_file import read_engine, read_study
    except ModuleNotFoundError as error:
        raise missing(error) from error
    try:
        return read_study(file), read_engine(file)
    except StudyError as error:
        raise refusal(error) from error


def _folder(file: Path, declared: Study, output: Path | None) -> Path:
    return output if output is not None else file.parent / "runs" / declared.name


def _say_outdated(declared: Study, now: Standing, folder: Path) -> None:
    """What is missing may be there, of another version: say so beside the error that follows."""
    from adaptive_lr.study.folder import StudyFolder
    from adaptive_lr.study.job import outdated

    for sentence in outdated(declared, StudyFolder(folder)) if now.missing else ():
        click.echo(f"adaptive-lr: {sentence}", err=True)


def _report(declared: Study, now: Standing, folder: Path) -> None:
    from adaptive_lr.study.progress import make_console
    from adaptive_lr.study.reports.tables import terminal
    from adaptive_lr.study.study_reports import make_reports, write_reports, write_tensorboard

    made = make_reports(declared, now)
    console = make_console()
    for budget, findings in made:
        if len(made) > 1:
            console.rule(f"tuned with {budget}", align="left")
        for table in findings.first_tables():
            console.print(terminal(table, console.width))
    written = write_reports(declared, now, folder / "reports", made)
    click.echo(f"wrote {len(written)} tables and figures: {folder / 'reports'} (report.md says what the columns mean)")
    if write_tensorboard(declared, now, folder / TENSORBOARD):
        click.echo(f"all seeds in one curve with a band: tensorboard --logdir {folder / TENSORBOARD}")
