"""The command line: `adaptive-lr compare`, `study`, `range-test`, `plot` and `explain`.

Only click is imported at the top, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import click

from adaptive_lr.cli.answers import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    BadInputError,
    OneSentence,
    list_failures,
    missing,
    number_of_jobs,
    refusal,
)
from adaptive_lr.cli.study import study

COMPARE_EXAMPLES = """\b
Examples:
  adaptive-lr compare                                       fixed, guarded and automatic on scikit-learn's digits
  adaptive-lr compare --recipe cosine --recipe cosine+guarded --optimizer adamw
  adaptive-lr compare --lr 0.01 --lr 0.1 --lr 1 --seeds 10
  adaptive-lr compare --workload my_model.py:MyWorkload --output runs/mine
"""

PLOT_EXAMPLES = """\b
Examples:
  adaptive-lr plot cosine
  adaptive-lr plot cosine "one_cycle(pct_start=0.3)" --steps 1000 --output schedules.png
"""

RANGE_TEST_EXAMPLES = """\b
Examples:
  adaptive-lr range-test                                    SGD and AdamW on scikit-learn's digits
  adaptive-lr range-test --optimizer adamw --seeds 10 --steps 200
  adaptive-lr range-test --workload my_model.py:MyWorkload --output runs/mine
"""

EXPLAIN_EXAMPLES = """\b
Example:
  adaptive-lr explain runs/compare/tensorboard/sgd/cosine+guarded/peak-lr=1
"""

RECIPE_NAMES = {"wsd": "warmup_stable_decay", "one-cycle": "one_cycle"}
"""How studies call a schedule, where not by its own name; `plot` takes both."""

EXIT_CODES = """\b
Exit codes:
  0    done
  1    runs failed or are missing, or something outside failed: a disk, LaTeX, a package that is not installed
  2    an option, a file or what it names is wrong, and nothing was done
  130  Ctrl-C; what was finished is kept
