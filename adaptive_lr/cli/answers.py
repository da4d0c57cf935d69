"""How the command line answers when something is wrong: one sentence, and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from adaptive_lr.study.errors import StudyError

EXIT_FAILURE = 1
"""Runs failed or are missing, or something outside did: a disk, LaTeX, a package that is not installed."""

EXIT_BAD_INPUT = 2
"""An option, a study file or what it names is wrong; click's own, too."""

EXIT_INTERRUPTED = 130
"""What shells report for a command that Ctrl-C ended."""

MAX_LISTED_REASONS, MAX_LISTED_RUNS = 10, 3
"""Of failed runs: reasons that are told, and runs of each."""


class BadInputError(click.ClickException):
    """What was given is wrong, and nothing was done."""

    exit_code = EXIT_BAD_INPUT


class OneSentence(click.Group):
    """A group whose every error is one sentence on stderr: no usage screen, no traceback."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run the command; see `click.Command.main`."""
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **kwargs)
        try:
            sys.exit(run(*args, standalone_mode=False, **kwargs) or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(error.exit_code)
        except click.ClickException as error:
            click.echo(f"adaptive-lr: {' '.join(error.format_message().split())}", err=True)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("adaptive-lr: stopped", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except OSError as error:
            sentence = str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
            click.echo(f"adaptive-lr: {sentence}", err=True)
            sys.exit(EXIT_FAILURE)


def list_failures(failed: list[tuple[str, str]], folder: object) -> None:
    """Say on stderr which runs failed, and why, those with one reason together: (run, traceback) of each."""
    from adaptive_lr.study.errors import exception_of

    click.echo(f"adaptive-lr: {_count(len(failed))} failed; the same command tries them again:", err=True)
    by_reason: dict[str, list[str]] = {}
    for run, error in failed:
        by_reason.setdefault(exception_of(error), []).append(run)
    for reason, runs in list(by_reason.items())[:MAX_LISTED_REASONS]:
        click.echo(f"  {reason}", err=True)
        for run in runs[:MAX_LISTED_RUNS]:
            click.echo(f"    {run}", err=True)
        if len(runs) > MAX_LISTED_RUNS:
            click.echo(f"    and {_count(len(runs) - MAX_LISTED_RUNS)} more", err=True)
    left = len(by_reason) - MAX_LISTED_REASONS
    if left > 0:
        click.echo(f"  and {left} more reason{'s' * (left > 1)}", err=True)
    click.echo(f"All of what they said is in results/ in {folder}", err=True)


def _count(runs: int) -> str:
    return f"{runs} run{'s' * (runs != 1)}"


def number_of_jobs(text: str) -> int | None:
    """From `--jobs`: None is one for each core."""
    if text == "auto":
        return None
    try:
        number = int(text)
    except ValueError:
        raise BadInputError(f"--jobs must be a number >= 1 or auto, got {text!r}") from None
    if number < 1:
        raise BadInputError(f"--jobs must be >= 1 or auto, got {number}")
    return number


def refusal(error: StudyError) -> click.ClickException:
    """What the command line makes of an error: a failure, or a refusal of what was given."""
    from adaptive_lr.study.errors import FailedStudyError

    return (click.ClickException if isinstance(error, FailedStudyError) else BadInputError)(str(error))


def missing(error: ModuleNotFoundError) -> click.ClickException:
    """The sentence for a package that only some commands need."""
    return click.ClickException(
        f'{error.name} is not installed, and this command needs it: run `pip install "adaptive-lr[compare]"`'
    )
