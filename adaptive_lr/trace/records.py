"""What a trace is made of, and how each piece is written as one line of JSON.

The exact record, ``trace.jsonl``, holds one JSON object a line; ``kind`` says which::

    header      begins a session: optimizer, parameter groups, controllers and their configurations
    row         one `Statistics` row, as the controllers saw it
    update      one completed optimizer update: the rates and the momentum used in it, the factors, the reflex
    ratios      the update-to-weight ratio of each tensor in an update, where it was asked for
    decision    one change and its reason
    resume      a state was loaded: what had been recorded beyond it is no longer part of the run

Floats are float64 and survive exactly: Python writes the shortest text that reads back as the same number, keeps
-0.0, and writes what JSON has no word for as ``NaN``, ``Infinity`` and ``-Infinity``.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, TypeAlias

from adaptive_lr.controllers.base import configuration
from adaptive_lr.controllers.composition import Composition, Decision
from adaptive_lr.statistics import Phase, Statistics

FORMAT = 2
"""Version of the lines; a reader refuses a newer one."""

RECORD_NAME = "trace.jsonl"
"""The exact record's file name in the trace's directory."""


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for distribution in ("adaptive-lr", "torch"):
        try:
            versions[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            versions[distribution] = "unknown"
    return versions


@dataclass(frozen=True, slots=True)
class Update:
    """One completed optimizer update.

    Attributes:
        step: index of the update, from 0.
        lr: effective learning rate of each parameter group, as used in this update.
        base_lr: the base schedule's learning rate of each group.
        momentum: effective momentum (or first beta) of each group; None where the optimizer has none.
        base_momentum: the base momentum of each group.
        factor: the total factor, held within its bounds.
        factors: each controller's factor, in the order of the composition.
        damp: what the reflex multiplied this update's gradients by; 1 if it did nothing.
        skipped: whether the reflex left this update out.
        stalls: how often the host has waited for the device since the update before; None where rows are not read
            late, and the host has everything at once.
    """

    step: int
    lr: tuple[float, ...]
    base_lr: tuple[float, ...]
    momentum: tuple[float | None, ...]
    base_momentum: tuple[float | None, ...]
    factor: float
    factors: tuple[float, ...]
    damp: float = 1.0
    skipped: bool = False
    stalls: int | None = None


@dataclass(frozen=True, slots=True)
class UpdateRatios:
    """‖update‖ / ‖weight before it‖ of each tensor in one completed update.

    Of the tensors of two or more dimensions (of all, if there are no others) that had a gradient; see
    `adaptive_lr.update_ratio`.

    Attributes:
        step: index of the update.
        values: name of the parameter -> ratio, in the optimizer's order.
        errors: name -> standard error of a ratio that is estimated from a sample, 0 for a tensor read whole; empty
            where all tensors were.
    """

    step: int
    values: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Header:
    """What a trace begins with.

    Attributes:
        optimizer: name of the optimizer's class.
        groups: names of the parameter groups, in the optimizer's order.
        controllers: for each controller its ``name`` in the composition, its ``class`` as "module:QualName", and its
            ``configuration`` (see `describe_controllers`).
        min_factor, max_factor: bounds of the total factor.
        lag: updates between a measurement and the decision on it.
        shadow: True where decisions were recorded and not acted on.
        versions: package -> version.
    """

    optimizer: str
    groups: tuple[str, ...]
    controllers: tuple[Mapping[str, Any], ...] = ()
    min_factor: float = 0.0
    max_factor: float = math.inf
    lag: int = 0
    shadow: bool = False
    versions: Mapping[str, str] = field(default_factory=_versions)

    @property
    def controller_names(self) -> tuple[str, ...]:
        """The controllers' names, in the order of `Update.factors`."""
        return tuple(str(controller["name"]) for controller in self.controllers)


@dataclass(frozen=True, slots=True)
class Resume:
    """A state was loaded into the run.

    Attributes:
        step: updates completed in the loaded state.
        rows: rows the controllers had seen in the loaded state (the START row counts), None if not known.
    """

    step: int
    rows: int | None = None


def describe_controllers(composition: Composition) -> tuple[dict[str, Any], ...]:
    """The controllers of a composition as plain values, for a `Header`."""
    return tuple(
        {
            "name": name,
            "class": f"{type(controller).__module__}:{type(controller).__qualname__}",
            "configuration": configuration(controller),
        }
        for name, controller in zip(composition.names, composition, strict=True)
    )


