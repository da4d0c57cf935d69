"""What is timed, and the row of the record that each timing becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from adaptive_lr_kernels import measure
from benchmarks import rivals
from benchmarks.tensors import Model, even
from benchmarks.timing import Timing, Way, compare

NORM = ("grad_norm",)
GRADIENT = ("grad_norm", "grad_max", "grad_mean", "grad_variance", "nonfinite")
FULL = (*GRADIENT, "param_norm", "momentum_norm", "alignment")


@dataclass(frozen=True)
class Row:
    """One way to do one thing, in the record.

    Attributes:
        case: what is done.
        way: how.
        threads: torch's threads on the host.
        parameters, tensors, dtype: what it is done to.
        bytes: what has to be read at least once; 0 where that says nothing.
        seconds: median time of a call.
        host, device: the same on the host and on the GPU apart (None on a CPU).
        bandwidth_share: bytes / seconds as a share of the measured read bandwidth, or None.
        baseline: the way that `ratio` compares with.
        ratio: median over turns of the time in units of the baseline's.
        device_ratio: the time on the GPU in units of the baseline's, or None.
    """

    case: str
    way: str
    threads: int
    parameters: int
    tensors: int
    dtype: str
    bytes: int
    seconds: float
    host: float
    device: float | None
    bandwidth_share: float | None
    baseline: str
    ratio: float
    device_ratio: float | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def rows_of(
    case: str, timings: dict[str, Timing], baseline: str, model: Model, *, read: int, bandwidth: float | None
) -> Iterator[Row]:
    """The rows of one case.

    Args:
        case: its name.
        timings: by way.
        baseline: the way to compare with.
        model: what was measured.
        read: bytes that have to be read.
        bandwidth: measured read bandwidth in bytes a second; None where the share says nothing.
    """
    for way, timing in timings.items():
        busy = timing.seconds if timing.device is None else timing.device
        yield Row(
            case=case,
            way=way,
            threads=torch.get_num_threads(),
            parameters=model.numel,
            tensors=len(model.parameters),
            dtype=str(model.parameters[0].dtype).removeprefix("torch."),
            bytes=read,
            seconds=timing.seconds,
            host=timing.host,
            device=timing.device,
            bandwidth_share=None if bandwidth is None else read / busy / bandwidth,
            baseline=baseline,
            ratio=timing.ratio(timings[baseline]),
            device_ratio=timing.device_ratio(timings[baseline]),
        )


def read_bandwidth(device: torch.device, *, numel: int, turns: int) -> float:
    """Bytes a second of a plain `torch.sum` over one large float32 tensor: the ceiling of anything that reads once."""
    values = torch.ones(numel, device=device)
    timing = compare({"sum": Way(lambda: torch.sum(values))}, device, turns=turns)["sum"]
    return numel * 4 / (timing.seconds if timing.device is None else timing.device)


def statistics_cases(
    device: torch.device, dtype: torch.dtype, parameters: int, tensors: int, *, bandwidth: float, turns: int
) -> Iterator[Row]:
    """Each set of statistics over one set of tensors, against what is used today."""
    model = Model.of(even(parameters, tensors), device, dtype, momenta=True)
    gradient, full = model.bytes, 3 * model.bytes

    def ours(names: tuple[str, ...]) -> object:
        whole = names is FULL
        found = measure(
            model.gradients,
            statistics=names,
            parameters=model.parameters if whole else None,
            momenta=model.momenta if whole else None,
        )
        # Overall and per tensor are read, as tensors: what a rival returns is per tensor too.
        return [found.overall[name] for name in names], [found.per_tensor[name] for name in names if names is not NORM]

    sets = {
        "norm": (
            NORM,
            gradient,
            {
                "torch._foreach_norm": Way(partial(rivals.foreach_norm, model)),
                "clip_grad_norm_": Way(partial(rivals.clip, model)),
                "item() loop": Way(partial(rivals.norm_items, model), waits=True),
            },
        ),
        "gradient statistics": (
            GRADIENT,
            gradient,
            {
                "best torch sequence": Way(partial(rivals.gradient_sequence, model)),
                "item() loop": Way(partial(rivals.gradient_items, model), waits=True),
            },
        ),
        "all statistics": (
            FULL,
            full,
            {
                "best torch sequence": Way(partial(rivals.full_sequence, model)),
                "item() loop": Way(partial(rivals.full_items, model), waits=True),
            },
        ),
    }
    for case, (names, read, others) in sets.items():
        ways = {**others, "measure": Way(partial(ours, names))}
        timings = compare(ways, device, turns=turns)
        yield from rows_of(case, timings, next(iter(others)), model, read=read, bandwidth=bandwidth)
