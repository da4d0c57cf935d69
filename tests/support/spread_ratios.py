"""The update-to-weight ratio of each tensor, of whole and of spread models; scenarios of `processes`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from adaptive_lr import AdaptiveLR
from adaptive_lr.update_ratio import UpdateRatioMeter
from deferral import deferred
from laws import Watch
from spread_training import BATCH, Spread, sgd, spread

SEEDS = 400
"""Samples of the same update."""

RATIO_KINDS = {2: ("single", "ddp", "fsdp", "tp"), 4: ("single", "hsdp", "fsdp_tp")}
"""Kinds of parallelism, by the number of processes."""


def backward(work: Spread) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 6, generator=generator)
    work.model(x[work.part]).square().mean().backward()


def ratios(kind: str, *, late: bool) -> dict[str, Any]:
    """By name, of one update: from whole weights, and from samples that cover them; read at once or late."""
    found: dict[str, Any] = {}
    for name, laws in (("whole", (Watch(("update_ratio",)),)), ("sampled", ())):
        work = spread(kind)
        optimizer = sgd(work.model.parameters())
        group: Any = None if kind == "single" else "auto"
        every = 1 if dist.get_rank() == 0 else None  # what one asks for, all measure
        with deferred(late):
            control = AdaptiveLR(
                optimizer, laws, model=work.model, process_group=group, lag=2 * late, update_ratios_every=every
            )
        backward(work)
        optimizer.step()
        control.step(1.0)
        control.detach()
        measured = control.update_ratios
        found[name] = None
        if measured is not None:
            found[name] = {n.removeprefix("module."): value for n, value in measured.values.items()}
            found[f"{name} errors"] = list(measured.errors.values())
    return found


def estimates(kind: str) -> torch.Tensor:
    """Of one update, from many samples of sixteen elements of each tensor, or of what a process holds of it.

    Ratios and their errors, [2, SEEDS, num_tensors].
    """
    work = spread(kind)
    optimizer = sgd(work.model.parameters())
    meter = UpdateRatioMeter(None if kind == "single" else dist.group.WORLD)
    backward(work)
    with mock.patch("adaptive_lr.update_ratio.SAMPLE", 16):
        kept = [meter.sample(optimizer, seed) for seed in range(SEEDS)]
        optimizer.step()
        found = [meter.ratios(weights) for weights in kept]
    return torch.stack([torch.stack(tuple(ratios)) for ratios in found if ratios is not None], 1)


RATIOS: dict[int, dict[str, Callable[[], Any]]] = {
    world: {
        **{f"ratios {kind}": functools.partial(ratios, kind, late=False) for kind in kinds},
        **{f"late ratios {kind}": functools.partial(ratios, kind, late=True) for kind in kinds},
        **{f"estimates {kind}": functools.partial(estimates, kind) for kind in kinds},
    }
    for world, kinds in RATIO_KINDS.items()
}
