"""Arbitrary gradients, parameters and momenta, as hypothesis draws them, and what was measured of them by level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from adaptive_lr_kernels import STATISTICS, Measurement

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
LAYOUTS = ("contiguous", "transposed", "offset", "strided", "expanded", "conjugate", "negated", "sparse")


@dataclass
class Model:
    """What `measure` is given; of each list one entry per tensor."""

    gradients: list[Tensor | None]
    parameters: list[Tensor]
    momenta: list[Tensor | None]
    groups: list[int] | None


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same elements, elsewhere in memory."""
    if layout == "transposed" and tensor.dim() >= 2:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "offset":
        room = tensor.new_full((tensor.numel() + 1,), 77.0)
        room[1:] = tensor.flatten()
        return room[1:].view(tensor.shape)
    if layout == "strided" and tensor.dim() >= 1:
        room = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1), 77.0)
        room[..., 1::2] = tensor
        return room[..., 1::2]
    if layout == "expanded" and tensor.dim() >= 1 and tensor.numel():
        return tensor[:1].expand(tensor.shape)
    if layout == "conjugate" and tensor.is_complex():
        return tensor.conj()
    if layout == "negated" and not tensor.is_complex() and tensor.dtype in (torch.float32, torch.float64):
        return torch.complex(tensor, tensor).conj().imag
    if layout == "sparse" and tensor.dim() >= 1 and tensor.dtype not in (torch.float16, torch.bfloat16):
        thinned = torch.where(torch.rand(tensor.shape) < 0.5, tensor, 0).to_sparse()
        indices = torch.cat([thinned.indices(), thinned.indices()], 1)  # not coalesced: every index twice
        stored = torch.cat([thinned.values(), thinned.values()])
        return torch.sparse_coo_tensor(indices, stored, tensor.shape, check_invariants=True)
    return tensor


@st.composite
def models(draw, most: int = 6) -> Model:
    """Any mix of dtypes, shapes, layouts, groups, missing gradients and non-finite values; at most so many tensors."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def tensor(shape, dtype, *, sparse: bool) -> Tensor:
        scale = draw(st.sampled_from([0.0, 1e-3, 1.0, 3e3]))
        drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
        if dtype.is_complex:
            drawn = drawn + (1j * torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
        if drawn.numel() and draw(st.integers(0, 9)) == 0:
            position = draw(st.integers(0, drawn.numel() - 1))
            drawn.view(-1)[position] = draw(st.sampled_from([math.inf, -math.inf, math.nan]))
        return laid_out(drawn, draw(st.sampled_from(LAYOUTS if sparse else LAYOUTS[:-1])))

    gradients: list[Tensor | None] = []
    parameters, momenta = [], []
    for _ in range(draw(st.integers(0, most))):
        shape = tuple(draw(st.lists(st.integers(0, 6), max_size=3)))
        kind = draw(st.sampled_from([REAL, REAL, COMPLEX]))
        gradients.append(tensor(shape, draw(st.sampled_from(kind)), sparse=True) if draw(st.integers(0, 5)) else None)
        parameters.append(tensor(shape, draw(st.sampled_from(kind)), sparse=False))
        momenta.append(tensor(shape, draw(st.sampled_from(kind)), sparse=True) if draw(st.integers(0, 5)) else None)
    count = len(gradients)
    groups = draw(st.none() | st.lists(st.integers(0, 4), min_size=count, max_size=count))
    return Model(gradients, parameters, momenta, groups)


def values(level, index: int | None = None) -> dict[str, float]:
    """One level of a measurement as numbers."""
    return {name: float(vector if index is None else vector[index]) for name, vector in level.items()}


Lists = tuple[Sequence[Tensor | None], Sequence[Tensor | None], Sequence[Tensor | None]]


def unions(model: Model, measured: Measurement) -> Iterator[tuple[dict[str, float], Lists]]:
    """What was measured of the whole, of each tensor and of each group, and the tensors that it is of.

    Shapes and dtypes of the results are checked first.
    """
    everything = list(range(len(model.gradients)))
    members = model.groups if model.groups is not None else [0] * len(everything)
    num_groups = 1 if model.groups is None else max(model.groups, default=-1) + 1
    assert tuple(measured.overall) == tuple(measured.per_group) == tuple(measured.per_tensor) == STATISTICS
    for name in STATISTICS:
        assert measured.overall[name].shape == ()
        assert measured.per_group[name].shape == (num_groups,)
        assert measured.per_tensor[name].shape == (len(everything),)
        assert measured.overall[name].dtype == (torch.int64 if name == "nonfinite" else torch.float64)
    found = [(values(measured.overall), everything)]
    found += [(values(measured.per_tensor, index), [index]) for index in everything]
    for group in range(num_groups):
        found.append((values(measured.per_group, group), [index for index in everything if members[index] == group]))
    for numbers, indices in found:
        gradients, parameters, momenta = (
            [tensors[index] for index in indices] for tensors in (model.gradients, model.parameters, model.momenta)
        )
        yield numbers, (gradients, parameters, momenta)
