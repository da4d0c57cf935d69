"""A study declared in a file that people read and write: TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptive_lr.study.engine import Engine
from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.references import seen_from
from adaptive_lr.study.study import Study, Tuning

KEYS = {
    "": ("name", "workloads", "recipes", "optimizers", "learning_rates", "horizons", "steps", "tuning", "report",
         "engine"),
    "tuning": ("budget", "seeds", "centres"),
    "report": ("seeds",),
    "engine": ("name", "jobs", "cpus", "gpus"),
}  # fmt: skip
"""What a study file may hold, by table."""


def read_study(path: Path) -> Study:
    """The study that a file declares; references to files in it are seen from its own folder.

    Args:
        path: a TOML file, see `KEYS`.

    Raises:
        StudyError: it cannot be read, is no TOML, or says something that is unknown or out of range; the sentence
            names the file and the place.
    """
    record = _read(path)
    folder = path.parent
    try:
        return _study(record, folder, path.stem)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error


def read_engine(path: Path) -> Engine:
    """The engine that a study file asks for; joblib unless it does.

    Raises:
        StudyError: see `read_study`.
    """
    record = _read(path)
    try:
        table = _table(record, "engine")
        given: dict[str, Any] = {name: _number(f"engine.{name}", table[name]) for name in ("cpus", "gpus")
                                 if name in table}  # fmt: skip
        if "jobs" in table:
            given["jobs"] = _count("engine.jobs", table["jobs"])
        return Engine(_text("engine.name", table.get("name", "joblib")), **given)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"study file {str(path)!r} does not exist") from None
    except IsADirectoryError:
        raise StudyError(f"study file {str(path)!r} is a folder") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not a TOML file: {error}") from error


def _study(record: dict[str, Any], folder: Path, name: str) -> Study:
    _refuse_unknown("", record)
    tuning, report = _table(record, "tuning"), _table(record, "report")
    _table(record, "engine")
    given: dict[str, Any] = {"name": _text("name", record.get("name", name))}
    for key in ("workloads", "recipes", "optimizers"):
        if key in record:
            given[key] = tuple(seen_from(folder, text) for text in _texts(key, record[key]))
    if "learning_rates" in record:
        given["learning_rates"] = _learning_rates(record["learning_rates"], folder)
    if "horizons" in record:
        given["horizons"] = _numbers("horizons", record["horizons"])
    if "steps" in record:
        given["steps"] = _count("steps", record["steps"])
    if "seeds" in report:
        given["seeds"] = _count("report.seeds", report["seeds"])
    if "tuning" in record:
        given["tuning"] = _tuning(tuning, folder)
    if "workloads" not in given:
        raise StudyError('`workloads` is missing: a list of names or references such as "workload.py:MyWorkload"')
    return Study(**given)


def _tuning(table: dict[str, Any], folder: Path) -> Tuning:
    given: dict[str, Any] = {}
    if "budget" in table:
        budget = table["budget"]
        given["budgets"] = (budget,) if isinstance(budget, str) else _texts("tuning.budget", budget)
    if "seeds" in table:
        given["seeds"] = _count("tuning.seeds", table["seeds"])
    if "centres" in table:
        if not isinstance(table["centres"], Mapping):
            raise StudyError(f"`tuning.centres` must be tables by workload, got {table['centres']!r}")
        given["centres"] = {
            seen_from(folder, workload): _rates_by_optimizer(f"tuning.centres.{workload}", rates, folder)
            for workload, rates in table["centres"].items()
        }
    return Tuning(**given)


def _learning_rates(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {seen_from(folder, name): _numbers(f"learning_rates.{name}", rates) for name, rates in value.items()}
    return _numbers("learning_rates", value)


def _rates_by_optimizer(place: str, value: Any, folder: Path) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise StudyError(f"`{place}` must be a table of learning rates by optimizer, got {value!r}")
    return {seen_from(folder, name): _number(f"{place}.{name}", rate) for name, rate in value.items()}


def _table(record: dict[str, Any], name: str) -> dict[str, Any]:
    table = record.get(name, {})
    if not isinstance(table, dict):
        raise StudyError(f"`{name}` must be a table, written [{name}]; got {table!r}")
    _refuse_unknown(name, table)
    return table


def _refuse_unknown(table: str, record: Mapping[str, Any]) -> None:
    for key in record:
        if key not in KEYS[table]:
            place = f"[{table}]" if table else "the file"
            raise StudyError(f"unknown key {key!r} in {place}; known: {', '.join(KEYS[table])}")


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise StudyError(f"`{place}` must be a string, got {value!r}")
    return value


def _texts(place: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise StudyError(f"`{place}` must be a list of strings, got {value!r}")
    return tuple(value)


def _count(place: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise StudyError(f"`{place}` must be an integer, got {value!r}")
    if value < 1:
        raise StudyError(f"`{place}` must be >= 1, got {value}")
    return value


def _number(place: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        raise StudyError(f"`{place}` must be a number, got {value!r}")
    return float(value)


def _numbers(place: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise StudyError(f"`{place}` must be a list of numbers, got {value!r}")
    return tuple(_number(place, item) for item in value)
