"""What the benchmark gives the paper: `kernels/benchmarks/results/<device>.json` -> numbers and a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adaptive_lr.study import StudyError
from experiments.paper import Part
from experiments.paper.latex import escape, number, signed, tabular

CONTROL, TRAINING = "control of ", "training step of "
"""How the names of the cases begin that say what control costs."""

SHORT = {
    "guarded(), steady state": "guarded",
    "guarded(), watching": "guarded-watching",
    "guarded(), every tensor's ratio sampled": "guarded-sampling",
    "guarded()": "guarded",
    "clip_grad_norm_": "clip",
    "torch._foreach_norm": "norm",
    "no control": "none",
}


def devices(names: Iterable[str]) -> dict[str, str]:
    """What each record is called in names of numbers and tables: "cpu", "gpu", or its own name.

    Args:
        names: of the records' files, without the suffix; that of the processor is "cpu". The first of the others, or
            the one that is named so, is what the text calls "gpu", whatever it was measured on.
    """
    others = sorted(set(names) - {"cpu"}, key=lambda name: (name != "gpu", name))
    return {name: "gpu" if name in others[:1] else slug(name) for name in sorted(names)}


def part(record: Mapping[str, Any], device: str) -> Part:
    """All of it.

    Args:
        record: the contents of a benchmark's record.
        device: what it is called, see `devices`.

    Raises:
        StudyError: two rows give one name.
    """
    rows = [row for row in record["rows"] if row["case"].startswith((CONTROL, TRAINING))]
    prefix = f"cost.{device}"
    numbers = {
        f"{prefix}.device": escape(record["device"]),
        f"{prefix}.bandwidth": rf"${record['read_bandwidth'] / 1e9:.1f}$\,GB/s",
        f"{prefix}.torch": escape(record["versions"]["torch"]),
        f"{prefix}.turns": str(record["turns"]),
        **({f"{prefix}.quick": "quick"} if record["quick"] else {}),
    }
    for row in rows:
        name = f"{prefix}.{_kind(row)}.{slug(_subject(row))}.threads-{row['threads']}.{_way(row)}"
        if f"{name}.ratio" in numbers:
            raise StudyError(
                f"two rows of the benchmark give {name!r}: {row['case']!r} by {row['way']!r} is one of them"
            )
        numbers[f"{name}.ratio"] = number(row["ratio"])
        numbers[f"{name}.time"] = time(row["seconds"])
        if _kind(row) == "training" and row["way"] != row["baseline"]:
            numbers[f"{name}.overhead"] = signed(row["ratio"] - 1.0)
    return Part(numbers, {f"cost-{device}": _table(rows)} if rows else {})


def slug(text: str) -> str:
    """A text as part of a name: its words before a bracket or a comma, small, joined by hyphens."""
    plain = re.split(r"[(,]", text)[0]
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def time(seconds: float) -> str:
    """A time in microseconds, or milliseconds from one on."""
    if abs(seconds) < 1e-3:
        return rf"${1e6 * seconds:.3g}$\,\textmu s"
    return rf"${1e3 * seconds:.3g}$\,ms"


def _kind(row: Mapping[str, Any]) -> str:
    return "control" if row["case"].startswith(CONTROL) else "training"


def _subject(row: Mapping[str, Any]) -> str:
    subject: str = row["case"].removeprefix(CONTROL).removeprefix(TRAINING)
    return subject


def _way(row: Mapping[str, Any]) -> str:
    return SHORT.get(row["way"], slug(row["way"]))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells, previous = [], ""
    for row in rows:
        case = row["case"] if row["case"] != previous else ""
        previous = row["case"]
        ratio = "" if row["way"] == row["baseline"] else number(row["ratio"]) + r"$\times$"
        cells.append([escape(case), escape(row["way"]), str(row["threads"]), time(row["seconds"]), ratio])
    return tabular("llrrr", ["what", "by", "threads", "time", "ratio"], cells)
