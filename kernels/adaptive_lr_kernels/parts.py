"""Measured values of each tensor as parts that merge, for measurements that several processes put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from adaptive_lr_kernels.merge import Alignment, Maxima, Mergeable, Moments, Norms, Sums
from adaptive_lr_kernels.upload import vector

_NEEDED = {
    "alignment": ("grad_norm", "momentum_norm"),
    "grad_mean": ("grad_variance",),
    "grad_variance": ("grad_mean",),
}


def needed(names: Sequence[str]) -> tuple[str, ...]:
    """What must be measured of each tensor so that these statistics merge: a cosine needs its norms."""
    return tuple(dict.fromkeys((*names, *(other for name in names for other in _NEEDED.get(name, ())))))


def parts_of(
    names: Sequence[str], values: Mapping[str, Tensor], gradients: Sequence[Tensor | None], has_momentum: Sequence[bool]
) -> dict[str, Mergeable]:
    """The statistics of each tensor, as they merge. Nothing is read on the host.

    Args:
        names: those wanted.
        values: name -> [num_tensors], for all that `needed` says.
        gradients: the tensors, for their sizes; None counts nothing.
        has_momentum: whether each tensor has a momentum buffer.
    """
    parts: dict[str, Mergeable] = {}
    moments: Moments | None = None
    for name in names:
        if name in ("grad_norm", "param_norm", "momentum_norm"):
            parts[name] = Norms(values[name])
        elif name == "grad_max":
            parts[name] = Maxima(values[name])
        elif name == "nonfinite":
            parts[name] = Sums(values[name])
        elif name == "alignment":
            there = vector([float(present) for present in has_momentum], values[name].device) == 1
            norms = torch.where(there, values["grad_norm"], 0.0)
            dots = torch.where(there, values[name] * values["grad_norm"] * values["momentum_norm"], 0.0)
            parts[name] = Alignment(Sums(dots), Norms(norms), Norms(values["momentum_norm"]))
        else:  # mean and variance are two names of one quantity
            if moments is None:
                counts = vector([_count(gradient) for gradient in gradients], values[name].device)
                moments = Moments(counts, values["grad_mean"], values["grad_variance"])
            parts[name] = moments
    return parts


def _count(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.numel() * (2 if gradient.is_complex() else 1))
