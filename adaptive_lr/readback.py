"""Rows of numbers on their way from the device to the host, without either waiting for the other.

A row is copied by one non-blocking copy into a slot of page-locked memory, behind an event. It is read a fixed number
of updates later, never "as soon as it is there": only so do all ranks, and a run made again, read the same row at the
same step. Where it has not arrived by then, the host waits, and the wait is counted.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor

_WIDTH = 32
"""Least numbers per slot; slots grow by doubling, so that another metric now and then makes no new memory."""


class Slot:
    """One row under way."""

    __slots__ = ("_buffer", "_event", "_ring", "_size")

    def __init__(self, ring: Ring, width: int, *, pinned: bool) -> None:
        self._buffer = torch.empty(width, dtype=torch.float64, pin_memory=pinned, device="cpu")
        self._size = 0
        self._ring = ring
        self._event: Any = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]

    def fill(self, row: Tensor) -> None:
        """Enqueue the copy of a row (float64 [n])."""
        self._size = row.numel()
        self._buffer[: self._size].copy_(row, non_blocking=True)
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(row.device))

    def read(self) -> list[float]:
        """The row, once it has arrived; the slot is free afterwards."""
        if self._event is not None and not self._event.query():
            self._ring.waits += 1
            self._event.synchronize()
        values: list[float] = self._buffer[: self._size].tolist()
        self._ring.take_back(self)
        return values


class Ring:
    """The slots: as many as rows can be under way, made once.

    Args:
        slots: how many.
    """

    def __init__(self, slots: int) -> None:
        self.free: deque[Slot] = deque()
        self.waits = 0  # rows that had not arrived when they were read
        self._slots = slots
        self._all: list[Slot] = []
        self._width = 0
        self._pinned = False

    def send(self, row: Tensor) -> Slot:
        """Enqueue the copy of a row (float64 [n]) to the host; nothing waits.

        Raises:
            RuntimeError: every slot is under way.
        """
        if row.numel() > self._width or row.is_cuda != self._pinned:
            self._make(row)
        if not self.free:
            raise RuntimeError(f"all {self._slots} slots are under way: read one first")
        slot = self.free.popleft()
        slot.fill(row)
        return slot

    def take_back(self, slot: Slot) -> None:
        """A slot was read; one from before the slots were made anew is dropped."""
        if slot in self._all:
            self.free.append(slot)

    def _make(self, row: Tensor) -> None:
        """New slots; those under way are still read by whoever holds them."""
        while self._width < max(row.numel(), _WIDTH):
            self._width = max(2 * self._width, _WIDTH)
        self._pinned = row.is_cuda
        self._all = [Slot(self, self._width, pinned=self._pinned) for _ in range(self._slots)]
        self.free = deque(self._all)
