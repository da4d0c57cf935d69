"""Timing of several ways to do one thing, in turns, so that all see the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

LEAST_SECONDS = 2e-3
"""On a CPU a call is repeated until a turn takes this long."""

FLUSH_BYTES = 256 * 2**20
"""Read between two timed calls on a GPU: more than its L2 cache holds, so that no call finds its input there. Read, not
written: a cache full of what has yet to be written would be written back at the expense of the call, 50 MB of it."""


@dataclass(frozen=True)
class Way:
    """One way to do it.

    Attributes:
        call: does it once.
        waits: whether it waits for the GPU; such a call cannot be queued behind others, so that its GPU time is that
            of its kernels and the gaps between them.
    """

    call: Callable[[], object]
    waits: bool = False


@dataclass(frozen=True)
class Timing:
    """Medians over the turns, per call.

    Attributes:
        seconds: until everything was done. On a GPU the larger of the other two.
        host: until the call returned.
        device: on the GPU, from the first kernel to the last; None on a CPU.
        turns: seconds of each turn, by which ways are compared turn by turn.
    """

    seconds: float
    host: float
    device: float | None
    turns: tuple[float, ...]

    def ratio(self, other: Timing) -> float:
        """Median over turns of this time in units of the other's."""
        return statistics.median(mine / its for mine, its in zip(self.turns, other.turns, strict=True))

    def device_ratio(self, other: Timing) -> float | None:
        """The time on the GPU in units of the other's; None on a CPU."""
        return None if self.device is None or other.device is None else self.device / other.device

    def minus(self, other: Timing) -> Timing:
        """Turn by turn, what this takes beyond the other; on a GPU, of the host's time and the device's apart."""
        turns = tuple(mine - its for mine, its in zip(self.turns, other.turns, strict=True))
        host = self.host - other.host
        device = None if self.device is None or other.device is None else self.device - other.device
        return Timing(statistics.median(turns), host, device, turns)


def compare(ways: Mapping[str, Way], device: torch.device, *, turns: int) -> dict[str, Timing]:
    """Time each way once a turn, turn after turn.

    Args:
        ways: by name.
        device: where they run.
        turns: how often each is timed, after one turn that does not count.
    """
    if device.type == "cuda":
        return _compare_on_gpu(ways, device, turns)
    repeats = {name: _repeats(way) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                way.call()
            seconds[name].append((time.perf_counter() - start) / repeats[name])
    return {
        name: Timing(statistics.median(taken), statistics.median(taken), None, tuple(taken))
        for name, taken in seconds.items()
    }


def _repeats(way: Way) -> int:
    way.call()
    start = time.perf_counter()
    way.call()
    return max(1, int(LEAST_SECONDS / max(time.perf_counter() - start, 1e-7)))


def _compare_on_gpu(ways: Mapping[str, Way], device: torch.device, turns: int) -> dict[str, Timing]:
    flushed = torch.zeros(FLUSH_BYTES // 4, device=device)
    cycles = _cycles_per_second(device)
    host: dict[str, list[float]] = {name: [] for name in ways}
    gpu: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        for _ in range(1 if way.waits else 3):  # kernels are compiled and memory is there
            way.call()
    torch.cuda.synchronize(device)
    for turn in range(turns + 1):
        for name, way in ways.items():
            flushed.sum()
            if not way.waits:
                # The queue is full while the host works, so that the GPU never waits for it.
                known = host[name][-1] if host[name] else 5e-3
                torch.cuda._sleep(int(cycles * min(2 * known + 1e-4, 1.0)))
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            if way.waits:
                torch.cuda.synchronize(device)
            first.record()
            start = time.perf_counter()
            way.call()
            taken = time.perf_counter() - start
            last.record()
            torch.cuda.synchronize(device)
            if turn:
                host[name].append(taken)
                gpu[name].append(first.elapsed_time(last) / 1e3)
    found = {}
    for name in ways:
        both = tuple(map(max, host[name], gpu[name]))
        found[name] = Timing(statistics.median(both), statistics.median(host[name]), statistics.median(gpu[name]), both)
    return found


def _cycles_per_second(device: torch.device) -> float:
    """Cycles of `torch.cuda._sleep` in a second."""
    cycles = 10_000_000
    times = []
    for _ in range(3):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        torch.cuda._sleep(cycles)
        last.record()
        torch.cuda.synchronize(device)
        times.append(first.elapsed_time(last) / 1e3)
    return cycles / min(times)
