"""A file that only grows: written in whole records, without a thread, and honest about every failure."""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from pathlib import Path


class AppendFile:
    """Records appended to a file: held in memory until `flush`, then written at once.

    Unbuffered below that, so that a failed write is reported by the write and by nothing later (a buffered file
    would try once more when it is closed or collected). One writer per file in a process: a second one takes over.

    Args:
        path: the file; made with its directories if need be. A torn last line of an existing text file (a run that
            was killed while writing) is taken away, so that no line is ever appended to half a line.

    Raises:
        OSError: the file cannot be opened for appending.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._records: list[bytes] = []
        self._process = os.getpid()
        key = os.path.realpath(path)
        previous = _WRITERS.get(key)
        if previous is not None:
            with contextlib.suppress(Exception):  # its failure is its own trace's to report
                previous.flush()
        self._file = path.open("a+b", buffering=0)
        _drop_torn_line(self._file.fileno())
        self._written = self._file.seek(0, os.SEEK_END)
        self._key = key
        _WRITERS[key] = self

    def append(self, record: bytes) -> None:
        """Take a whole record; it reaches the file at the next `flush`."""
        self._records.append(record)

    def flush(self) -> None:
        """Write what was appended.

        Raises:
            OSError: the disk is full, the file is gone, ...
            RuntimeError: another writer took the file over.
        """
        if not self._records or os.getpid() != self._process:  # a forked child must not write its parent's records
            return
        if _WRITERS.get(self._key) is not self:
            raise RuntimeError("another trace has begun in this directory; give each a directory of its own")
        if not self.path.exists():  # an unlinked file takes writes without complaint
            raise FileNotFoundError(errno.ENOENT, "the file was removed while it was being written", str(self.path))
        data = memoryview(b"".join(self._records))
        # A flush cut short by Ctrl-C may have written already: go on from where the file ends.
        done = self._file.tell() - self._written
        while done < len(data):
            done += self._file.write(data[done:])
        self._records, self._written = [], self._file.tell()

    def close(self) -> None:
        """Flush, then close.

        Raises:
            OSError, RuntimeError: as `flush`; the file is closed all the same.
        """
        try:
            self.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without writing what is left."""
        self._records = []
        with contextlib.suppress(OSError):
            self._file.close()


_WRITERS: weakref.WeakValueDictionary[str, AppendFile] = weakref.WeakValueDictionary()


def _drop_torn_line(descriptor: int) -> None:
    """Truncate a file after its last line break."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - 65536)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end != os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, end)
