"""Training runs of one small model, whole on one process or spread over several, as scenarios of `processes`."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from adaptive_lr import AdaptiveLR, controllers

SCALES = {17: 10.0, 19: 1e4}
"""What the gradient of a step is multiplied by: one to be damped, one to be left out."""

POISON = 21
BATCH = 8
PLAN = {"0": ColwiseParallel(), "2": RowwiseParallel()}  # the last layer stays an ordinary module on every process

warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


@dataclass
class Spread:
    """A model under one kind of parallelism, and the part of the batch that this process works on."""

    model: nn.Module
    part: slice


def network() -> nn.Sequential:
    torch.manual_seed(1)
    # 10 and 3 rows do not divide by 4, so shards are uneven, and one of them is empty.
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 3))


def spread(kind: str) -> Spread:
    model, rank, world = network(), dist.get_rank(), dist.get_world_size()
    if kind == "single":
        return Spread(model, slice(None))
    if kind == "tp":
        return Spread(parallelize_module(model, init_device_mesh("cpu", (world,)), PLAN), slice(None))
    if kind == "ddp":
        return Spread(DistributedDataParallel(model), _part(rank, world))
    if kind == "fsdp":
        mesh, part = init_device_mesh("cpu", (world,)), _part(rank, world)
    elif kind == "hsdp":
        mesh, part = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("replicas", "shards")), _part(rank, world)
    else:
        both = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("data", "tensor"))
        parallelize_module(model, both["tensor"], PLAN)
        mesh, part = both["data"], _part(both.get_local_rank("data"), 2)
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return Spread(model, part)


def _part(index: int, of: int) -> slice:
    size = BATCH // of
    return slice(index * size, (index + 1) * size)


def train(
    kind: str,
    *,
    optimizer: Callable[[Any], torch.optim.Optimizer],
    laws: Callable[[], Any],
    steps: int,
    events: bool = True,
    lag: int = 0,
    reload_at: int | None = None,
    process_group: Any = "auto",
) -> dict[str, Any]:
    """A controlled run; with events, two spikes of everyone's gradient and a NaN in the last process's alone."""
    work = spread(kind)
    last = kind == "single" or dist.get_rank() == dist.get_world_size() - 1
    attached = optimizer(work.model.parameters())
    group = None if kind == "single" else process_group
    control = AdaptiveLR(attached, laws(), lag=lag, process_group=group)
    norms, rates = [], []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(BATCH, 6, generator=generator)
        y = x[:, :3].square() + 0.1 * torch.randn(BATCH, 3, generator=generator)
        loss = (work.model(x[work.part]) - y[work.part]).square().mean()
        attached.zero_grad()
        (loss * (SCALES.get(step, 1.0) if events else 1.0)).backward()
        if events and step == POISON and last:
            poison(work.model)
        attached.step()
        norms.append((control._rows._latest or ({}, ()))[0].get("grad_norm", 0.0))
        control.step(loss)
        rates.append(control.get_last_lr()[0])
        if step == reload_at:
            state = control.state_dict()
            control.detach()
            control = AdaptiveLR(attached, laws(), lag=lag, process_group=group)
            control.load_state_dict(state)
    return {
        "decisions": [(d.step, str(d.phase), d.controller, d.action, d.statistic, d.value) for d in control.decisions],
        "norms": norms,
        "rates": rates,
        "factor": control.factor,
        "stop": control.should_stop,
        "weights": torch.cat([whole(p).flatten() for p in work.model.parameters()]),
    }


def poison(model: nn.Module) -> None:
    """A NaN in what this process holds of some gradient."""
    for parameter in model.parameters():
        gradient = parameter.grad
        held = gradient.to_local() if isinstance(gradient, DTensor) else gradient
        if held is not None and held.numel():
            held.view(-1)[0] = torch.nan
            return


def whole(parameter: torch.Tensor) -> torch.Tensor:
    parameter = parameter.detach()
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.clone()


sgd = functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9)
adamw = functools.partial(torch.optim.AdamW, lr=0.01)
huge = functools.partial(torch.optim.SGD, lr=30.0)

RUNS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": sgd, "laws": controllers.guarded, "steps": 24},
    "adamw": {"optimizer": adamw, "laws": controllers.guarded, "steps": 24},
    "destroyed": {"optimizer": huge, "laws": controllers.guarded, "steps": 12, "events": False},
    "automatic": {
        "optimizer": adamw,
        "laws": functools.partial(controllers.automatic, total_steps=300),
        "steps": 35,
        "events": False,
    },
}
"""What is done in each kind of parallelism."""

WHOLE = ("single", "ddp", "fsdp", "tp")
DONE: dict[int, dict[str, tuple[str, ...]]] = {
    2: {"sgd": WHOLE, "adamw": ("single", "fsdp"), "destroyed": WHOLE, "automatic": ("single", "ddp", "fsdp")},
    4: {
        "sgd": (*WHOLE, "hsdp", "fsdp_tp"),
        "adamw": ("single", "ddp"),
        "destroyed": ("single", "fsdp_tp"),
        "automatic": ("single", "fsdp_tp"),
    },
}
"""Which runs are done in which kinds of parallelism, by the number of processes."""

TRAINING: dict[int, dict[str, Callable[[], Any]]] = {
    world: {
        f"{kind} {run}": functools.partial(train, kind, **RUNS[run]) for run, kinds in runs.items() for kind in kinds
    }
    for world, runs in DONE.items()
}
