"""What is used today for the same statistics: torch's foreach operations, gradient clipping, and loops of `.item()`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.tensors import Model


def foreach_norm(model: Model) -> Tensor:
    """The gradient norm as `clip_grad_norm_` finds it: one read of all gradients."""
    return torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(model.gradients))))


def clip(model: Model) -> Tensor:
    """`clip_grad_norm_` with a threshold that nothing reaches: it reads, then rewrites all gradients all the same."""
    return torch.nn.utils.clip_grad_norm_(model.parameters, math.inf, foreach=True)


def norm_items(model: Model) -> list[float]:
    """The norm of each tensor, one `.item()` each, as loggers do it."""
    return [gradient.norm().item() for gradient in model.gradients]


def gradient_sequence(model: Model) -> list[Tensor]:
    """Per tensor norm, largest magnitude, mean, variance and a non-finite flag, in as few passes as torch has: three.

    The variance follows from norm and mean, the flag from the norm (a count would be a fourth pass).
    """
    gradients = model.gradients
    norms = torch.stack(list(torch._foreach_norm(gradients))).double()
    if gradients[0].is_cuda:
        largest = torch.stack(list(torch._foreach_norm(gradients, math.inf)))
    else:  # where the infinity norm takes twenty times as long
        pairs = [torch.aminmax(gradient) for gradient in gradients]
        largest = torch.maximum(torch.stack([high for _, high in pairs]), -torch.stack([low for low, _ in pairs]))
    counts = torch.tensor([gradient.numel() for gradient in gradients], dtype=torch.float64)
    if gradients[0].is_cuda:
        counts = counts.pin_memory().to(gradients[0].device, non_blocking=True)
    means = torch.stack([gradient.sum(dtype=torch.float32) for gradient in gradients]).double() / counts
    return [norms, largest, means, norms.square() / counts - means.square(), ~norms.isfinite()]


def full_sequence(model: Model) -> list[Tensor]:
    """The same, and the norms of parameters and momentum buffers, and the cosine of gradient and momentum."""
    first = gradient_sequence(model)
    weights = torch.stack(list(torch._foreach_norm([parameter.detach() for parameter in model.parameters])))
    momenta = torch.stack(list(torch._foreach_norm(model.momenta)))
    pairs = zip(model.gradients, model.momenta, strict=True)
    dots = torch.stack([torch.dot(gradient.view(-1), momentum.view(-1)) for gradient, momentum in pairs])
    return [*first, weights, momenta, dots / (first[0] * momenta)]


def gradient_items(model: Model) -> list[float]:
    """The five statistics of each gradient, one `.item()` each, as loggers do it."""
    found = []
    for gradient in model.gradients:
        found += [gradient.norm().item(), gradient.abs().max().item(), gradient.mean().item(), gradient.var().item()]
        found.append((~gradient.isfinite()).sum().item())
    return found


def full_items(model: Model) -> list[float]:
    """All statistics of each tensor, one `.item()` each."""
    found = gradient_items(model)
    for parameter, momentum in zip(model.parameters, model.momenta, strict=True):
        assert parameter.grad is not None
        found += [parameter.norm().item(), momentum.norm().item(), (parameter.grad * momentum).sum().item()]
    return found
