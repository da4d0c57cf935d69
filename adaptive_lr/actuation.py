"""How the reflex that was judged on the device reaches the update of the same step, while the host knows nothing yet.

| optimizer | damp, clip | skip |
| --- | --- | --- |
| `Adam`, `AdamW`, `SGD`, `Adagrad` of torch with ``fused=True`` | exact: gradients multiplied in place | exact: |
| | | `found_inf` |
| the same, where a GradScaler has not unscaled, or without Triton | exact: `optimizer.grad_scale` | exact: |
| | | `found_inf` |
| any other, gradients dense | exact: gradients multiplied in place | gradients are zeros; momentum, weight decay and |
| | | the optimizer's counters advance by that one step |
| a closure, sparse gradients, gradients with a graph, the first | exact: the host waits | exact: the host waits |
| step of fused SGD with momentum, a held learning rate | | |
| any, with ``lag=0`` | exact: the host waits | exact: the host waits |

Exact means: what the law asked for, to the rounding of one product or quotient (by `grad_scale`, a fused optimizer
divides by scale / damp). Where nothing is to be scaled, our kernel leaves gradients unread and unwritten, and so does a
skip by `found_inf`. With a `grad_scale`, torch's fused kernels write every gradient at every step, which is why it is
not set where it need not be. In plain torch (a GPU without Triton, or tensors of a subclass) gradients are written at
every step, to the same bits.
(torch 2.11 has the fused Adagrad for CPUs alone, and refuses it on a GPU; 2.13 has it for both.)
An optimizer that is not fused cannot be left out from the device without copies of its parameters and state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from adaptive_lr_kernels import Workspace
from adaptive_lr_kernels.backends import selected
from adaptive_lr_kernels.reflex import Judgement, scale_gradients
from adaptive_lr_kernels.shards import localised

_FUSED = frozenset((Adam, AdamW, SGD, Adagrad))
_ABSENT = object()


def is_fused(optimizer: Optimizer) -> bool:
    """Whether the optimizer's step reads `found_inf` and `grad_scale` on the device."""
    return type(optimizer) in _FUSED and all(group.get("fused") for group in optimizer.param_groups)


def can_act(optimizer: Optimizer) -> bool:
    """Whether the reflex can act from the device in the step to come, as the table says."""
    count = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None:
                count += 1
                if gradient.requires_grad or gradient.layout is not torch.strided:
                    return False
    if not count:
        return False
    if type(optimizer) is SGD and is_fused(optimizer) and any(group["momentum"] for group in optimizer.param_groups):
        # torch makes fused SGD's first momentum buffers without values, and a skip would leave them so.
        return len(optimizer.state) >= count
    return True


@dataclass(slots=True)
class Flags:
    """What `optimizer.found_inf` and `optimizer.grad_scale` were before the step."""

    found_inf: Any
    grad_scale: Any

    def put_back(self, optimizer: Optimizer) -> None:
        """Set them as they were; a GradScaler expects its own."""
        for name, value in (("found_inf", self.found_inf), ("grad_scale", self.grad_scale)):
            if value is not _ABSENT:
                setattr(optimizer, name, value)
            elif hasattr(optimizer, name):
                delattr(optimizer, name)


def act(optimizer: Optimizer, judgement: Judgement, workspace: Workspace) -> Flags | None:
    """Let the reflex act on the step to come, without waiting for the device.

    Args:
        optimizer: whose step it is.
        judgement: on the device.
        workspace: what scaling keeps from step to step.

    Returns:
        What is to be put back after the step, or None.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    unique = {id(gradient): gradient for gradient in gradients if gradient is not None}  # parameters may share one
    held = [gradient for gradient in localised([*unique.values()]) if gradient is not None]
    skip, damp = judgement.skip, judgement.damp
    backend = selected("auto", damp.device, held)
    if not is_fused(optimizer):
        scale_gradients(held, damp, skip, backend=backend, workspace=workspace)
        return None
    before = Flags(getattr(optimizer, "found_inf", _ABSENT), getattr(optimizer, "grad_scale", _ABSENT))
    scaled = isinstance(before.grad_scale, torch.Tensor)
    if scaled or backend == "torch":
        scale = damp.reciprocal()
        if scaled:  # a GradScaler's may be on another GPU
            scale = scale * before.grad_scale.reshape(()).to(scale.device, non_blocking=True)
        optimizer.grad_scale = scale.float()  # type: ignore[attr-defined]
    else:
        scale_gradients(held, damp, workspace.zero(skip.device), backend=backend, workspace=workspace)
    if isinstance(before.found_inf, torch.Tensor):
        found = before.found_inf.reshape(()).to(skip.device, non_blocking=True)
        skip = torch.maximum(skip, (found != 0).float())
    optimizer.found_inf = skip  # type: ignore[attr-defined]
    return before
