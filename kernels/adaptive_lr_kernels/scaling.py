"""Gradients multiplied by a coefficient that is on the device, or filled with zeros, without a wait.

Every program reads the two scalars first and is done where there is nothing to do, so that a step without damping
costs a launch and no traffic.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators
# ruff: noqa: N803, N806, SIM300 - compile-time constants are written in capitals, as everywhere in Triton
from __future__ import annotations

from collections.abc import Iterable

import torch
import triton
import triton.language as tl
from torch import Tensor

from adaptive_lr_kernels import inputs
from adaptive_lr_kernels.addresses import storage_order
from adaptive_lr_kernels.merge import Segments
from adaptive_lr_kernels.plan import CHUNK_WARPS, DTYPES, FP_FUSION, variant_of
from adaptive_lr_kernels.plans import Plans, check_device, on_device
from adaptive_lr_kernels.streams import Streams
from adaptive_lr_kernels.tables import Launch, Reads, Tables

_READS = Reads.of(("grad_norm",))


@triton.jit
def _scale(pointer, at, end, rows, lanes, factor, skipped, ALIGNED: tl.constexpr):
    block = pointer + at
    left = end - at
    if ALIGNED:
        block = tl.multiple_of(block, 16)
        left = tl.multiple_of(left, 16)
    offsets = rows[:, None] + lanes[None, :]
    mask = offsets < left
    x = tl.load(block + offsets, mask=mask, other=0)
    # Not a product with 0, which a NaN survives.
    scaled = tl.where(skipped, 0.0, x.to(factor.dtype) * factor)
    tl.store(block + offsets, scaled.to(x.dtype), mask=mask)


@triton.jit(do_not_specialize=["first_chunk", "chunk"])
def scale_chunks(
    addresses,  # int64 [num_entries]
    numels,  # int64 [num_entries]
    entry_chunks,  # int32 [num_entries]: first chunk of each entry
    chunk_entries,  # int32 [num_chunks]: entry of each chunk
    damp,  # float64
    skip,  # float32
    first_chunk,  # of this launch
    chunk,  # elements of a chunk, a multiple of 16
    DTYPE: tl.constexpr,
    ALIGNED: tl.constexpr,
    WIDTH: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Scale one chunk in place."""
    COEFFICIENT: tl.constexpr = tl.float64 if DTYPE == tl.float64 else tl.float32
    coefficient = tl.load(damp)
    skipped = tl.load(skip) != 0
    if skipped | (coefficient != 1):
        index = tl.program_id(0) + first_chunk
        entry = tl.load(chunk_entries + index)
        start = (index - tl.load(entry_chunks + entry)).to(tl.int64) * chunk
        n = tl.minimum(tl.load(numels + entry) - start, chunk).to(tl.int32)
        pointer = tl.load(addresses + entry).to(tl.pointer_type(DTYPE)) + start
        factor = coefficient.to(COEFFICIENT)
        lanes = tl.arange(0, WIDTH)
        rows = tl.arange(0, UNROLL) * WIDTH
        body = n // 16 * 16 if ALIGNED else n
        at = 0
        while at < body:
            _scale(pointer, at, body, rows, lanes, factor, skipped, ALIGNED)
            at += UNROLL * WIDTH
        if body < n:  # fewer than 16 elements
            _scale(pointer, body, n, tl.arange(0, 1), lanes, factor, skipped, False)


