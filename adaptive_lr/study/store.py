"""Where results are kept: one file a run, written whole or not at all."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptive_lr.study.run import Run, RunResult
from adaptive_lr.study.workload import Evaluation

SCHEMA = 1
"""Version of the file format. A file of another version is set aside, and its run done again."""

SET_ASIDE = "set-aside"
"""Sub-folder for files that cannot be used. Nothing is ever deleted."""

logger = logging.getLogger(__name__)


class ResultStore:
    """A folder of `<key>.json` files.

    A file appears by a rename, so it is whole even if the process is killed while writing; a run is done again exactly
    when its file is missing or unusable. Processes may share a folder: equal keys mean equal results.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, key: str) -> Path:
        """Where the result of that key is, or would be."""
        return self.directory / f"{key}.json"

    def save(self, result: RunResult) -> None:
        """Write a result.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.path(result.key)
        temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps(_encode({"schema": SCHEMA, **asdict(result)}), allow_nan=False))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove half-written files of processes of this machine that are gone."""
        for path in self.directory.glob(f".*.{socket.gethostname()}.*.tmp"):
            if not _is_alive(int(path.name.split(".")[-2])):
                path.unlink(missing_ok=True)

    def load(self, key: str) -> RunResult | None:
        """Read a result; None if there is none that can be used.

        A file that is damaged, of another schema, or of another run is moved to `set-aside/` with a warning.

        Raises:
            OSError: the file exists and cannot be read.
        """
        path = self.path(key)
        try:
            text = path.read_bytes().decode()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            self._set_aside(path, "is damaged")
            return None
        try:
            record = json.loads(text)
            schema = record.pop("schema")
            result = _decode(record) if schema == SCHEMA else None
        except (ValueError, TypeError, KeyError, AttributeError):
            self._set_aside(path, "is damaged")
            return None
        if result is None:
            self._set_aside(path, f"has schema {schema}, this version reads {SCHEMA}")
        elif result.key != key:
            self._set_aside(path, "holds the result of another run")
            return None
        return result

    def _set_aside(self, path: Path, why: str) -> None:
        folder = self.directory / SET_ASIDE
        folder.mkdir(exist_ok=True)
        number = 0
        while (target := folder / f"{path.stem}.{number}.json").exists():
            number += 1
        try:
            os.replace(path, target)
        except FileNotFoundError:  # another process was faster
            return
        logger.warning("result file %s %s: moved to %s, and its run is done again", path.name, why, SET_ASIDE)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _encode(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the strings that `float` reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(record: dict[str, Any]) -> RunResult:
    return RunResult(
        run=_run(record.pop("run")),
        initial=_evaluation(record.pop("initial")),
        validation=_evaluation(record.pop("validation")),
        test=_evaluation(record.pop("test")),
        evaluations=tuple((step, float(loss), _number(accuracy)) for step, loss, accuracy in record.pop("evaluations")),
        train_losses=tuple(map(float, record.pop("train_losses"))),
        learning_rates=tuple(map(float, record.pop("learning_rates"))),
        decisions=tuple(_decision(decision) for decision in record.pop("decisions")),
        **record,
    )


def _run(record: dict[str, Any]) -> Run:
    settings = tuple((name, float(value)) for name, value in record.pop("settings", ()))
    return Run(**record, settings=settings)


def _evaluation(value: Any) -> Evaluation | None:
    return None if value is None else Evaluation(float(value[0]), _number(value[1]))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


_WORDS = ("phase", "controller", "action", "statistic", "text")


def _decision(decision: dict[str, Any]) -> dict[str, Any]:
    return {name: value if name in _WORDS or name == "step" else float(value) for name, value in decision.items()}
