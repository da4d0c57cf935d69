"""What happens when processes meet: attaching, agreeing on rows, the number of messages; scenarios of `processes`."""

from __future__ import annotations

import io
import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._python_dispatch import TorchDispatchMode

import spread_training
from adaptive_lr import AdaptiveLR, controllers, read_trace
from adaptive_lr.ranks import SLOTS


class Idle(torch.optim.Optimizer):
    """Its step does nothing, so that whatever happens in one is control."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1, "momentum": 0.9})

    def step(self, closure: Any = None) -> None:
        del closure


class DTensorOperations(TorchDispatchMode):
    """Counts the operations that are given a DTensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += any(issubclass(kind, DTensor) for kind in types)
        return func(*args, **(kwargs or {}))


def refusal(of: Any) -> str:
    """The message with which something was refused, on this process."""
    try:
        of()
    except ValueError as error:
        return str(error)
    return "accepted"


def backward(work: spread_training.Spread) -> torch.Tensor:
    x = torch.arange(48.0).reshape(8, 6)[work.part] / 48
    loss = work.model(x).square().mean()
    loss.backward()
    return loss


def messages(kind: str) -> dict[str, Any]:
    """Collectives and DTensor operations of guarded control in one step: while the ratio is watched, and later."""
    work = spread_training.spread(kind)
    backward(work)
    optimizer = Idle(work.model.parameters())
    found: dict[str, Any] = {}
    quick = controllers.Composition((controllers.Rescue(watch_steps=2), *list(controllers.guarded())[1:]))
    for attachment, laws in (("guarded", controllers.guarded()), ("unwatched", quick)):
        control = AdaptiveLR(optimizer, laws)
        for _ in range(5):
            optimizer.step()
            control.step(1.0)
        with CommDebugMode() as update, DTensorOperations() as update_operations:
            optimizer.step()
        with CommDebugMode() as step, DTensorOperations() as step_operations:
            control.step(1.0)
        control.detach()
        found[attachment] = {
            "update": update.get_total_counts(),
            "step": step.get_total_counts(),
            "operations": update_operations.count + step_operations.count,
        }
    with DTensorOperations() as proof:
        for parameter in work.model.parameters():
            parameter.grad.square()
    found["seen by the counter"] = proof.count
    return found


def losses() -> list[dict[str, float]]:
    """The rows of three steps in which processes hand in different losses, one of them not finite."""
    rank, world = dist.get_rank(), dist.get_world_size()
    work = spread_training.spread("ddp")
    optimizer = torch.optim.SGD(work.model.parameters(), lr=0.01)
    with tempfile.TemporaryDirectory() as folder:
        # Every process measures what the trace of the first one wants.
        control = AdaptiveLR(optimizer, trace=folder if rank == 0 else None)
        for loss in (float(rank), math.nan if rank == world - 1 else 1.0, -math.inf if rank == 0 else 1.0):
            optimizer.zero_grad()
            backward(work)
            optimizer.step()
            control.step({"loss": loss, "accuracy": 2.0 * rank})
        control.observe(val_loss=float(rank))
        control.observe(**{f"metric {index:02}": float(rank + index) for index in range(2 * SLOTS)})
        control.detach()
        if rank:
            return []
        return [{"phase": str(row.phase), **row.values} for row in read_trace(Path(folder)).rows]


