"""The statistics of gradients by their definitions, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def reals(tensor: Tensor | None) -> Tensor:
    """All elements as float64, real and imaginary parts apart, zeros of sparse tensors written out."""
    if tensor is None:
        return torch.zeros(0, dtype=torch.float64)
    dense = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    if dense.is_complex():
        dense = torch.view_as_real(dense.to(torch.complex128).resolve_conj())
    return dense.double().flatten()


def truth(
    gradients: Sequence[Tensor | None], parameters: Sequence[Tensor | None], momenta: Sequence[Tensor | None]
) -> dict[str, float]:
    """Every statistic of the union of these tensors; a parameter or momentum without a gradient does not count."""
    live = [index for index, gradient in enumerate(gradients) if gradient is not None]
    both = [index for index in live if momenta[index] is not None]

    def flat(tensors: Sequence[Tensor | None], indices: list[int]) -> Tensor:
        return torch.cat([torch.zeros(0, dtype=torch.float64), *(reals(tensors[index]) for index in indices)])

    g, p, m = flat(gradients, live), flat(parameters, live), flat(momenta, live)
    paired = flat(gradients, both)
    alignment = 0.0
    if not (paired.isfinite().all() and m.isfinite().all()):
        alignment = math.nan
    elif paired.any() and m.any():
        alignment = float(paired @ m / (paired.norm() * m.norm()))
    return {
        "grad_norm": float(g.square().sum().sqrt()),
        "grad_max": float(g.abs().max()) if g.numel() else 0.0,
        "grad_mean": float(g.mean()) if g.numel() else 0.0,
        # About an element, which changes nothing: equal elements then have no variance, whatever the mean rounds to.
        "grad_variance": float((g - g[0]).var(correction=0)) if g.numel() else 0.0,
        "nonfinite": float((~g.isfinite()).sum()),
        "param_norm": float(p.square().sum().sqrt()),
        "momentum_norm": float(m.square().sum().sqrt()),
        "alignment": alignment,
    }
