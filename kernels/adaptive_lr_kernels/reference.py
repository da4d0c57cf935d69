"""The pass over the tensors in plain torch: the oracle of the kernels, and what runs on a CPU.

Every tensor is read as real numbers (a complex one as pairs, a sparse one as its values and one zero that stands
for all the others) and, on a CPU, in pieces of bounded size. What is asked for is measured per piece, and merged
into one entry per tensor in float64.

Foreach operations do what they can do at full speed. torch has none for means, dot products and non-finite
counts, and its foreach largest magnitude is slow on a CPU; there each piece costs one operation.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from adaptive_lr_kernels.addresses import storage_order
from adaptive_lr_kernels.merge import Alignment, Maxima, Mergeable, Moments, Norms, Segments, Sums
from adaptive_lr_kernels.upload import vector

MergeableT = TypeVar("MergeableT", bound=Mergeable)

PIECE = 3 * 2**18
"""Most elements of one piece on a CPU, where torch adds float32 squares one after the other in a few lanes: the norm
of 2**24 normal values is off by 7e-4, of 2**28 equal ones by 29 %. Of this many normal ones it is off by about
1e-5, of lognormal ones (sigma 1) by 8e-6 and (sigma 2) 8e-5, of equal ones by up to 7e-4: the largest of 20 draws.
Smaller pieces cost more calls: with 2**19 the pass over 85M parameters in 172 tensors takes 3 % longer, with 2**17 a
tenth. Other devices add in a tree and need none."""

_NUMPY_DTYPES = {torch.float64: np.float64, torch.int64: np.int64}

SAFE_SQUARES = 1e-25
"""A sum of squares above this lost nothing that counts to underflow: a piece of the least normal numbers has 9e-33."""


def measure_tensors(
    gradients: Sequence[Tensor | None],
    parameters: Sequence[Tensor | None],
    momenta: Sequence[Tensor | None],
    names: Collection[str],
    device: torch.device,
) -> dict[str, Mergeable]:
    """Measure the named statistics of each tensor.

    Args:
        gradients: checked tensors; None has 0 in every statistic.
        parameters: one per gradient if `param_norm` is named, None where the gradient is None.
        momenta: one per gradient if `momentum_norm` or `alignment` is named, None where the gradient is None.
        names: statistics to measure.
        device: where all the tensors are.

    Returns:
        For each name, what merges into its values; one entry per tensor.
    """
    pieces = Pieces.of(gradients, device)
    found: dict[str, Mergeable] = {}
    if "grad_norm" in names:
        found["grad_norm"] = PieceNorms(pieces.norms, None if pieces.one_each else pieces.segments)
    if "grad_max" in names:
        found["grad_max"] = largest_magnitudes(pieces)
    if "grad_mean" in names or "grad_variance" in names:
        found["grad_mean"] = found["grad_variance"] = moments(pieces)
    if "nonfinite" in names:
        found["nonfinite"] = count_nonfinite(pieces)
    if "param_norm" in names:
        found["param_norm"] = Pieces.of(parameters, device).norms_per_tensor
    if "momentum_norm" in names or "alignment" in names:
        momentum_norms = Pieces.of(momenta, device).norms_per_tensor
        found["momentum_norm"] = momentum_norms
        if "alignment" in names:
            found["alignment"] = alignment(gradients, momenta, pieces.norms_per_tensor, momentum_norms, device)
    return found


class Pieces:
    """Tensors as dense real pieces, none of them empty.

    Attributes:
        tensors: the pieces, in the order of the tensors they come from.
        zeros: number of elements of those pieces that are one zero, which stands for many.
        segments: the pieces of each tensor.
        device: where they are.
    """

    __slots__ = ("_norms", "device", "segments", "tensors", "zeros")

    def __init__(self, tensors: list[Tensor], zeros: dict[int, int], segments: Segments, device: torch.device) -> None:
        self.tensors = tensors
        self.zeros = zeros
        self.segments = segments
        self.device = device
        self._norms: Tensor | None = None

    @classmethod
    def of(cls, tensors: Iterable[Tensor | None], device: torch.device) -> Pieces:
        """Cut `tensors`; None and an empty tensor have no pieces."""
        limit = PIECE if device.type == "cpu" else sys.maxsize
        pieces: list[Tensor] = []
        zeros: dict[int, int] = {}
        sizes: list[int] = []
        for tensor in tensors:
            if tensor is None:
                sizes.append(0)
                continue
            count = tensor.numel()
            if tensor.is_sparse or tensor.is_complex():
                values = _real_values(tensor)
                cuts = cut(values, limit)
                implied_zeros = count * (2 if tensor.is_complex() else 1) - values.numel()
                if implied_zeros:
                    zeros[len(pieces) + len(cuts)] = implied_zeros
                    cuts.append(values.new_zeros(1))
            elif 0 < count <= limit:
                pieces.append(tensor)
                sizes.append(1)
                continue
            else:
                cuts = cut(tensor, limit)
            pieces += cuts
            sizes.append(len(cuts))
        return cls(pieces, zeros, Segments(None, sizes), device)

    @property
    def counts(self) -> list[int]:
        """Number of elements that each piece stands for."""
        return [self.zeros.get(index) or piece.numel() for index, piece in enumerate(self.tensors)]

    @property
    def on_host(self) -> bool:
        """Whether values may be read and branched on; elsewhere that would wait for the device."""
        return self.device.type == "cpu"

    @property
    def norms(self) -> Tensor:
        """Euclidean norm of each piece, measured once: float64 [num_pieces]."""
        if self._norms is None:
            gaps = [i for i, piece in enumerate(self.tensors) if not is_dense(piece)] if self.on_host else []
            self._norms = self.vector(_norms_with_gaps(self.tensors, gaps) if gaps else _foreach_norms(self.tensors, 2))
        return self._norms

    @property
    def norms_per_tensor(self) -> Norms:
        """Euclidean norm of each tensor."""
        return self.merge(Norms(self.norms))

    def merge(self, quantity: MergeableT) -> MergeableT:
        """From one entry per piece to one entry per tensor."""
        return quantity if self.one_each else quantity.merge(self.segments)

    @property
    def one_each(self) -> bool:
        """Whether every tensor is one piece."""
        return len(self.tensors) == len(self.segments.sizes) and 0 not in self.segments.sizes

    def vector(self, values: Sequence[Tensor], dtype: torch.dtype = torch.float64) -> Tensor:
        """0-d tensors, one per piece, as one vector."""
        if self.on_host or not values:  # less than half the time of a stack
            numbers = torch.from_numpy(np.array([value.item() for value in values], _NUMPY_DTYPES[dtype]))
            return numbers if self.on_host else numbers.to(self.device)
        return torch.stack(tuple(values)).to(dtype)


class PieceNorms(NamedTuple):
    """Euclidean norms of pieces [num_pieces], merged into tensors only where tensors or groups are asked for.

    Attributes:
        norms: one per piece.
        pieces: the pieces of each tensor; None where every tensor is one piece.
    """

    norms: Tensor
    pieces: Segments | None

    def merge(self, segments: Segments) -> Self:
        """Norm of each segment of tensors."""
        if len(segments.sizes) == 1:  # overall: asked for at every step
            return type(self)(torch.linalg.vector_norm(self.norms, keepdim=True), None)
        return type(self)(Norms(self.value("")).merge(segments).norms, None)

    def value(self, name: str) -> Tensor:
        """The norm of each tensor."""
        return self.per_tensor.norms

    @property
    def per_tensor(self) -> Norms:
        """The norms of the tensors."""
        return Norms(self.norms) if self.pieces is None else Norms(self.norms).merge(self.pieces)


def largest_magnitudes(pieces: Pieces) -> Maxima:
    """Largest magnitude of each tensor; NaN where it holds a NaN."""
    if pieces.on_host:
        # 85M parameters in 172 tensors, one norm pass = 1: aminmax 1.5, amax and amin 1.7, foreach infinity norm 21.
        lows, highs = [], []
        for piece in pieces.tensors:
            low, high = torch.aminmax(piece)
            lows.append(low)
            highs.append(high)
        largest = torch.maximum(pieces.vector(highs), -pieces.vector(lows))
        return pieces.merge(Maxima(largest.abs()))  # abs: the magnitude of -0.0 is 0.0
    return pieces.merge(Maxima(pieces.vector(_foreach_norms(pieces.tensors, torch.inf))))


def moments(pieces: Pieces) -> Moments:
    """Count, mean and population variance of each tensor, the zeros of a sparse one included."""
    counts = vector(pieces.counts, pieces.device)
    if not pieces.on_host:
        exact = [_exact_moments(piece) for piece in pieces.tensors]
        means, variances = (pieces.vector([pair[side] for pair in exact]) for side in (0, 1))
        return pieces.merge(Moments(counts, means, variances))
    means = pieces.vector([piece.mean(dtype=_accumulator(piece)) for piece in pieces.tensors])
    squares, squared_sums = pieces.norms.square(), counts * means.square()
    variances = (squares - squared_sums) / counts
    # The difference loses at most one bit where the mean is no larger than the deviation: the usual case, for the
    # price of one sum. Elsewhere, or where squares over- or underflowed, the piece is read again in float64.
    safe = (squares > SAFE_SQUARES) & squares.isfinite() & (squared_sums <= squares / 2)
    safe |= (squares == 0) & (means == 0)
    for index in (~safe).nonzero().flatten().tolist():
        means[index], variances[index] = _exact_moments(pieces.tensors[index])
    return pieces.merge(Moments(counts, means, variances))


def _exact_moments(piece: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance in float64, in two passes."""
    values = piece.to(torch.float64, copy=True)
    mean = values.mean()
    # In place: a new buffer for each operation costs several times what the operations do.
    return mean, values.sub_(mean).square_().mean()