_encode = json.JSONEncoder(separators=(",", ":"), default=float).encode  # `float`: numpy scalars, 0-d tensors

# A configuration may hold what JSON cannot (a function): the header names it, and only rebuilding that one fails.
_encode_header = json.JSONEncoder(separators=(",", ":"), default=lambda value: {"unwritable": repr(value)}).encode


def encode_row(row: Statistics) -> str:
    """A row as one line, without the line break."""
    line: dict[str, Any] = {"kind": "row", "step": row.step, "phase": row.phase, "values": dict(row.values)}
    if row.groups:
        line["groups"] = [dict(group) for group in row.groups]
    if not row.updated:
        line["updated"] = False
    return _encode(line)


def encode_update(update: Update) -> str:
    """An update as one line."""
    line = {
        "kind": "update",
        "step": update.step,
        "lr": update.lr,
        "base_lr": update.base_lr,
        "momentum": update.momentum,
        "base_momentum": update.base_momentum,
        "factor": update.factor,
        "factors": update.factors,
        "damp": update.damp,
        "skipped": update.skipped,
    }
    if update.stalls is not None:
        line["stalls"] = update.stalls
    return _encode(line)


def encode_update_ratios(ratios: UpdateRatios) -> str:
    """The ratios of an update as one line."""
    line: dict[str, Any] = {"kind": "ratios", "step": ratios.step, "values": dict(ratios.values)}
    if ratios.errors:
        line["errors"] = dict(ratios.errors)
    return _encode(line)


def encode_decision(decision: Decision) -> str:
    """A decision as one line."""
    return _encode({"kind": "decision", **{name: getattr(decision, name) for name in Decision.__slots__}})


def encode_header(header: Header) -> str:
    """A header as one line."""
    return _encode_header(
        {
            "kind": "header",
            "format": FORMAT,
            "optimizer": header.optimizer,
            "groups": header.groups,
            "controllers": [dict(controller) for controller in header.controllers],
            "min_factor": header.min_factor,
            "max_factor": header.max_factor,
            "lag": header.lag,
            "shadow": header.shadow,
            "versions": dict(header.versions),
        }
    )


def encode_resume(resume: Resume) -> str:
    """A resumption as one line."""
    return _encode({"kind": "resume", "step": resume.step, "rows": resume.rows})


Record: TypeAlias = Statistics | Update | UpdateRatios | Decision | Header | Resume


# One NaN for all, so that records compare equal where Python compares by identity first, as it does in containers.
_decode = json.JSONDecoder(
    parse_constant={"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.__getitem__
).decode


def decode(line: str) -> Record:
    """The record that one line holds.

    Raises:
        ValueError: the line is not JSON, is of no known kind, lacks a field, or is of a newer format.
    """
    found = _decode(line)
    if not isinstance(found, dict):
        raise ValueError(f"expected a JSON object, got {type(found).__name__}")
    kind = found.pop("kind", None)
    try:
        record: Record = _DECODERS[kind](found)
        return record
    except KeyError as error:
        missing = "is of no known kind" if kind not in _DECODERS else f"lacks {error.args[0]!r}"
        raise ValueError(f"a record of kind {kind!r} {missing}") from error
    except TypeError as error:
        raise ValueError(f"a record of kind {kind!r} does not fit: {error}") from error


def _row(found: dict[str, Any]) -> Statistics:
    groups = tuple(found.get("groups", ()))
    return Statistics(found["step"], Phase(found["phase"]), found["values"], groups, found.get("updated", True))


def _update(found: dict[str, Any]) -> Update:
    return Update(**{name: _as_tuple(value) for name, value in found.items()})


def _decision(found: dict[str, Any]) -> Decision:
    found["phase"] = Phase(found["phase"])
    return Decision(**found)


def _header(found: dict[str, Any]) -> Header:
    version = found.pop("format")
    if version > FORMAT:
        raise ValueError(f"the trace is of format {version}, newer than this package reads (up to {FORMAT})")
    return Header(**{name: _as_tuple(value) for name, value in found.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


_DECODERS: dict[Any, Any] = {
    "row": _row,
    "update": _update,
    "ratios": lambda found: UpdateRatios(**found),
    "decision": _decision,
    "header": _header,
    "resume": lambda found: Resume(**found),
}
