"""Launch plans remembered by what they were made for, and pointed at the tensors of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
import triton
from torch import Tensor

from adaptive_lr_kernels.addresses import Addresses
from adaptive_lr_kernels.merge import Segments
from adaptive_lr_kernels.streams import ROLES, Streams
from adaptive_lr_kernels.tables import ALIGNMENT, Reads, Tables, tables_of

MOST_PLANS = 4
"""Shape signatures remembered: a gradient that is sometimes None makes two."""

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether Triton interprets kernels (TRITON_INTERPRET=1 where they were imported): on the CPU, for tests."""

PlanT = TypeVar("PlanT")


@dataclass(frozen=True, slots=True)
class Prepared(Generic[PlanT]):
    """A plan, and what it was made for; entries are in the order of its tables.

    Attributes:
        signature: of the streams.
        indices: of the tensor of each entry.
        copied: whether the streams of an entry are read from copies.
        aligned: whether they start at multiples of `ALIGNMENT` bytes.
        addresses: where they were at the last call.
        in_place: whether all tensors are read where they are, and in full.
        plan: what was made of the tables.
    """

    signature: object
    indices: list[int]
    copied: list[bool]
    aligned: list[bool]
    addresses: Addresses
    in_place: bool
    plan: PlanT


class Plans(Generic[PlanT]):
    """The last few plans.

    Args:
        make: makes a plan of tables.
        reads: what is asked for.
        device: where the tensors are.
    """

    def __init__(self, make: Callable[[Tables], PlanT], reads: Reads, device: torch.device) -> None:
        self._make = make
        self._reads = reads
        self._device = device
        self._recent: list[Prepared[PlanT]] = []
        self._captured = False
        self.latest: Prepared[PlanT] | None = None
        """What the latest call was given."""

    @contextmanager
    def sent(self, streams: Streams, groups: Segments) -> Iterator[tuple[PlanT, Tensor]]:
        """The plan for these tensors, and their addresses on the device, which are good until the block is left.

        Raises:
            RuntimeError: while a CUDA graph is captured and there is no plan yet; and at all times after that.
        """
        if self._captured:
            raise RuntimeError("the memory of this object belongs to the CUDA graph captured with it: make another one")
        capturing = is_capturing(self._device)
        prepared, tensors, addresses = self._find(streams) or self._prepare(streams, groups, capturing=capturing)
        prepared.addresses.send(addresses, capturing=capturing)
        self._captured = capturing
        self.latest = prepared
        yield prepared.plan, prepared.addresses.table
        del tensors  # there may be copies among them

    def _find(self, streams: Streams) -> tuple[Prepared[PlanT], Sequence[Tensor | None], list[int]] | None:
        signature = streams.signature()
        for position, prepared in enumerate(self._recent):
            if prepared.signature == signature:
                tensors = streams.in_order(prepared.indices, prepared.copied)
                addresses = _addresses(tensors)
                if prepared.addresses.known(addresses) or prepared.aligned == _aligned(addresses):
                    if position:
                        self._recent.insert(0, self._recent.pop(position))
                    return prepared, tensors, addresses
        return None

    def _prepare(
        self, streams: Streams, groups: Segments, *, capturing: bool
    ) -> tuple[Prepared[PlanT], Sequence[Tensor | None], list[int]]:
        if capturing:
            raise RuntimeError(
                "before a CUDA graph is captured, call this once or more with tensors of the same shapes, dtypes and "
                "alignment: nothing can be compiled, and no memory pinned, during the capture"
            )
        entries, copied = streams.entries(self._reads)
        indices = [entry.index for entry in entries]
        aligned = _aligned(_addresses(streams.in_order(indices, copied)))
        tables = tables_of(entries, aligned, streams.sizes, groups, self._device)
        prepared = Prepared(
            streams.signature(),
            [indices[position] for position in tables.order],
            [copied[position] for position in tables.order],
            [aligned[position] for position in tables.order],
            Addresses(len(ROLES) * len(entries), self._device),
            streams.full_sizes is None and not any(copied),
            self._make(tables),
        )
        self._recent = [prepared, *self._recent[: MOST_PLANS - 1]]
        tensors = streams.in_order(prepared.indices, prepared.copied)
        return prepared, tensors, _addresses(tensors)


def check_device(device: torch.device) -> None:
    """Check that Triton can run on `device`.

    Raises:
        ValueError: if it cannot.
    """
    if device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            'backend "triton" must be given tensors on a GPU (or on the CPU, if TRITON_INTERPRET=1 was set before '
            f"Triton was imported); got tensors on {device}"
        )


def is_capturing(device: torch.device) -> bool:
    """Whether what is launched now goes into a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Makes `device` the current one, where Triton launches."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    present = [tensor.data_ptr() for tensor in tensors if tensor is not None]
    if 0 in present:
        raise TypeError('every tensor must have memory for backend "triton"; got one that stores no elements')
    following = iter(present)
    return [0 if tensor is None else next(following) for tensor in tensors]


def _aligned(addresses: Sequence[int]) -> list[bool]:
    """For each entry, whether all its streams start at multiples of `ALIGNMENT` bytes."""
    offsets = np.array(addresses, dtype=np.int64).reshape(len(ROLES), -1) % ALIGNMENT
    return [offset == 0 for offset in offsets.max(axis=0).tolist()]
