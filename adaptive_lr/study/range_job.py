"""The job behind `adaptive-lr range-test`: sweeps with a progress bar, prints the tables and leaves a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from adaptive_lr.lr_range_test import RangeTestResult
from adaptive_lr.study.errors import StudyError, require
from adaptive_lr.study.progress import make_console
from adaptive_lr.study.range_figure import draw
from adaptive_lr.study.range_tests import NOTE, RangeStudy, markdown, outside, record, sweep_all, terminal_table


def carry_out(study: RangeStudy, output: Path) -> None:
    """Sweep, print the tables, and write the folder.

    Args:
        study: what to do.
        output: the folder.

    Raises:
        StudyError: the workload or the folder cannot be used, or an extra is missing.
        OSError: a file cannot be written.
    """
    terminal = make_console()
    require("matplotlib")  # found missing now, not after the work
    progress = require("rich.progress")
    prepare(output)
    names = list(dict.fromkeys(study.optimizers))
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )
    with progress.Progress(*columns, console=terminal) as bar:
        task = bar.add_task("sweeps", total=len(names) * study.seeds)

        def advance(optimizer: str, seed: int, done: int, steps: int) -> None:
            bar.update(
                task,
                completed=names.index(optimizer) * study.seeds + seed,
                description=f"{optimizer}, seed {seed}, update {done} of {steps}",
            )

        results = sweep_all(study, advance)
        bar.update(task, completed=len(names) * study.seeds, description="sweeps")
    for optimizer, of_one in results.items():
        terminal.print(terminal_table(optimizer, of_one))
        terminal.print(*_endings(of_one), *outside(of_one), sep="\n", style="dim", highlight=False)
        terminal.print()
    terminal.print(NOTE, style="dim", highlight=False)
    write(study, results, output)
    terminal.print(f"\nTable, figure and results: {output}", highlight=False)


def _endings(results: Sequence[RangeTestResult]) -> list[str]:
    """How many sweeps ended for which reason, as lines; learning rates and counts are left to the record."""
    diverged = sum("diverged at" in result.stop_reason for result in results)
    others = [f"seed {seed}: {r.stop_reason}" for seed, r in enumerate(results) if "diverged at" not in r.stop_reason]
    return [f"{diverged} of {len(results)} sweeps ended where the loss diverged", *others]


def prepare(output: Path) -> None:
    """Make the output folder, and make sure that it can be written to before any work is done.

    Raises:
        StudyError: it cannot.
    """
    probe = output / f".writable.{os.getpid()}"
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StudyError(f"cannot write to output folder {str(output)!r}: {error.strerror}") from error


def write(study: RangeStudy, results: Mapping[str, Sequence[RangeTestResult]], output: Path) -> None:
    """Write `results.json`, `table.md`, `figure.pdf` and `figure.png`.

    Raises:
        StudyError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    (output / "results.json").write_text(json.dumps(record(study, results), indent=1, allow_nan=False) + "\n")
    (output / "table.md").write_text(f"# LR range tests: {study.workload}\n\n{markdown(results)}")
    draw(results, output / "figure")
