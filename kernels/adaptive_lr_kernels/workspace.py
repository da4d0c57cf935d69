"""What the fused kernels keep from step to step for one caller."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from adaptive_lr_kernels.measurer import Engine
    from adaptive_lr_kernels.merge import Segments
    from adaptive_lr_kernels.scaling import GradientScaling
    from adaptive_lr_kernels.tables import Tables

KEPT_RESULTS = 2
"""Measurements that stay valid at a time."""


class Measured(NamedTuple):
    """Gradients that were measured, which are not kept alive, and where.

    Attributes:
        stream: of the measurement.
        gradients: those that are not None.
        addresses: of each.
        tables: which program read what.
        table: the addresses on the device, those of gradients first, as `tables` lists them.
    """

    stream: int
    gradients: list[weakref.ref[Tensor]]
    addresses: list[int]
    tables: Tables
    table: Tensor


class Workspace:
    """Launch tables, and memory for results, of one caller who measures or scales the same gradients at every step.

    In the steady state (shapes, dtypes, alignment and stream as before) a call with a workspace allocates nothing, and
    sends the addresses of the tensors to the device only where they changed. A measurement stays as it is until two
    more are made with the same workspace; then its memory is written again. Where torch does the work it is not used.
    """

    def __init__(self) -> None:
        self._engine: tuple[int, Engine] | None = None
        self._scaling: tuple[int, torch.device, GradientScaling] | None = None
        self._measured: Measured | None = None
        self._zero: Tensor | None = None

    def engine(self, names: tuple[str, ...], groups: Segments, device: torch.device) -> Engine:
        """What measures these statistics; memory of one stream is not used on another."""
        from adaptive_lr_kernels.measurer import Engine

        self._measured = None  # the table of addresses is about to change
        stream, kept = stream_of(device), self._engine
        if kept is not None and kept[0] == stream:
            engine = kept[1]
            if (engine.names, engine.groups, engine.device) == (names, groups, device):
                return engine
        engine = Engine(names, groups, device, KEPT_RESULTS)
        self._engine = stream, engine
        return engine

    def scaling(self, device: torch.device) -> GradientScaling:
        """What scales gradients."""
        from adaptive_lr_kernels.scaling import GradientScaling

        stream, kept = stream_of(device), self._scaling
        if kept is None or kept[:2] != (stream, device):
            self._scaling = kept = stream, device, GradientScaling()
        return kept[2]

    def remember(self, gradients: Sequence[Tensor | None], where: tuple[Tables, Tensor] | None) -> None:
        """Gradients were measured; `where` they are, if each was read in place."""
        if where is not None:
            present = [gradient for gradient in gradients if gradient is not None]
            addresses = [gradient.data_ptr() for gradient in present]
            if len(set(addresses)) == len(addresses):  # what is there twice is measured twice, but scaled once
                stream = stream_of(where[1].device)
                self._measured = Measured(stream, [*map(weakref.ref, present)], addresses, *where)

    def where(self, gradients: Sequence[Tensor]) -> tuple[Tables, Tensor] | None:
        """Tables and addresses of these gradients, if they are those that were measured last, and still in place."""
        known = self._measured
        if known is None or len(known.gradients) != len(gradients) or known.stream != stream_of(known.table.device):
            return None
        if any(reference() is not gradient for reference, gradient in zip(known.gradients, gradients, strict=True)):
            return None
        if [gradient.data_ptr() for gradient in gradients] != known.addresses:
            return None
        return known.tables, known.table

    def zero(self, device: torch.device) -> Tensor:
        """A float32 zero on the device, 0-d, made once."""
        if self._zero is None or self._zero.device != device:
            self._zero = torch.zeros((), dtype=torch.float32, device=device)
        return self._zero


@functools.lru_cache(maxsize=8)
def shared(device: torch.device, stream: int) -> Workspace:
    """The workspace of all callers on one stream who have none; for scaling alone, which leaves no results in it."""
    del device, stream
    return Workspace()


def stream_of(device: torch.device) -> int:
    """What tells the streams of a device apart: memory is used again in the order of one."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
