"""Tensors as stretches of memory: what the Triton kernels are pointed at.

Most tensors fill one stretch of memory, in whatever order of dimensions, and are read where they are. A tensor with
gaps, one whose elements are marked as conjugated or negated, and a gradient and momentum in different orders (where
their product is asked for) are read from contiguous copies, made anew at every reading. A sparse gradient is read
from its coalesced values; where other tensors are read along with it, from a dense copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adaptive_lr_kernels.addresses import storage_order
from adaptive_lr_kernels.tables import Entry, Reads

ROLES = ("gradients", "parameters", "momenta")

_REALS = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}
_PLAIN_TYPES = frozenset((Tensor, torch.nn.Parameter))


class Streams(NamedTuple):
    """What is to be read: for each role, one tensor per gradient; None where there is nothing to read in that role.

    Attributes:
        tensors: of the gradients, the parameters and the momenta.
        unread: what a role consists of that nothing is read of.
        full_sizes: reals of each gradient, zeros that are not stored included; None where all are stored.
    """

    tensors: tuple[Sequence[Tensor | None], Sequence[Tensor | None], Sequence[Tensor | None]]
    unread: Sequence[None]
    full_sizes: tuple[int, ...] | None

    @classmethod
    def of(
        cls,
        gradients: Sequence[Tensor | None],
        parameters: Sequence[Tensor | None],
        momenta: Sequence[Tensor | None],
        reads: Reads,
    ) -> Streams:
        """What `reads` needs of checked tensors; the sparse ones made dense."""
        unread = (None,) * len(gradients)
        tensors = (
            gradients if reads.gradient else unread,
            parameters if reads.parameter else unread,
            momenta if reads.momentum else unread,
        )
        if not any(t is not None and t.is_sparse for role in tensors if role is not unread for t in role):
            return cls(tensors, unread, None)
        dense = [_dense(streams) for streams in zip(*tensors, strict=True)]
        first, second, third = zip(*dense, strict=True)
        return cls((first, second, third), unread, tuple(map(_num_reals, gradients)))

    @property
    def sizes(self) -> Sequence[int]:
        """Reals of each gradient, zeros that are not stored included."""
        return tuple(map(_num_reals, self.tensors[0])) if self.full_sizes is None else self.full_sizes

    def signature(self) -> object:
        """All that the tables depend on, but for the alignment of the addresses."""
        listed = [tensor for role in self.tensors if role is not self.unread for tensor in role]
        present = [tensor for tensor in listed if tensor is not None]
        return (
            self.full_sizes,
            [tensor is None for tensor in listed] if len(present) < len(listed) else len(listed),
            # The shape of a contiguous tensor does not matter, and its size is cheaper to ask for.
            [tensor.numel() if tensor.is_contiguous() else (tensor.shape, tensor.stride()) for tensor in present],
            [tensor.dtype for tensor in present],
            [tensor.is_neg() or tensor.is_conj() for tensor in present],
            [*map(type, present)],
        )

    def entries(self, reads: Reads) -> tuple[list[Entry], list[bool]]:
        """The tensors that have anything to read, and which of them are read from copies.

        Raises:
            TypeError: for a subclass of tensor, whose memory may not be its own.
        """
        entries, copied = [], []
        for index, streams in enumerate(zip(*self.tensors, strict=True)):
            read = [stream for stream in streams if stream is not None and stream.numel()]
            if not read:
                continue
            for role, stream in zip(ROLES, streams, strict=True):
                if stream is not None and type(stream) not in _PLAIN_TYPES:
                    raise TypeError(
                        f'{role}[{index}] must be an ordinary tensor for backend "triton"; '
                        f'got {type(stream).__name__}, which backend "torch" can read'
                    )
            gradient, parameter, momentum = (None if s is None else _REALS.get(s.dtype, s.dtype) for s in streams)
            entries.append(Entry(index, _num_reals(read[0]), (gradient, parameter, momentum)))
            orders = [None if stream is None else storage_order(stream) for stream in streams]
            copied.append(
                any(order is None for order, stream in zip(orders, streams, strict=True) if stream is not None)
                or any(stream.is_conj() or stream.is_neg() for stream in read)
                or (reads.dot and streams[2] is not None and orders[0] != orders[2])
            )
        return entries, copied

    def in_order(self, indices: Sequence[int], copied: Sequence[bool]) -> list[Tensor | None]:
        """The tensors at `indices`, role by role, with copies of those that need one."""
        listed = [role[index] for role in self.tensors for index in indices]
        if any(copied):
            flags = [*copied] * len(self.tensors)
            return [
                stream.resolve_conj().resolve_neg().contiguous() if flag and stream is not None else stream
                for flag, stream in zip(flags, listed, strict=True)
            ]
        return listed


def _dense(streams: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    if not any(stream is not None and stream.is_sparse for stream in streams):
        return streams
    gradient = streams[0]
    if gradient is not None and all(other is None for other in streams[1:]):
        return gradient.coalesce().values(), *streams[1:]
    return tuple(stream.to_dense() if stream is not None and stream.is_sparse else stream for stream in streams)


def _num_reals(tensor: Tensor | None) -> int:
    if tensor is None:
        return 0
    return tensor.numel() * (2 if tensor.is_complex() else 1)
