"""Statistics that merge: from pieces to tensors, from tensors to groups, from tensors to the whole.

Each class holds one or more vectors with one entry per part, and `merge` gives the same class with one entry
per segment of parts. All is float64 (counts int64), on the device of the gradients, in a fixed order, and
without reading a value on the host. The README beside this file derives the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor


class Segments(NamedTuple):
    """How parts are put together: consecutive runs of the parts, perhaps after reordering them.

    Attributes:
        order: the indices of the parts, those of the first segment first; None where they are in order already.
        sizes: number of parts in each segment, 0 allowed; their sum is the number of parts.
    """

    order: tuple[int, ...] | None
    sizes: Sequence[int]

    def split(self, values: Tensor) -> list[Tensor]:
        """The entries of `values` [num_parts], one vector per segment."""
        if self.order is not None:
            # Not values[order]: an index tensor would have to travel to the device first.
            parts = values.unbind()
            values = torch.stack([parts[index] for index in self.order])
        return [values] if len(self.sizes) == 1 else list(values.split_with_sizes(list(self.sizes)))


class Mergeable(Protocol):
    """Statistics of parts, from which those of any union of the parts follow."""

    def merge(self, segments: Segments) -> Self:
        """The same statistics of each segment."""
        ...

    def value(self, name: str) -> Tensor:
        """The vector of the statistic `name`, one entry per part."""
        ...


@dataclass(frozen=True, slots=True)
class Norms:
    """Euclidean norms [num_parts]; the norm of a union is the norm of the norms."""

    norms: Tensor

    def merge(self, segments: Segments) -> Self:
        """Norm of each segment; 0 for an empty one."""
        parts = segments.split(self.norms)
        if len(parts) == 1:  # overall: asked for at every step
            return type(self)(torch.linalg.vector_norm(parts[0], keepdim=True))
        return type(self)(torch.stack(torch._foreach_norm(parts)) if parts else self.norms.new_zeros(0))

    def value(self, name: str) -> Tensor:
        """The norms."""
        return self.norms


@dataclass(frozen=True, slots=True)
class Maxima:
    """Largest magnitudes [num_parts]; NaN wins."""

    maxima: Tensor

    def merge(self, segments: Segments) -> Self:
        """Largest of each segment; 0 for an empty one."""
        parts = [part.amax() if len(part) else part.sum() for part in segments.split(self.maxima)]
        return type(self)(_stack(parts, like=self.maxima))

    def value(self, name: str) -> Tensor:
        """The maxima."""
        return self.maxima


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts or dot products [num_parts], which add."""

    sums: Tensor

    def merge(self, segments: Segments) -> Self:
        """Sum of each segment; 0 for an empty one."""
        return type(self)(_stack([part.sum() for part in segments.split(self.sums)], like=self.sums))

    def value(self, name: str) -> Tensor:
        """The sums."""
        return self.sums


@dataclass(frozen=True, slots=True)
class Moments:
    """Counts, means and population variances [num_parts].

    Merged by the pairwise rule of Chan, Golub and LeVeque (1979), in its form for many parts: means weighted by
    counts, and the squared deviations inside the parts plus those of the parts' means. No square of a mean is
    ever taken from a mean of squares, so a mean far above the deviation does no harm.
    """

    counts: Tensor
    means: Tensor
    variances: Tensor

    def merge(self, segments: Segments) -> Self:
        """Moments of each segment; 0, 0, 0 for an empty one."""
        counts, means, variances = [], [], []
        for part in zip(*map(segments.split, (self.counts, self.means, self.variances)), strict=True):
            count, mean, variance = (vector[0] for vector in part) if len(part[0]) == 1 else _chan(*part)
            counts.append(count)
            means.append(mean)
            variances.append(variance)
        return type(self)(*(_stack(values, like=self.means) for values in (counts, means, variances)))

    def value(self, name: str) -> Tensor:
        """The variances if `name` is `grad_variance`, else the means."""
        return self.variances if name == "grad_variance" else self.means


def _chan(counts: Tensor, means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count = counts.sum()
    divisor = count.clamp(min=1)  # nothing at all has mean 0 and variance 0
    mean = (counts * means).sum() / divisor
    variance = (counts * (variances + (means - mean).square())).sum() / divisor
    return count, mean, variance


@dataclass(frozen=True, slots=True)
class Alignment:
    """What the cosine of gradient and momentum is made of, each [num_parts], where both are present (else 0)."""

    dots: Sums
    gradients: Norms
    momenta: Norms

    def merge(self, segments: Segments) -> Self:
        """The three merged; cosines themselves do not merge."""
        return type(self)(self.dots.merge(segments), self.gradients.merge(segments), self.momenta.merge(segments))

    def value(self, name: str) -> Tensor:
        """The cosines: in [-1, 1], 0 where either norm is 0, NaN where either is not finite."""
        gradients, momenta = self.gradients.norms, self.momenta.norms
        cosines = (self.dots.sums / (gradients * momenta)).clamp(-1, 1)
        nothing = (gradients == 0) | (momenta == 0)
        finite = gradients.isfinite() & momenta.isfinite()
        return cosines.masked_fill(nothing, 0.0).masked_fill(~finite, torch.nan)


def _stack(values: Sequence[Tensor], *, like: Tensor) -> Tensor:
    return torch.stack(list(values)) if values else like.new_zeros(0)
