"""The paper from recorded results: `python -m experiments.paper [--check] [--no-pdf]`.

Reads `experiments/results/*.json` and the records of the benchmark, writes `paper/generated/`, checks that the text
names nothing that is not there, and typesets `paper/main.pdf` where LaTeX is installed. `--check` writes nothing and
fails where `paper/generated/` is not what the results make.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptive_lr.study import StudyError
from adaptive_lr.study.paper import (
    GENERATED,
    NUMBERS,
    build_pdf,
    check_text,
    numbers_tex,
    provenance,
    stale,
    write_generated,
)
from experiments.paper import (
    Part,
    ablation,
    changing_data,
    cost,
    elsewhere,
    faults,
    growing_noise,
    horizons,
    language_model,
    no_harm,
    peers,
    robustness,
    set_aside,
    step_cost,
    targets,
    tuning_budget,
)

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "paper"
RESULTS = ROOT / "experiments" / "results"
COMMAND = "make paper"

PARTS: Sequence[tuple[str, Callable[[Mapping[str, Any]], Part]]] = (
    ("robustness.json", robustness.part),
    ("set_aside.json", set_aside.part),
    ("no_harm.json", no_harm.part),
    ("no_harm.json", targets.part),
    ("faults.json", faults.part),
    ("ablation.json", ablation.part),
    ("growing_noise.json", growing_noise.part),
    ("changing_data.json", changing_data.part),
    ("horizons.json", horizons.part),
    ("tuning_budget.json", tuning_budget.part),
    ("peers.json", peers.part),
    ("byte_gpt.json", language_model.part),
    ("byte_gpt_peers.json", language_model.peers),
    ("step_cost.json", step_cost.part),
)
"""Recorded result, and what the paper takes from it; one record may give several parts."""

OPTIONAL: Sequence[tuple[str, Callable[[Mapping[str, Any]], Part]]] = (("elsewhere.json", elsewhere.part),)
"""The same of records that the paper says nothing of where they are missing."""

BENCHMARKS = Path("kernels", "benchmarks", "results")
"""Below the root: where the benchmark leaves a record for each device; the paper takes those that are there."""


def generated(results: Path = RESULTS) -> dict[str, str | bytes]:
    """Everything that `paper/generated/` holds, as a function of recorded results.

    Raises:
        StudyError: a record is missing, or two studies give the same name.
    """
    root = results.parents[1]
    parts: list[tuple[Path, Part]] = []
    for name, make in PARTS:
        path = results / name
        if not path.is_file():
            raise StudyError(f"there is no record {path}; experiments/README.md says what makes it")
        parts.append((path, make(json.loads(path.read_text()))))
    there = ((results / name, make) for name, make in OPTIONAL if (results / name).is_file())
    parts += [(path, make(json.loads(path.read_text()))) for path, make in there]
    benchmarks = {path.stem: path for path in (root / BENCHMARKS).glob("*.json")}
    for name, device in cost.devices(benchmarks).items():
        parts += [(benchmarks[name], cost.part(json.loads(benchmarks[name].read_text()), device))]
    numbers: dict[str, str] = {}
    files: dict[str, str | bytes] = {}
    for path, part in parts:
        head = provenance([path], root, COMMAND)
        repeated = numbers.keys() & part.numbers.keys()
        if repeated:
            raise StudyError(f"{path.name} gives numbers that another record gives too: {', '.join(sorted(repeated))}")
        numbers |= part.numbers
        files |= {f"tables/{table}.tex": head + text for table, text in part.tables.items()}
        files |= {f"figures/{figure}": contents for figure, contents in part.figures.items()}
    files[NUMBERS] = provenance({path for path, _ in parts}, root, COMMAND) + numbers_tex(numbers)
    return files


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m experiments.paper", description="The paper, from its results.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where anything differs")
    parser.add_argument("--no-pdf", action="store_true", help="do not typeset")
    arguments = parser.parse_args()
    try:
        files = generated()
        if arguments.check:
            differing = stale(PAPER / GENERATED, files)
            if differing:
                names = ", ".join(path.relative_to(PAPER).as_posix() for path in differing)
                raise StudyError(f"not what the results make, run `{COMMAND}`: {names}")
            check_text(PAPER)
            print(f"paper/{GENERATED} is what the results make; every number in the text is there")
            return
        changed = write_generated(PAPER / GENERATED, files)
        check_text(PAPER)
        print(f"paper/{GENERATED}: {len(files)} files, {len(changed)} changed")
        if not arguments.no_pdf:
            pdf = build_pdf(PAPER)
            print(
                "no PDF: LaTeX is not installed (paper/README.md says which packages); numbers, tables and figures "
                "were made and checked"
                if pdf is None
                else f"paper/{pdf.name}"
            )
    except StudyError as error:
        sys.exit(f"paper: {error}")


if __name__ == "__main__":
    main()
