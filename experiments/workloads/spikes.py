"""Things that go wrong at known steps: spikes of the gradient, corrupted batches, wrong labels.

Each is a wrapper around any workload, and needs nothing of the optimizer or of the loop: what is disturbed follows
from the number of the batch, which is the number of updates done before it. A wrapper keeps the name of what it
wraps, so a disturbed run and the clean one of the same seed share initial weights and batches, and differ in the
disturbance alone; its title tells them apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from copy import copy
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from adaptive_lr.study.digits import Digits
from adaptive_lr.study.workload import Evaluation, Split, Workload, title_of
from experiments.workloads.common import Classification

SPIKE_STEPS = (100, 200, 300)
"""Of the ready-made suites: past the warm-up of the digits workload's 400 steps, and far enough apart to recover."""

SPIKE_FACTOR = 10.0
"""Of the ready-made suite: the smallest spike that must always be caught; an unprotected run hardly feels it."""

LARGE_SPIKE_FACTOR = 1000.0
"""Of the ready-made suite of large spikes: one that an unprotected run of SGD does not survive."""

CORRUPTION_SCALE = 100.0
"""Of a corrupted batch's inputs: that of percent read as shares, or of a wrong unit."""

LABEL_NOISE_SHARE = 0.2

InMemory = TypeVar("InMemory", Digits, Classification)


class Numbered(NamedTuple):
    """A batch, and the number of updates done before it (0 for the first)."""

    step: int
    batch: Any


class _GradientScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(loss: Tensor, factor: float) -> Tensor:
    """The same loss, whose gradient is `factor` times as large (which may be inf or nan).

    Args:
        loss: 0-d.
        factor: any number.
    """
    scaled: Tensor = _GradientScale.apply(loss, factor)  # type: ignore[no-untyped-call]
    return scaled


class Disturbed(ABC):
    """A workload that is as it was, but for the training loss at given steps.

    Args:
        workload: what to disturb.
        steps: when: numbers of updates done before the disturbed one, >= 0.
    """

    def __init__(self, workload: Workload, *, steps: Collection[int]) -> None:
        if any(step < 0 for step in steps):
            raise ValueError(f"steps must be >= 0, got {sorted(steps)}")
        self.workload = workload
        self.steps = frozenset(steps)
        self.name = workload.name
        when = f" at steps {', '.join(map(str, sorted(steps)))}" if steps else ""
        self.title = f"{title_of(workload)}, {self.disturbance}{when}"
        self.total_steps = workload.total_steps
        self.evaluation_interval = workload.evaluation_interval

    @property
    @abstractmethod
    def disturbance(self) -> str:
        """What is wrong at those steps, in a few words."""

    @abstractmethod
    def disturbed_loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The training loss on one batch, at a step that is disturbed."""

    def build_model(self, seed: int) -> nn.Module:
        """The model of the workload itself."""
        return self.workload.build_model(seed)

    def batches(self, seed: int) -> Iterator[Numbered]:
        """The batches of the workload itself, numbered."""
        return (Numbered(step, batch) for step, batch in enumerate(self.workload.batches(seed)))

    def loss(self, model: nn.Module, batch: Numbered) -> Tensor:
        """The training loss, disturbed where the batch's number says so."""
        if batch.step in self.steps:
            return self.disturbed_loss(model, batch.batch)
        return self.workload.loss(model, batch.batch)

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """The evaluation of the workload itself: nothing is disturbed there."""
        return self.workload.evaluate(model, split)


class GradientSpikes(Disturbed):
    """Gradients multiplied by a factor at given steps; the loss that is reported stays honest.

    Args:
        workload: what to disturb.
        steps: see `Disturbed`.
        factor: of the gradient; inf and nan are allowed.
    """

    def __init__(self, workload: Workload, *, steps: Collection[int], factor: float) -> None:
        self.factor = factor
        super().__init__(workload, steps=steps)

    @property
    def disturbance(self) -> str:
        """Gradients that are too large."""
        return f"gradients x {self.factor:g}"

    def disturbed_loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss, with a larger gradient."""
        return scale_gradient(self.workload.loss(model, batch), self.factor)


class CorruptedBatches(Disturbed):
    """Batches that are wrong in both halves at given steps: inputs far too large, targets those of other examples.

    Inputs that are not floating-point (tokens) keep their values. The targets are moved by one example.

    Args:
        workload: what to disturb; its batches must be pairs of tensors, inputs and targets.
        steps: see `Disturbed`.
        scale: factor of the inputs.
    """

    def __init__(self, workload: Workload, *, steps: Collection[int], scale: float = CORRUPTION_SCALE) -> None:
        self.scale = scale
        super().__init__(workload, steps=steps)

    @property
    def disturbance(self) -> str:
        """Batches that are wrong."""
        return f"inputs x {self.scale:g} and wrong targets"

    def disturbed_loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss on the corrupted batch."""
        inputs, targets = batch
        inputs = inputs * self.scale if inputs.is_floating_point() else inputs
        return self.workload.loss(model, (inputs, targets.roll(1, dims=0)))


def with_label_noise(workload: InMemory, *, share: float, seed: int = 0) -> InMemory:
    """The same workload with wrong classes in its training part, the same ones whenever they are seen.

    Symmetric noise: an example is chosen with probability `share`, and its class replaced by one of the others, each
    as likely. Validation and test stay clean.

    Args:
        workload: a classification in memory.
        share: in [0, 1].
        seed: of the choice; part of the workload, not of a run.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], got {share}")
    inputs, classes = workload.train
    num_classes = int(classes.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(classes), generator=generator) < share
    shift = torch.randint(1, num_classes, (len(classes),), generator=generator)
    noisy = copy(workload)
    noisy.title = f"{title_of(workload)}, {share:.0%} of the training labels wrong"  # type: ignore[union-attr]
    noisy.train = inputs, torch.where(wrong, (classes + shift) % num_classes, classes)
    return noisy


def gradient_spikes() -> GradientSpikes:
    """The digits workload with three gradient spikes of ten times."""
    return GradientSpikes(Digits(), steps=SPIKE_STEPS, factor=SPIKE_FACTOR)


def large_gradient_spikes() -> GradientSpikes:
    """The digits workload with three gradient spikes of a thousand times."""
    return GradientSpikes(Digits(), steps=SPIKE_STEPS, factor=LARGE_SPIKE_FACTOR)


def corrupted_batches() -> CorruptedBatches:
    """The digits workload with three corrupted batches."""
    return CorruptedBatches(Digits(), steps=SPIKE_STEPS)


def label_noise() -> Digits:
    """The digits workload with a fifth of its training labels wrong."""
    return with_label_noise(Digits(), share=LABEL_NOISE_SHARE)
