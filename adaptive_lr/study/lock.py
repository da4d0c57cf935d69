"""One study at a time in a folder, or the shards of one: who writes there holds a lock, as long as it lives."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from adaptive_lr.study.errors import FailedStudyError, StudyError

try:
    import fcntl
except ImportError:
    fcntl: Any = None  # type: ignore[no-redef]
    # Windows: nothing is locked, and results still appear whole or not at all.

LOCK = ".lock"

LOCKS = fcntl is not None

PATIENCE = 4
"""How often a lock is tried again after 50 ms: who looks whether one is held, holds it for a moment."""

logger = logging.getLogger(__name__)


class Shard(NamedTuple):
    """The runs of one job of an array: those at places number, number + of, number + 2 of, ... of a sorted list.

    Attributes:
        number: >= 0, < of.
        of: how many shards there are, >= 1.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From a text like 0/8.

        Raises:
            StudyError: it is not of that form.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = None if match is None else cls(int(match[1]), int(match[2]))
        if shard is None or not shard.number < shard.of:
            raise StudyError(f"a shard is written i/n with 0 <= i < n, such as 0/8; got {text!r}")
        return shard


@contextlib.contextmanager
def locked(folder: Path, shard: Shard | None = None) -> Iterator[None]:
    """Hold a folder while runs are carried out there.

    The system gives the lock back when a process ends, however it ends; a file that names a process of which the lock
    is free is what one left that was killed. Shards of one division share a folder.

    Args:
        folder: where results are kept; must exist.
        shard: the part of the runs that is carried out, or None for all.

    Raises:
        StudyError: another process holds the folder, or this part of it.
    """
    if not LOCKS:
        yield
        return
    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(_open(folder / LOCK))
        if shard is None:
            _take(whole, folder, exclusive=True)
            stack.enter_context(_signed(whole, folder))
        else:
            _take(whole, folder, exclusive=False)
            for other in folder.glob(f"{LOCK}-*-of-*"):
                if not other.name.endswith(f"-of-{shard.of}") and (holder := _holder(other)):
                    raise FailedStudyError(_sentence(folder, f"{holder}, which divides the runs otherwise"))
            part = stack.enter_context(_open(folder / f"{LOCK}-{shard.number}-of-{shard.of}"))
            _take(part, folder, exclusive=True)
            stack.enter_context(_signed(part, folder))
        yield


def holders(folder: Path) -> list[str]:
    """Who carries out runs in a folder now, in words."""
    return [holder for path in sorted(folder.glob(f"{LOCK}*")) if LOCKS and (holder := _holder(path))]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    # Never removed: who waits for a lock on a file that is gone would get one that nobody else sees.
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+") as file:
        yield file


def _take(file: IO[str], folder: Path, *, exclusive: bool) -> None:
    for patience in range(PATIENCE, -1, -1):
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                logger.warning("%s cannot be locked (%s): see to it that only one study writes there", folder, error)
                return
        if patience:
            time.sleep(0.05)
    found = holders(folder)
    raise FailedStudyError(_sentence(folder, ", ".join(found) or "another process"))


def _sentence(folder: Path, holder: str) -> str:
    return (
        f"another study is under way in {str(folder)!r}: {holder}; wait for it, stop it, or give another --output "
        "(several at once are possible with --shard i/n)"
    )


@contextlib.contextmanager
def _signed(file: IO[str], folder: Path) -> Iterator[None]:
    """Write into a lock whose it is, and take that out at the end."""
    left = _read(file)
    if left:
        logger.warning("%s, in %s, did not come to its end; finished runs are kept, and it goes on here", left, folder)
    file.seek(0)
    file.truncate()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": now}, file)
    file.flush()
    try:
        yield
    finally:
        file.seek(0)
        file.truncate()


def _read(file: IO[str]) -> str:
    file.seek(0)
    try:
        about = json.load(file)
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (ValueError, KeyError, TypeError):
        return ""


def _holder(path: Path) -> str:
    """Whose a lock is, or nothing if it is free."""
    try:
        with path.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _read(file) or "a process that does not say its name"
    except OSError:
        pass
    return ""