def count_nonfinite(pieces: Pieces) -> Sums:
    """Number of infinities and NaNs in each tensor: int64."""
    # On the host only pieces with a non-finite norm can hold any; the others need no second look.
    suspects = (~pieces.norms.isfinite()).nonzero().flatten().tolist() if pieces.on_host else range(len(pieces.tensors))
    counts = [torch.zeros((), dtype=torch.int64, device=pieces.device)] * len(pieces.tensors)
    for index in suspects:
        piece = pieces.tensors[index]
        counts[index] = (piece - piece).count_nonzero()  # 0 where finite, NaN elsewhere; isfinite takes 1.4 x as long
    return pieces.merge(Sums(pieces.vector(counts, torch.int64)))


def alignment(
    gradients: Sequence[Tensor | None],
    momenta: Sequence[Tensor | None],
    gradient_norms: Norms,
    momentum_norms: Norms,
    device: torch.device,
) -> Alignment:
    """Dot product of each gradient with its momentum, and the norms of the two; all 0 where either is missing."""
    dots: list[Tensor] = []
    sizes: list[int] = []
    limit = PIECE if device.type == "cpu" else sys.maxsize
    for gradient, momentum in zip(gradients, momenta, strict=True):
        pairs = [] if gradient is None or momentum is None else _pairs(gradient, momentum, limit)
        dots += [_dot(first, second) for first, second in pairs]
        sizes.append(len(pairs))
    products = torch.stack(dots).double() if dots else torch.zeros(0, dtype=torch.float64, device=device)
    if any(momentum is None for momentum in momenta):
        present = vector([float(momentum is not None) for momentum in momenta], device)
        gradient_norms = Norms(torch.where(present == 1, gradient_norms.norms, 0.0))
    return Alignment(Sums(products).merge(Segments(None, sizes)), gradient_norms, momentum_norms)


