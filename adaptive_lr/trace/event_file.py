"""Where TensorBoard's events go: an event file of our own, or the user's `SummaryWriter`."""

from __future__ import annotations

import functools
import os
import struct
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adaptive_lr.trace.files import AppendFile


class Sink(Protocol):
    """Where events go."""

    def add(self, event: Any) -> None:
        """Take one `Event`; it may be changed once this returns."""

    def flush(self, *, wait: bool) -> None:
        """Bring what was added to the disk; without `wait`, as far as that cannot hold up training."""

    def close(self) -> None:
        """Flush, then let go."""

    def abandon(self) -> None:
        """Let go without writing."""


class EventFile:
    """An event file of our own, written where and when the exact record is.

    TensorBoard's own writer has a thread and a queue of ten events: it blocks training when the disk is slow, prints
    a traceback from the thread when it is full, and spends most of its time on a checksum in pure Python.
    """

    def __init__(self, directory: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        seconds, nanoseconds = divmod(time.time_ns(), 10**9)  # readers take the files of a run in the order of names
        name = f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.{os.getpid()}.adaptive_lr"
        self._file = AppendFile(directory / name)
        self.add(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, event: Any) -> None:
        """Take one `Event`; it may be changed once this returns."""
        data = event.SerializeToString()
        self._file.append(_frame(len(data)) + data + _masked_checksum(data))

    def flush(self, *, wait: bool) -> None:
        """Bring what was added to the disk."""
        self._file.flush()

    def close(self) -> None:
        """Flush, then let go."""
        self._file.close()

    def abandon(self) -> None:
        """Let go without writing."""
        self._file.abandon()


class WriterSink:
    """The user's `SummaryWriter`: ours to write to, theirs to close."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, event: Any) -> None:
        """Take one `Event`; it may be changed once this returns."""
        # As the writer's own methods do; a writer that was closed opens a new file.
        self._writer._get_file_writer().add_event(event, event.step, event.wall_time)

    def flush(self, *, wait: bool) -> None:
        """Bring what was added to the disk."""
        # The writer's own thread flushes it now and then; to flush it here is to wait for that thread.
        if wait and self._writer.file_writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Nothing: this may run wherever a trace is collected, even in the writer's own thread, which must not wait."""

    def abandon(self) -> None:
        """Nothing to let go of."""


# The record format of event files (TFRecord): length, its checksum, the data, its checksum. Checksums are CRC-32C
# (Castagnoli), rotated and shifted so that data holding checksums is not mistaken for its own.


@functools.lru_cache(maxsize=4096)
def _frame(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + _masked_checksum(packed)


def _masked_checksum(data: bytes) -> bytes:
    checksum = _crc32c(data)
    return struct.pack("<I", (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


_BLOCK = 512


@functools.cache
def _contributions() -> np.ndarray[Any, np.dtype[np.uint32]]:
    """What byte value v at place p of a block adds to the checksum at the block's end, at index 256 p + v."""
    column = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        column = np.where(column & 1, (column >> 1) ^ np.uint32(0x82F63B78), column >> 1).astype(np.uint32)
    byte = column
    columns = [column]
    for _ in range(_BLOCK - 1):  # one zero byte further from the end
        column = byte[column & 0xFF] ^ (column >> 8)
        columns.append(column)
    return np.concatenate(columns[::-1])


_PLACES = np.arange(_BLOCK) * 256


def _crc32c(data: bytes) -> int:
    """CRC-32C of at least four bytes, a block at a time.

    A cyclic redundancy check is linear over GF(2): the checksum of a block is the exclusive or of what each of its
    bytes would give alone, so that one table look-up by numpy replaces a Python operation per byte (20 times
    faster for an event of 20 scalars). The register that comes in is the same as its four bytes added to the
    first four of the block, and leading zeros add nothing.
    """
    head = (int.from_bytes(data[:4], "little") ^ 0xFFFFFFFF).to_bytes(4, "little")
    padded = np.frombuffer(bytes(-len(data) % _BLOCK) + head + data[4:], np.uint8)
    table = _contributions()
    register = 0
    for start in range(0, len(padded), _BLOCK):
        block = padded[start : start + _BLOCK]
        if register:
            block = block.copy()
            block[:4] ^= np.frombuffer(register.to_bytes(4, "little"), np.uint8)
        register = int(np.bitwise_xor.reduce(table[_PLACES + block]))
    return register ^ 0xFFFFFFFF