"""


@click.group(cls=OneSentence, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adaptive-lr", prog_name="adaptive-lr")
def main() -> None:
    """Learning rates that look after themselves, over any PyTorch optimizer and base schedule."""
    logging.basicConfig(level=logging.WARNING, format="adaptive-lr: %(message)s")


@main.command(short_help="Compare adaptive with fixed schedules on a workload.", epilog=COMPARE_EXAMPLES)
@click.option("--workload", default="digits", show_default=True, metavar="NAME|FILE.py:ATTRIBUTE|MODULE:ATTRIBUTE",
              help="What is trained; your own as a class that follows adaptive_lr.study.Workload.")  # fmt: skip
@click.option("--recipe", "recipes", multiple=True, metavar="NAME|FILE.py:ATTRIBUTE",
              help="A recipe to compare, your own as an adaptive_lr.study.Recipe; again for more; an unknown name "
                   "lists all.  [default: cosine, one-cycle, step and plateau, each also with +guarded, and "
                   "automatic]")  # fmt: skip
@click.option("--optimizer", "optimizers", multiple=True, metavar="sgd|adamw|FILE.py:ATTRIBUTE",
              help="An optimizer to compare with, your own as an adaptive_lr.study.OptimizerChoice; again for more.  "
                   "[default: both]")  # fmt: skip
@click.option("--lr", "learning_rates", multiple=True, type=float, metavar="RATE",
              help="A learning rate to give; again for more.  [default: nine for each optimizer]")  # fmt: skip
@click.option("--seeds", default=5, show_default=True, help="Repetitions, shared by all recipes.")
@click.option("--steps", type=int, help="Updates of each run.  [default: the workload's own]")
@click.option("--jobs", default="auto", show_default=True, metavar="N|auto",
              help="Processes, each with one thread; auto: one for each core.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/compare"), show_default=True,
              help="Folder for tables, figures, results and TensorBoard runs.")  # fmt: skip
@click.option("--tensorboard/--no-tensorboard", default=True, show_default=True, help="Show runs in TensorBoard.")
@click.pass_context
def compare(
    context: click.Context,
    workload: str,
    recipes: tuple[str, ...],
    optimizers: tuple[str, ...],
    learning_rates: tuple[float, ...],
    seeds: int,
    steps: int | None,
    jobs: str,
    output: Path,
    tensorboard: bool,
) -> None:
    """Train with fixed and with adaptive recipes, given learning rates from too small to far too large.

    Leaves a folder with the tables, figures of loss and error against the learning rate given, TensorBoard runs and one
    record a run. Every finished run is kept: after Ctrl-C or a crash, the same command goes on where it was.
    """
    num_jobs = number_of_jobs(jobs)
    try:
        from adaptive_lr.study.compare import compare as carry_out
        from adaptive_lr.study.progress import InterruptedStudyError
        from adaptive_lr.study.study import Study
    except ModuleNotFoundError as error:
        raise missing(error) from error
    from adaptive_lr.study.errors import StudyError

    try:
        defaults = Study()
        chosen = Study(
            workloads=(workload,),
            recipes=recipes or defaults.recipes,
            optimizers=optimizers or defaults.optimizers,
            learning_rates=learning_rates or None,
            seeds=seeds,
            steps=steps,
        )
        failed = carry_out(chosen, output, jobs=num_jobs, tensorboard=tensorboard)
    except InterruptedStudyError as error:
        click.echo(f"adaptive-lr: {error}", err=True)
        context.exit(EXIT_INTERRUPTED)
    except StudyError as error:
        raise refusal(error) from error
    if failed:
        list_failures([(str(result.run), result.error) for result in failed], output)
        context.exit(EXIT_FAILURE)


@main.command(
    "range-test", short_help="Find the learning rates at which a workload learns.", epilog=RANGE_TEST_EXAMPLES
)
@click.option("--workload", default="digits", show_default=True, metavar="NAME|FILE.py:ATTRIBUTE|MODULE:ATTRIBUTE",
              help="What is trained; your own as a class that follows adaptive_lr.study.Workload.")  # fmt: skip
@click.option("--optimizer", "optimizers", multiple=True, metavar="sgd|adamw|FILE.py:ATTRIBUTE",
              help="An optimizer to test with, your own as an adaptive_lr.study.OptimizerChoice; again for more.  "
                   "[default: both]")  # fmt: skip
@click.option("--start-lr", default=1e-7, show_default=True, help="First learning rate.")
@click.option("--end-lr", default=10.0, show_default=True, help="Last learning rate, unless the loss diverges before.")
@click.option("--steps", default=100, show_default=True, help="Updates from the first to the last.")
@click.option("--seeds", default=5, show_default=True, help="Repetitions with other weights and batches.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/range-test"), show_default=True,
              help="Folder for the table, the figure and the results.")  # fmt: skip
def range_test(
    workload: str,
    optimizers: tuple[str, ...],
    start_lr: float,
    end_lr: float,
    steps: int,
    seeds: int,
    output: Path,
) -> None:
    """Train for a few steps while the learning rate rises, and see where the loss falls and where it diverges.

    Prints what the classic rules and this library suggest, with the spread over seeds, and leaves a folder with that
    table (table.md), a figure of the curves (figure.pdf, figure.png) and everything that was measured (results.json).
    """
    try:
        from adaptive_lr.study.range_job import carry_out
        from adaptive_lr.study.range_tests import RangeStudy
    except ModuleNotFoundError as error:
        raise missing(error) from error
    from adaptive_lr.study.errors import StudyError

    try:
        chosen = {"optimizers": optimizers} if optimizers else {}
        carry_out(RangeStudy(workload, **chosen, start_lr=start_lr, end_lr=end_lr, steps=steps, seeds=seeds), output)
    except StudyError as error:
        raise refusal(error) from error


@main.command(short_help="Draw base schedules.", epilog=PLOT_EXAMPLES)
@click.argument("schedule", nargs=-1, required=True)
@click.option("--steps", default=1000, show_default=True, type=click.IntRange(min=1), help="Updates of a whole run.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("schedules.png"), show_default=True,
              help="File to write: .png, .pdf or .svg.")  # fmt: skip
def plot(schedule: tuple[str, ...], steps: int, output: Path) -> None:
    """Draw one or more base schedules as factors over the steps of a run.

    Each SCHEDULE is a name, with its arguments in brackets where it has any; an unknown name lists all. Names
    of recipes for a schedule, wsd and one-cycle, will do as well.
    """
    from adaptive_lr import schedules

    if output.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise BadInputError(f"--output must end in .png, .pdf or .svg, got {str(output)!r}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        chosen = {text: schedules.from_text(_as_schedule(text), total_steps=steps) for text in schedule}
        schedules.draw(chosen, steps, output)
    except ModuleNotFoundError as error:
        raise missing(error) from error
    except (ValueError, TypeError, OSError) as error:
        raise BadInputError(str(error)) from error
    click.echo(f"wrote {output}")


@main.command(short_help="Say what a run changed, when and why.", epilog=EXPLAIN_EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--all", "every", is_flag=True, help="Tell every decision with its own reason.")
def explain(run: Path, every: bool) -> None:
    """Say in words what control changed in a run, when and why, from the trace it left in a folder."""
    from adaptive_lr import trace

    try:
        text = trace.explain(trace.read_trace(run), every=every)
    except FileNotFoundError as error:
        inside = sorted(str(file.parent) for file in run.rglob("trace.jsonl")) if run.is_dir() else []
        count = "one is" if len(inside) == 1 else f"{len(inside)} are"
        hint = f"; {count} further in, such as {inside[0]}" if inside else ""
        raise BadInputError(f"{error}{hint}") from error
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(str(error)) from error
    click.echo(text)


def _as_schedule(text: str) -> str:
    """The text with the names that recipes have for schedules replaced by those of `adaptive_lr.schedules`."""
    return re.sub(r"(?<![\w-])(wsd|one-cycle)(?![\w-])", lambda match: RECIPE_NAMES[match[0]], text)


main.add_command(study)
