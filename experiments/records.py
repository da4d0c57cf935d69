"""What the studies here share: their options, the record that each leaves, and the runs of one setting seed by seed."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adaptive_lr.study import Run, RunResult, StudyError, StudyFolder
from adaptive_lr.study.sources import control_digest
from adaptive_lr.study.summary import Cell
from experiments.workloads import TUNING

RECORD = Path(__file__).parent / "results"
"""Where records are kept."""

RUNS = Path("runs/robustness")
"""Where runs are kept, `<workload>/results` below it. One folder for all studies: a run that two of them need is
carried out once."""

PARTS = ("byte_gpt",)
"""Records of the robustness study that hold other workloads than `robustness.json`: those whose runs take longer."""

RESTORING = frozenset(("recover", "release", "clear"))
"""Actions that take an intervention back, and are none."""

SIGNIFICANT = 7
"""Digits of a recorded number."""


@dataclass(frozen=True)
class Repetitions:
    """One setting, seed by seed; losses are clipped at the loss at initialisation.

    Attributes:
        validation_loss, test_loss: after the last update.
        validation_accuracy, test_accuracy: in [0, 1], or None where the task has none.
        interventions: of the guard: changes of learning rate, momentum, gradient or weights that were made, without
            those that take one back, and without the steps of a range test.
        updates: that were carried out.
    """

    validation_loss: list[float]
    test_loss: list[float]
    validation_accuracy: list[float] | None
    test_accuracy: list[float] | None
    interventions: list[int]
    updates: list[int]

    @property
    def rate(self) -> float:
        """Interventions per 1,000 updates."""
        return 1000.0 * sum(self.interventions) / sum(self.updates)


def repetitions(cell: Cell) -> Repetitions:
    """What came of one setting."""
    validation = [None if result.validation is None else result.validation.accuracy for result in cell.results]
    known = [accuracy for accuracy in validation if accuracy is not None]
    return Repetitions(
        validation_loss=rounded(cell.validation_losses),
        test_loss=rounded(cell.test_losses),
        validation_accuracy=rounded(known) if len(known) == len(validation) else None,
        test_accuracy=None if cell.test_accuracies is None else rounded(cell.test_accuracies),
        interventions=[interventions(result) for result in cell.results],
        updates=[len(result.train_losses) for result in cell.results],
    )


def interventions(result: RunResult) -> int:
    """How often the guard stepped in; see `Repetitions`. Decisions that were too many to be kept all count."""
    kept = [d for d in result.decisions if d["action"] not in RESTORING and d["controller"] != "range_test"]
    return len(kept) + result.num_decisions - len(result.decisions)


def rounded(values: Iterable[float]) -> list[float]:
    """To as many digits as a record keeps; equal values stay equal."""
    return [float(f"{value:.{SIGNIFICANT}g}") for value in values]


def tuned_peaks(record: Path, workloads: Sequence[str]) -> dict[tuple[str, str], float]:
    """(workload, optimizer) -> the peak at which the robustness study found `cosine` at its best.

    Args:
        record: the folder with `robustness.json`, and with records that the study left under other names (`PARTS`).
        workloads: names of those wanted.

    Raises:
        StudyError: there is no such record, or none has one of the workloads.
    """
    folder = record if (record / "robustness.json").is_file() else RECORD
    path = folder / "robustness.json"
    if not path.is_file():
        raise StudyError(f"there is no record {path}: run `python -m experiments.robustness` first")
    peaks: dict[tuple[str, str], float] = {}
    for part in (folder / f"{name}.json" for name in ("robustness", *PARTS)):
        pairs = json.loads(part.read_text())["pairs"] if part.is_file() else []
        peaks |= {(pair["workload"], pair["optimizer"]): float(pair["tuned"]["lr"]) for pair in pairs}
    missing = sorted(set(workloads) - {workload for workload, _ in peaks})
    if missing:
        raise StudyError(
            f"{path} has no tuned peak of {', '.join(missing)}: run `python -m experiments.robustness --workloads "
            f"{' '.join(missing)}` first"
        )
    return {pair: lr for pair, lr in peaks.items() if pair[0] in workloads}


def recorded_workloads() -> list[str]:
    """Names of the workloads whose tuned peaks are on record, in the order of `TUNING`."""
    path = RECORD / "robustness.json"
    found = {pair["workload"] for pair in json.loads(path.read_text())["pairs"]} if path.is_file() else set()
    return [name for name in TUNING if name in found]


def options(name: str, description: str, *, seeds: int, workloads: Sequence[str] = ()) -> argparse.ArgumentParser:
    """A parser with the options that all studies have.

    Args:
        name: of the study's module.
        description: for the help.
        seeds: repetitions by default.
        workloads: those taken by default; all there are: those for tuning. None given: the study has no such choice.
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=description)
    if workloads:
        parser.add_argument("--workloads", nargs="+", metavar="NAME", default=list(workloads), choices=list(TUNING),
                            help=f"of: {', '.join(TUNING)}; default: {' '.join(workloads)}")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=seeds, help="repetitions (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RUNS, help="runs (default: %(default)s)")
    parser.add_argument("--record", type=Path, default=RECORD, help="tables (default: results/ beside this file)")
    parser.add_argument("--name", default=name, help="of the record, for a part of a study (default: %(default)s)")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line, checked."""
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.jobs < 1:
        parser.error("--seeds and --jobs must be at least 1")
    if arguments.name in ("", ".", "..") or Path(arguments.name).name != arguments.name:
        parser.error(f"--name must be a file name without folders, got {arguments.name!r}")
    return arguments


def taken_over(runs: Iterable[Run], source: StudyFolder, folder: StudyFolder) -> int:
    """Copy finished results that another folder has and this one lacks, each by its key: equal keys mean equal results.

    Args:
        runs: those that are wanted.
        source: where they may be.
        folder: where they go, prepared.

    Returns:
        How many were copied.
    """
    wanted = list(runs)
    missing = set(wanted) - folder.finished(wanted).keys()
    found = source.finished(missing)
    for result in found.values():
        folder.store.save(result)
    return len(found)


def carried_out(name: str, study: Callable[[], list[Any]], output: Path) -> list[Any]:
    """What a study returns; where it is stopped, or cannot go on, the process ends with a sentence that says so."""
    try:
        return study()
    except KeyboardInterrupt:
        sys.exit(f"stopped: finished runs are kept in {output}; run the same command again to go on")
    except StudyError as error:
        sys.exit(f"{name}: {error}")


def at_tuned_peaks(
    name: str,
    description: str,
    measure: Callable[..., list[dict[str, Any]]],
    markdown: Callable[[Mapping[str, Any]], str],
    *,
    seeds: int,
) -> None:
    """The whole of a study that starts from the tuned peaks: its command line, what is missing, its record and tables.

    Args:
        name: of the study's module, and of its record.
        description: for the help.
        measure: peaks, and by name `seeds`, `jobs` and `output` -> an entry for each workload and optimizer.
        markdown: the record -> its tables.
        seeds: repetitions by default.
    """
    arguments = parsed(options(name, description, seeds=seeds, workloads=recorded_workloads()))

    def study() -> list[dict[str, Any]]:
        peaks = tuned_peaks(arguments.record, arguments.workloads)
        return measure(peaks, seeds=arguments.seeds, jobs=arguments.jobs, output=arguments.output)

    entries = carried_out(name, study, arguments.output)
    write(arguments.record, arguments.name, header(name, arguments.seeds), {"pairs": entries}, markdown)


def header(name: str, seeds: int) -> dict[str, object]:
    """What the numbers were made with."""
    packages = ("adaptive-lr", "torch", "numpy", "scikit-learn")
    return {
        "command": shlex.join(["python", "-m", f"experiments.{name}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seeds": seeds,
        "control_sha256": control_digest(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def write(
    folder: Path,
    name: str,
    about: Mapping[str, Any],
    entries: Mapping[str, Sequence[Mapping[str, Any]]],
    markdown: Callable[[Mapping[str, Any]], str],
) -> None:
    """Write the record as JSON, a line for each entry (short, and differences show), and its tables; print those.

    Args:
        folder: where to.
        name: of the study.
        about: see `header`.
        entries: lists of plain values by name.
        markdown: the record -> its tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f'"about": {json.dumps(about)}']
    for key, found in entries.items():
        lines = ",\n".join(json.dumps(entry) for entry in found)
        parts.append(f'"{key}": [\n{lines}\n]')
    (folder / f"{name}.json").write_text("{" + ",\n".join(parts) + "}\n")
    text = markdown(json.loads((folder / f"{name}.json").read_text()))
    (folder / f"{name}.md").write_text(text)
    print(text)


def heading(title: str, about: Mapping[str, Any]) -> str:
    """The first lines of a study's tables: what made them."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return (
        f"# {title}\n\n`{about['command']}`, {about['date']}, {about['seeds']} seeds.\n"
        f"{versions}; code of control {about['control_sha256'][:12]}.\n"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 2) -> str:
    """A Markdown table; the first `left` columns are text, the others numbers."""
    rules = ["---" if index < left else "---:" for index in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))
