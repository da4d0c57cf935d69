"""Every combination of dtypes that the kernels are compiled for, against float64."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from adaptive_lr_kernels import measure

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
COMBINATIONS = [streams for streams in itertools.product((None, *DTYPES), repeat=3) if any(streams)]
"""Of gradient, parameter and momentum; None where it is not read."""

LENGTH = 1037
"""More than one turn of the loop for float32 and float64 in one stream, less for others; a rest that is no full row."""


def errors(*, aligned: bool) -> Iterator[tuple[str, float]]:
    """Name and error of every statistic of every combination; relative to 1, or to the value if that is more."""
    generator = torch.Generator().manual_seed(0)
    for dtypes in COMBINATIONS:
        gradient, parameter, momentum = (_values(dtype or torch.float32, aligned, generator) for dtype in dtypes)
        truth = _truth(dtypes, gradient.double(), parameter.double(), momentum.double())
        found = measure(
            [gradient], parameters=[parameter], momenta=[momentum], statistics=tuple(truth), backend="triton"
        ).overall
        assert set(found) == set(truth)
        for name, exact in truth.items():
            yield f"{name} {dtypes}", abs(float(found[name]) - exact) / max(1.0, abs(exact))


def _values(dtype: torch.dtype, aligned: bool, generator: torch.Generator) -> Tensor:
    values = torch.randn(LENGTH + 1, generator=generator).to(dtype)
    return values[:-1] if aligned else values[1:]


def _truth(
    dtypes: tuple[torch.dtype | None, ...], gradient: Tensor, parameter: Tensor, momentum: Tensor
) -> dict[str, float]:
    values: dict[str, Tensor] = {}
    if dtypes[0] is not None:
        values |= {"grad_norm": gradient.norm(), "grad_max": gradient.abs().max(), "grad_mean": gradient.mean()}
        values |= {"grad_variance": gradient.var(correction=0), "nonfinite": torch.tensor(0)}
    if dtypes[1] is not None:
        values["param_norm"] = parameter.norm()
    if dtypes[2] is not None:
        values["momentum_norm"] = momentum.norm()
        if dtypes[0] is not None:
            values["alignment"] = gradient @ momentum / gradient.norm() / momentum.norm()
    return {name: float(value) for name, value in values.items()}
