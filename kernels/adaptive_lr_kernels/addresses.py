"""The one launch table that changes from step to step: where the tensors are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SLOTS = 4
"""Uploads that may be under way before one has to be waited for."""


class Addresses:
    """Addresses on the device, sent again only where they differ from the last.

    On a GPU they travel from pinned memory (a copy from any other waits for all that the device was given to do), in
    a ring of `SLOTS` rows: a row is written again only after its copy has been made. A row of its own is kept for a
    CUDA graph, since every replay copies from it anew: it is written once, while the graph is captured.

    Args:
        length: number of addresses.
        device: where they are to be.
    """

    def __init__(self, length: int, device: torch.device) -> None:
        pinned = device.type == "cuda"
        self.table = torch.zeros(length, dtype=torch.int64, device=device)
        """int64 [length], on the device."""
        self._sent: list[int] | None = None
        shape = (SLOTS + 1 if pinned else 1, length)
        self._rows = torch.empty(shape, dtype=torch.int64, pin_memory=pinned, device="cpu")
        self._arrays = [row.numpy() for row in self._rows]
        self._copied: list[torch.cuda.Event | None] = [None] * SLOTS
        self._slot = 0

    def known(self, addresses: Sequence[int]) -> bool:
        """Whether the device has these already."""
        return self._sent == addresses

    def send(self, addresses: list[int], *, capturing: bool = False) -> None:
        """Send addresses to the device, in the order of the current stream, without waiting.

        Args:
            addresses: as many as the table is long.
            capturing: whether a CUDA graph is being captured; the table then belongs to the graph.
        """
        if self.known(addresses):
            return
        self._sent = addresses
        if self.table.device.type != "cuda":
            self._arrays[0][:] = addresses
            self.table.copy_(self._rows[0])
            return
        if capturing:
            self._arrays[SLOTS][:] = addresses
            self.table.copy_(self._rows[SLOTS], non_blocking=True)
            return
        copied = self._copied[self._slot]
        if copied is not None and not copied.query():  # type: ignore[no-untyped-call]
            copied.synchronize()
        self._arrays[self._slot][:] = addresses
        self.table.copy_(self._rows[self._slot], non_blocking=True)
        event = copied or torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._copied[self._slot] = event
        self._slot = (self._slot + 1) % SLOTS


def storage_order(tensor: Tensor) -> tuple[int, ...] | None:
    """How the elements lie in memory, if they fill one stretch of it without gaps or overlap.

    Returns:
        The strides of the dimensions longer than 1; tensors of one shape with the same list store their elements in
        the same order. None where there are gaps or overlaps.
    """
    strides = tuple(stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    if tensor.is_contiguous():
        return strides
    sizes = (size for size in tensor.shape if size > 1)
    expected = 1
    for stride, size in sorted(zip(strides, sizes, strict=True)):
        if stride != expected:
            return None
        expected *= size
    return strides
