"""Notices when the host waits for a GPU: four ways to see it, since no single one sees every wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def waits_raise() -> Iterator[None]:
    """Raises where torch itself waits: `.item()`, a copy to pageable memory, `nonzero`; not on events, nor streams."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def synchronizations() -> Iterator[list[str]]:
    """Collects the synchronizations of events, streams and devices that were asked for by name."""
    from torch.cuda import _gpu_trace

    found: list[str] = []
    registries = {
        "event": _gpu_trace.EventSynchronizationCallbacks,
        "stream": _gpu_trace.StreamSynchronizationCallbacks,
        "device": _gpu_trace.DeviceSynchronizationCallbacks,
    }
    torch._C._activate_gpu_trace()
    callbacks: dict[str, Callable[..., None]] = {
        name: (lambda *_, name=name: found.append(name)) for name in registries
    }
    for name, registry in registries.items():
        registry.add_callback(callbacks[name])
    try:
        yield found
    finally:
        for name, registry in registries.items():
            registry.callback_list.remove(callbacks[name])


class Transfers(TorchDispatchMode):
    """Collects what crosses between host and GPU: copies whose host side is pageable, and values that are read.

    A copy from pageable memory waits for all kernels queued before it, whatever `non_blocking` says.

    Attributes:
        copies: how many copies there were.
        waiting: those that wait, by the name of the operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0
        self.waiting: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = [value for value in (*args, result) if isinstance(value, torch.Tensor)]
        if name == "_local_scalar_dense" and args[0].is_cuda:
            self.waiting.append(name)
        elif name in ("copy_", "_to_copy") and len({tensor.device.type for tensor in tensors}) == 2:
            self.copies += 1
            if not all(tensor.is_cuda or tensor.is_pinned() for tensor in tensors):
                self.waiting.append(name)
        return result


def sleep(device: torch.device, seconds: float) -> None:
    """Queue a kernel that keeps the GPU busy for at least `seconds`, and not much longer."""
    cycles = 20_000_000
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(cycles)
    first.record()
    torch.cuda._sleep(cycles)
    last.record()
    torch.cuda.synchronize(device)
    torch.cuda._sleep(int(cycles * seconds * 1.2 / (first.elapsed_time(last) / 1e3)))


def host_seconds(call: Callable[[], object], device: torch.device, *, behind: float) -> tuple[float, float]:
    """Call behind a kernel of `behind` seconds.

    Returns:
        Seconds until the call returned, and until the GPU was done with everything.
    """
    sleep(device, behind)
    start = time.perf_counter()
    call()
    returned = time.perf_counter() - start
    torch.cuda.synchronize(device)
    return returned, time.perf_counter() - start