def _pairs(gradient: Tensor, momentum: Tensor, limit: int) -> list[tuple[Tensor, Tensor]]:
    if momentum.is_sparse:
        momentum = momentum.to_dense()
    if gradient.is_sparse:  # only where the gradient has values can the product be other than 0
        gradient = gradient.coalesce()
        momentum = (
            momentum[tuple(gradient.indices())] if gradient.sparse_dim() else momentum.expand_as(gradient.values())
        )
    values, others = _real_values(gradient), _real_values(momentum)
    # One order of elements for both: where the layouts differ, one is copied.
    if values.stride() != others.stride():
        values, others = values.contiguous(), others.contiguous()
    return list(zip(cut(values, limit), cut(others, limit), strict=True))


def _dot(first: Tensor, second: Tensor) -> Tensor:
    dtype = torch.promote_types(_accumulator(first), _accumulator(second))
    return torch.dot(first.reshape(-1).to(dtype), second.reshape(-1).to(dtype))


def _accumulator(tensor: Tensor) -> torch.dtype:
    """float64 for float64, float32 for all below: squares of float16 values overflow float16."""
    return torch.float64 if tensor.dtype is torch.float64 else torch.float32


def _foreach_norms(tensors: list[Tensor], order: float) -> Sequence[Tensor]:
    """Norm of each tensor, one foreach operation per dtype (a mixed list loses the fast path of an accelerator)."""
    if not tensors:
        return []
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) == 1:
        return torch._foreach_norm(tensors, order, dtype=_accumulator(tensors[0]))
    norms: list[Tensor] = list(tensors)
    for dtype in dtypes:
        indices = [index for index, tensor in enumerate(tensors) if tensor.dtype is dtype]
        same = [tensors[index] for index in indices]
        for index, norm in zip(indices, torch._foreach_norm(same, order, dtype=_accumulator(same[0])), strict=True):
            norms[index] = norm
    return norms


def _norms_with_gaps(pieces: Sequence[Tensor], gaps: Sequence[int]) -> list[Tensor]:
    """Norm of each piece; those listed in `gaps` are read from contiguous copies, one after the other."""
    listed = set(gaps)
    others = iter(_foreach_norms([piece for index, piece in enumerate(pieces) if index not in listed], 2))
    return [
        torch.linalg.vector_norm(piece.contiguous(), dtype=_accumulator(piece)) if index in listed else next(others)
        for index, piece in enumerate(pieces)
    ]


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one stretch of memory, in any order of the dimensions.

    Where they do not, torch's norm on a CPU adds all squares in one lane: that is slower than from a copy, and off by
    2e-4 for one piece of normal values, by 5e-3 for equal ones.
    """
    return tensor.is_contiguous() or storage_order(tensor) is not None


def _real_values(tensor: Tensor) -> Tensor:
    """The values that a tensor stores, as dense reals: of a complex one, the pairs [..., 2]."""
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def cut(values: Tensor, limit: int) -> list[Tensor]:
    """Views of at most `limit` elements that make up `values`, cut along the dimension of the longest stride."""
    count = values.numel()
    if count <= limit:
        return [values] if count else []
    if values.is_contiguous():
        return list(values.view(-1).chunk(-(-count // limit)))
    dim = max((dim for dim, size in enumerate(values.shape) if size > 1), key=values.stride)
    size = values.shape[dim]
    rows = limit * size // count
    if rows:
        return list(values.chunk(-(-size // rows), dim))
    return [piece for row in values.unbind(dim) for piece in cut(row, limit)]
