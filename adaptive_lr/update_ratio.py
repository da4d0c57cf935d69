"""The update-to-weight ratio of each tensor: ‖update‖ / ‖weight before it‖, from copies made before the update.

It reads parameters alone, so it is right for every optimizer, weight decay and whatever else an update consists of.

*Exactly* it takes a copy of the weights while the update is made, and another array of that size for a moment after it:
many times what a norm of the gradients takes. *By a sample* of at most `SAMPLE` elements per tensor it takes 16 KiB per
tensor meanwhile and 90 KiB more for a moment, whatever the tensor's size: about half a norm pass over large tensors.
`make benchmark` times both, beside a norm pass; for one thread and two see `kernels/benchmarks/results/cpu.md`
("watching" and "sampled", each less "steady state").

The sample is stratified: a tensor of n elements, row by row, is cut into `SAMPLE` equal stretches, and one place is
drawn uniformly in each, anew every time (the number of the call is the seed). Every element is as likely as any other,
so sums of squares estimated from it are unbiased, and no structure of the tensor (rows, channels) can coincide with it
as with every k-th element. A tensor of at most `SAMPLE` elements is read whole, and exactly.

With sums over the elements (u the update, w the weight), the estimate is R² = Σu² / Σw²: unbiased above and below, with
a bias of the order 1 / `SAMPLE` as a quotient. Its error follows from the sample itself (W. G. Cochran, *Sampling
Techniques*, 3rd edition, 1977, chapter 6): the variance of Σu² is estimated as that of the residuals d = u² - R² w²,
n² s²(d) / `SAMPLE`, and the standard error of R is half its root over ‖u‖ ‖w‖. That is the error of a sample without
strata, which strata can only lower. Where update and weights are independent and normal it is R / √`SAMPLE`, 3 %.
Where an update is of few elements (an embedding, of which a batch touches some rows) the error is larger; where the
sample saw none of them, ratio and error are 0.

Of DTensors every process samples what it holds, and one small all-gather makes ratios of whole tensors of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from adaptive_lr_kernels import measure, shards, upload
from adaptive_lr_kernels.collective import all_gather

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

SAMPLE = 1024
"""Elements of a tensor in a sample."""

DEPTH = 16
"""Tensors that the compound ratio is of at most. It was tried on networks of one to eleven matrices; in one of hundreds
most lie on branches beside each other, and do not compound."""

WEIGHT_FLOOR = 0.1
"""Least root-mean-square of a tensor in the update-to-weight ratio, as a share of the usual initialisation's scale,
1 / sqrt(fan-in): a tensor that starts at zero (the last layer of a branch, LoRA's second factor) has no scale of its
own, and its first update would be infinitely large."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights as they were before an update.

    Attributes:
        parameters: those of two or more dimensions that have a gradient and elements; of any dimension if there are no
            others.
        copies: what this process held of each; or of a sample, float64 [num_tensors, `SAMPLE`].
        places: which elements of each, row by row, are in the sample, int64 [num_tensors, `SAMPLE`]; None: all.
    """

    parameters: list[Tensor]
    copies: list[Tensor] | Tensor
    places: Tensor | None = None


class Ratios(NamedTuple):
    """The ratio of each of some weights, float64 [num_tensors], and the standard errors of estimates."""

    values: Tensor
    errors: Tensor | None

    @property
    def summary(self) -> Tensor:
        """The largest ratio, and the compound ratio Π(1 + ratio) - 1 of the `DEPTH` largest: float64 [2]."""
        values = self.values
        deepest = values if len(values) <= DEPTH else values.topk(DEPTH, sorted=False).values
        return torch.stack([values.max(), deepest.log1p().sum().expm1()])


class UpdateRatioMeter:
    """Compares weights before and after an update.

    Args:
        process_group: the processes over which DTensors are spread; None: this one alone.
    """

    def __init__(self, process_group: ProcessGroup | None = None) -> None:
        self._process_group = process_group
        self._floors: tuple[Any, Tensor] | None = None  # of the weights of the latest ratio, and what they were

    def copy(self, optimizer: Optimizer) -> Weights:
        """All weights as they are; one copy of them in memory."""
        parameters = _watched(optimizer)
        with torch.no_grad():
            return Weights(parameters, [shards.local(p).clone() for p in parameters])

    def sample(self, optimizer: Optimizer, seed: int) -> Weights:
        """A sample of the weights as they are, the same for the same seed and sizes; nothing waits for a device."""
        parameters = _watched(optimizer)
        if not parameters:
            return Weights([], [], torch.empty((0, SAMPLE), dtype=torch.int64))
        with torch.no_grad():
            held = [_reals(p) for p in parameters]
            places = sample_places([tensor.numel() for tensor in held], seed, held[0].device)
            return Weights(parameters, _at(held, places), places)

    def ratios(self, weights: Weights) -> Ratios | None:
        """What the update since did to the weights; None where there are none. Nothing waits for a device."""
        if not weights.parameters:
            return None
        # Where each process holds whole tensors, each knows the ratio.
        group = self._process_group if any(map(shards.is_distributed, weights.parameters)) else None
        with torch.no_grad():
            if weights.places is not None:
                assert isinstance(weights.copies, Tensor)
                return self._estimated(weights.parameters, weights.copies, weights.places, group)
            updates = torch._foreach_sub([shards.local(p) for p in weights.parameters], list(weights.copies))
        measured = measure(
            updates,
            parameters=weights.copies,
            statistics=("grad_norm", "param_norm"),
            process_group=group,
            per_tensor=True,
            placed_as=weights.parameters if group is not None else None,
        ).per_tensor
        floors = self._floors_of(weights.parameters)
        return Ratios(measured["grad_norm"] / torch.maximum(measured["param_norm"], floors), None)

    def _estimated(
        self, parameters: list[Tensor], before: Tensor, places: Tensor, group: ProcessGroup | None
    ) -> Ratios:
        held = [_reals(p) for p in parameters]
        sums = _sums(before, _at(held, places), [tensor.numel() for tensor in held])
        if group is not None:
            counted = upload.vector(list(map(float, shards.counted("parameters", parameters, group))), sums.device)
            # Zero times what is not finite is NaN: what is wrong in one replica is hidden in none.
            sums = all_gather((sums * counted).reshape(-1), group).sum(0).reshape(sums.shape)
        update, weight, update_error, shared_error, weight_error = sums
        floors = self._floors_of(parameters)
        norms = torch.maximum(weight.sqrt(), floors)
        values = update.sqrt() / norms
        # A floor has no error.
        square = torch.where(weight.sqrt() > floors, values.square(), 0.0)
        variance = (update_error - 2.0 * square * shared_error + square.square() * weight_error).clamp(min=0.0)
        return Ratios(values, torch.where(update > 0.0, 0.5 * (variance / update).sqrt() / norms, 0.0))

    def _floors_of(self, weights: Sequence[Tensor]) -> Tensor:
        """The least norms that weights count with, on their device."""
        device = weights[0].device
        if device.type != "cuda":
            return torch.tensor([_floor(weight) for weight in weights], dtype=torch.float64, device=device)
        described = (device, [weight.shape for weight in weights])
        if self._floors is None or self._floors[0] != described:  # kept: nothing travels to the device in a steady run
            self._floors = described, upload.vector([_floor(weight) for weight in weights], device)
        return self._floors[1]


def sample_places(sizes: Sequence[int], seed: int, device: torch.device) -> Tensor:
    """Which elements of tensors of these sizes are in a sample: int64 [num_tensors, `SAMPLE`], on the device.

    One of each of `SAMPLE` equal stretches; of a tensor of at most that many elements all, in order, and then the last
    again. The row of an empty tensor means nothing. The same on all devices; random numbers of others are left alone.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn = upload.uploaded(torch.rand(SAMPLE, generator=generator, dtype=torch.float64, device="cpu"), device)
    counts = upload.vector([float(size) for size in sizes], device).unsqueeze(1)
    order = torch.arange(SAMPLE, dtype=torch.float64, device=device)
    places = torch.where(counts > SAMPLE, (order + drawn) * (counts / SAMPLE), order)
    return torch.minimum(places, counts - 1.0).long()  # the last stretch may end beyond by rounding


def _sums(before: Tensor, after: Tensor, sizes: Sequence[int]) -> Tensor:
    """Of each sampled tensor, estimated for all its elements: float64 [5, num_tensors].

    Σu² and Σw², and the variances of these estimates: of the first, of the two together (covariance), of the second.
    """
    counts = upload.vector([float(size) for size in sizes], before.device).unsqueeze(1)
    there = torch.arange(SAMPLE, device=before.device) < counts
    squares = torch.stack([(after - before).square(), before.square()])
    squares = torch.where(there, squares, 0.0)
    scales = torch.where(counts > SAMPLE, counts / SAMPLE, 1.0)
    sums = (squares * scales).sum(2)
    update, weight = squares - squares.mean(2, keepdim=True)
    spread = torch.stack([update * update, update * weight, weight * weight]).sum(2)
    unread = torch.where(counts > SAMPLE, counts.square() / (SAMPLE * (SAMPLE - 1)), 0.0).squeeze(1)
    return torch.cat([sums, torch.where(unread > 0.0, spread * unread, 0.0)])


def _watched(optimizer: Optimizer) -> list[Tensor]:
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None and p.numel()]
    return [p for p in parameters if p.dim() >= 2] or parameters


def _reals(parameter: Tensor) -> Tensor:
    """What this process holds; complex numbers as pairs."""
    held = shards.local(parameter).detach()
    return torch.view_as_real(held.resolve_conj()) if held.is_complex() else held


def _at(tensors: Iterable[Tensor], places: Tensor) -> Tensor:
    """The elements of each in these places: float64 [num_tensors, `SAMPLE`]; zeros of an empty one."""
    taken = (
        torch.take(tensor, row).double() if tensor.numel() else torch.zeros_like(row, dtype=torch.float64)
        for tensor, row in zip(tensors, places, strict=True)
    )
    return torch.stack(list(taken))


def _floor(weight: Tensor) -> float:
    """The least norm that a weight counts with."""
    fan_in = weight.numel() / weight.shape[0] if weight.dim() >= 2 else weight.numel()
    return WEIGHT_FLOOR * math.sqrt(weight.numel() / fan_in)