def differences() -> dict[str, str]:
    """Processes that are not alike, refused on every one of them."""
    first = dist.get_rank() == 0
    model = spread_training.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = torch.optim.SGD(torch.nn.Linear(1, 2 if first else 3).parameters(), lr=0.1)
    found = {
        "lag": refusal(lambda: AdaptiveLR(optimizer, lag=int(first))),
        "laws": refusal(lambda: AdaptiveLR(optimizer, controllers.guarded(snapshots=first))),
        "parameters": refusal(lambda: AdaptiveLR(other)),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        own = torch.nn.Parameter(torch.full((3,), 1.0 + dist.get_rank()))
        AdaptiveLR(torch.optim.SGD([own], lr=0.1)).detach()
    found["weights"] = " ".join(str(warning.message) for warning in caught)
    control = AdaptiveLR(optimizer)
    found["names"] = refusal(lambda: control.observe(**({"a": 1.0} if first else {"b": 1.0})))
    found["number of names"] = refusal(lambda: control.step(1.0 if first else None))
    found["alike"] = refusal(lambda: control.observe(a=1.0))
    return found


def groups() -> dict[str, Any]:
    """Groups that are not the default one, or none."""
    rank, world = dist.get_rank(), dist.get_world_size()
    pairs = [dist.new_group([start, start + 1]) for start in range(0, world, 2)]
    mine, foreign = pairs[rank // 2], pairs[1 - rank // 2] if world > 2 else None
    found: dict[str, Any] = {}
    for name, group in (("pair", mine), ("alone", None)):
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        control = AdaptiveLR(optimizer, process_group=group)
        rows = []
        consider = control._deliberation.consider
        control._deliberation.consider = lambda row, update, c=consider, r=rows: (r.append(row), c(row, update))[1]
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, rank)
        optimizer.step()
        control.step(float(rank))
        found[name] = [(row.get("grad_norm"), row.get("loss")) for row in rows if row.get("grad_norm") is not None]
    if foreign is not None:
        model = torch.nn.Linear(1, 1)
        found["foreign"] = refusal(
            lambda: AdaptiveLR(torch.optim.SGD(model.parameters(), lr=0.1), process_group=foreign)
        )
    sharded = torch.optim.SGD(spread_training.spread("fsdp").model.parameters(), lr=0.1)
    found["sharded, alone"] = refusal(lambda: AdaptiveLR(sharded, process_group=None))
    if world > 2:
        found["sharded, too few"] = refusal(lambda: AdaptiveLR(sharded, process_group=mine))
    return found


def checkpoint(kind: str) -> bool:
    """Whether a snapshot of shards goes through a file and brings the weights back."""
    work = spread_training.spread(kind)
    optimizer = torch.optim.SGD(work.model.parameters(), lr=0.1, momentum=0.9)
    backward(work)
    optimizer.step()
    control = AdaptiveLR(optimizer)  # keeps a snapshot of the start
    before = [spread_training.whole(p) for p in work.model.parameters()]
    momenta = [spread_training.whole(optimizer.state[p]["momentum_buffer"]) for p in work.model.parameters()]
    file = io.BytesIO()
    torch.save(control.state_dict(), file)
    optimizer.step()
    control.step(1.0)
    control.detach()
    control = AdaptiveLR(optimizer)
    file.seek(0)
    control.load_state_dict(torch.load(file))
    control._layer.put_back(control._layer.snapshot, optimizer, None)
    after = [spread_training.whole(p) for p in work.model.parameters()]
    momenta_after = [spread_training.whole(optimizer.state[p]["momentum_buffer"]) for p in work.model.parameters()]
    return all(map(torch.equal, before + momenta, after + momenta_after))


MEETINGS: dict[int, dict[str, Any]] = {
    2: {
        "messages ddp": lambda: messages("ddp"),
        "messages tp": lambda: messages("tp"),
        "losses": losses,
        "differences": differences,
        "groups": groups,
        "checkpoint fsdp": lambda: checkpoint("fsdp"),
        "checkpoint tp": lambda: checkpoint("tp"),
        "lagged": lambda: spread_training.train(
            "fsdp", optimizer=spread_training.huge, laws=controllers.guarded, steps=9, events=False, lag=2
        ),
        "single lagged": lambda: spread_training.train(
            "single", optimizer=spread_training.huge, laws=controllers.guarded, steps=9, events=False, lag=2
        ),
        "resumed": lambda: spread_training.train(
            "fsdp", optimizer=spread_training.sgd, laws=controllers.guarded, steps=24, reload_at=18
        ),
    },
    4: {
        "messages fsdp_tp": lambda: messages("fsdp_tp"),
        "losses": losses,
        "groups": groups,
        "checkpoint fsdp_tp": lambda: checkpoint("fsdp_tp"),
    },
}
