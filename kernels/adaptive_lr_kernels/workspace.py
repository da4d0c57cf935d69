"""What the fused kernels keep from step to step for one caller."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from adaptive_lr_kernels.measurer import Engine
    from adaptive_lr_kernels.merge import Segments
    from adaptive_lr_kernels.scaling import GradientScaling

KEPT_RESULTS = 2
"""Measurements that stay valid at a time."""


class Workspace:
    """Launch tables, and memory for results, of one caller who measures or scales the same gradients at every step.

    In the steady state (shapes, dtypes, alignment and stream as before) a call with a workspace allocates nothing, and
    sends the addresses of the tensors to the device only where they changed. A measurement stays as it is until two
    more are made with the same workspace; then its memory is written again. Where torch does the work it is not used.
    """

    def __init__(self) -> None:
        self._engine: tuple[int, Engine] | None = None
        self._scaling: tuple[int, torch.device, GradientScaling] | None = None

    def engine(self, names: tuple[str, ...], groups: Segments, device: torch.device) -> Engine:
        """What measures these statistics; memory of one stream is not used on another."""
        from adaptive_lr_kernels.measurer import Engine

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


@functools.lru_cache(maxsize=8)
def shared(device: torch.device, stream: int) -> Workspace:
    """The workspace of all callers on one stream who have none; for scaling alone, which leaves no results in it."""
    del device, stream
    return Workspace()


def stream_of(device: torch.device) -> int:
    """What tells the streams of a device apart: memory is used again in the order of one."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
