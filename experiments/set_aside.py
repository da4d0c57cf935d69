"""The workloads set aside, when the laws are fixed: `python -m experiments.set_aside [--seeds 10] [--jobs 2]`.

What `experiments.robustness` does, on the workloads on which no constant was ever chosen. Writes
`results/set_aside.json` and `results/set_aside.md`; finished runs are kept in `runs/set_aside` and not repeated.
"""

from __future__ import annotations

from pathlib import Path

from experiments.records import carried_out, options, parsed
from experiments.robustness import measured, record
from experiments.workloads import SET_ASIDE


def main() -> None:
    """Parse the command line, carry out what is missing, and write the record."""
    parser = options("set_aside", "Any learning rate, where no constant was chosen?", seeds=10)
    parser.set_defaults(output=Path("runs/set_aside"))
    arguments = parsed(parser)
    pairs = carried_out("set_aside", lambda: measured(SET_ASIDE, arguments), arguments.output)
    record(arguments.name, "Any learning rate, on the workloads set aside", pairs, arguments, "set_aside")


if __name__ == "__main__":
    main()