class _Scaling:
    """The launches for one set of tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def launch(self, addresses: Tensor, damp: Tensor, skip: Tensor) -> None:
        for launch in self._tables.launches:
            self._scale(launch, addresses, damp, skip)

    def _scale(self, launch: Launch, addresses: Tensor, damp: Tensor, skip: Tensor) -> None:
        tables, variant = self._tables, variant_of(launch.dtypes[:1])
        assert launch.dtypes[0] is not None
        scale_chunks[(launch.num_chunks,)](
            addresses,
            tables.numels,
            tables.entry_chunks,
            tables.chunk_entries,
            damp,
            skip,
            launch.first_chunk,
            tables.chunk,
            DTYPE=DTYPES[launch.dtypes[0]],
            ALIGNED=launch.aligned,
            WIDTH=variant.width,
            UNROLL=variant.unroll,
            num_warps=CHUNK_WARPS,
            enable_fp_fusion=FP_FUSION,
        )


def scale_measured(tables: Tables, addresses: Tensor, damp: Tensor, skip: Tensor) -> None:
    """Scale gradients as `GradientScaling` does, by the tables of a measurement that read each of them in place."""
    with on_device(addresses.device):
        _Scaling(tables).launch(addresses, damp, skip)


class GradientScaling:
    """Scales the same gradients step after step, with launch tables of its own.

    As with a `Measurer`, a call in the steady state allocates nothing and waits for nothing, all calls must be on one
    stream, and one object belongs to one CUDA graph: called at least once before the capture, and never after it.
    """

    def __init__(self) -> None:
        self._plans: Plans[_Scaling] | None = None
        self._device: torch.device | None = None

    def scale(self, gradients: Iterable[Tensor | None], damp: Tensor, skip: Tensor) -> None:
        """Multiply gradients by `damp` in place, or fill them with zeros where `skip` is not 0.

        Where `damp` is 1 and `skip` 0, nothing is read or written. A gradient whose elements do not fill one stretch
        of memory is scaled by torch, and always written.

        Args:
            gradients: dense floating-point or complex tensors on one device; None is passed over.
            damp: float64, 0-d, on that device; rounded to float32, or to float64 for float64 gradients.
            skip: float32, 0-d, on that device.

        Raises:
            TypeError: a gradient that is sparse, of another dtype, or of a subclass; a scalar of another dtype.
            ValueError: tensors on different devices, or on one that Triton cannot run on.
            RuntimeError: while a CUDA graph is captured, without a call before it; in any call after that.
        """
        listed = inputs.tensors_of("gradients", gradients)
        device = damp.device
        check_device(device)
        inputs.check_tensors("gradients", listed, device)
        for name, scalar, dtype in (("damp", damp, torch.float64), ("skip", skip, torch.float32)):
            if scalar.dtype != dtype or scalar.numel() != 1:
                raise TypeError(f"{name} must be one {dtype} number; got {tuple(scalar.shape)} of {scalar.dtype}")
        if skip.device != device:
            raise ValueError(f"skip must be on the device of damp, {device}; got {skip.device}")
        for index, gradient in enumerate(listed):
            if gradient is not None and gradient.is_sparse:
                raise TypeError(f"gradients[{index}] must be dense; got a sparse tensor")
        if self._plans is None or self._device != device:
            self._plans, self._device = Plans(_Scaling, _READS, device), device
        with torch.no_grad(), on_device(device):
            stretches = [_stretch(gradient) for gradient in listed]
            with self._plans.sent(Streams.of(stretches, (), (), _READS), Segments(None, ())) as (plan, addresses):
                plan.launch(addresses, damp, skip)
            for gradient, stretch in zip(listed, stretches, strict=True):
                if gradient is not None and stretch is None:
                    _scale_with_torch(gradient, damp, skip)


def _stretch(gradient: Tensor | None) -> Tensor | None:
    """The gradient as it is in memory, if it fills one stretch of it: a factor changes both signs alike."""
    if gradient is None or (not gradient.is_contiguous() and storage_order(gradient) is None):
        return None
    if gradient.is_conj():
        gradient = gradient.conj()
    return torch._neg_view(gradient) if gradient.is_neg() else gradient


def _scale_with_torch(gradient: Tensor, damp: Tensor, skip: Tensor) -> None:
    reals = (
        torch.view_as_real(gradient.conj() if gradient.is_conj() else gradient) if gradient.is_complex() else gradient
    )
    factor = damp.to(torch.float64 if reals.dtype is torch.float64 else torch.float32)
    scaled = reals.to(factor.dtype) * factor
    reals.copy_(torch.where(skip != 0, torch.zeros_like(scaled), scaled))
