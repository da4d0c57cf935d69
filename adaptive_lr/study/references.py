"""Finding a user's own workload, recipe or optimizer by reference, and the source that it came from."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.sources import is_own

OWN_MODULE = "adaptive_lr_study_"
"""How the module of a user's file is called, before the hash of its place and contents."""

_OWN_MODULE = re.compile(OWN_MODULE + "[0-9a-f]{16}")


def is_reference(text: str) -> bool:
    """Whether a text has the form of a reference: ``package.module:attribute`` or ``path/to/file.py:attribute``."""
    place, separator, attribute = text.rpartition(":")
    return bool(separator and place and attribute)


def load(reference: str, kind: str) -> object:
    """What a reference names.

    Args:
        reference: ``package.module:attribute``, or ``path/to/file.py:attribute``, seen from the current folder.
        kind: what is looked for, for the message.

    Raises:
        StudyError: there is no such thing, or its file cannot be imported.
    """
    place, _, attribute = reference.rpartition(":")
    try:
        module = _import_file(Path(place), kind) if place.endswith(".py") else _import_module(place)
        if place.endswith(".py") and not hasattr(module, attribute):
            raise StudyError(f"{kind} {reference!r} cannot be loaded: {place} has no {attribute!r}")
        return getattr(module, attribute)
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(f"{kind} {reference!r} cannot be loaded: {describe(error)}") from error


def canonical(reference: str) -> str:
    """A reference without the folder of its file: moving a project does not make other runs of its runs."""
    place, separator, attribute = reference.rpartition(":")
    return f"{Path(place).name}{separator}{attribute}" if place.endswith(".py") else reference


def seen_from(folder: Path, reference: str) -> str:
    """A reference that is written in a file of that folder, as seen from the current folder."""
    place, separator, attribute = reference.rpartition(":")
    if not place.endswith(".py") or Path(place).is_absolute():
        return reference
    return f"{os.path.relpath(folder / place)}{separator}{attribute}"


def own_file(reference: str) -> list[Path]:
    """The user's own file that a reference names; none if it is an installed package's or this library's."""
    place = reference.rpartition(":")[0]
    name = place if place.endswith(".py") else getattr(sys.modules.get(place), "__file__", None)
    file = None if name is None else Path(name).resolve()
    return [file] if file is not None and is_own(file) else []


def describe(error: BaseException) -> str:
    """An exception as half a sentence: its type and the first line of its message, a user's file by its own name."""
    lines = _OWN_MODULE.sub(lambda match: _file_name(match[0]), str(error).strip()).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _file_name(module: str) -> str:
    file = getattr(sys.modules.get(module), "__file__", None)
    return module if file is None else Path(file).name


def make_importable(folder: str) -> None:
    """Let modules of a folder be imported."""
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _import_module(name: str) -> ModuleType:
    # A user's own module usually lies in the folder the command is run from, as for `python -m`.
    make_importable(os.getcwd())
    return importlib.import_module(name)


def _import_file(path: Path, kind: str) -> ModuleType:
    if not path.is_file():
        raise StudyError(f"{kind} file {str(path)!r} does not exist")
    # The file may import its neighbours, as `python file.py` would let it, and what lies where the command is run.
    make_importable(os.getcwd())
    make_importable(str(path.resolve().parent))
    contents = path.read_bytes()
    # By place and contents: several references into one file share it, and an edited file is read again.
    digest = hashlib.sha256(str(path.resolve()).encode() + b"\0" + contents).hexdigest()
    name = f"{OWN_MODULE}{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise StudyError(f"{kind} file {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
