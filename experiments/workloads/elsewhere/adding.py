"""Elsewhere: sequence to number, by dilated convolutions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.workload import Evaluation, Split

LENGTH = 16
VARIANCE = 2.0 / 3.0
"""Of the sum of two values uniform between -1 and 1."""


class DilatedConvolutions(nn.Module):
    """(n, 2, 16) values and marks -> (n,) sums: residual causal convolutions, each twice as far apart as the last."""

    def __init__(self, width: int = 16, dilations: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.lift = nn.Conv1d(2, width, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=dilation) for dilation in dilations)
        self.mix = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in dilations)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """From the last position, which sees all others."""
        x = self.lift(x)
        for layer, mix in zip(self.layers, self.mix, strict=True):
            update = mix(torch.relu(layer(x)))
            x = x[:, :, -update.shape[2] :] + update  # causal, without padding
        found: Tensor = self.head(x[:, :, -1])[:, 0]
        return found


def additions(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(count, 2, 16) values from -1 to 1 with two of them marked, one in each half; (count,) the sums of the two."""
    values, marks = 2.0 * torch.rand(count, LENGTH, generator=generator) - 1.0, torch.zeros(count, LENGTH)
    for half in (0, LENGTH // 2):
        marks[torch.arange(count), half + torch.randint(LENGTH // 2, (count,), generator=generator)] = 1.0
    return torch.stack([values, marks], 1), (values * marks).sum(1)


class Adding:
    """The adding problem (Hochreiter & Schmidhuber 1997), 16 long, for a temporal convolutional network.

    After Bai et al. (arXiv:1803.01271). Sequences are made anew for each batch; 3,265 parameters. The loss is the mean
    squared error in variances of the sum, so that always saying 0 costs 1.
    """

    name = "adding-tcn"
    total_steps = 600
    batch_size = 48
    evaluation_interval = 150

    def __init__(self) -> None:
        self.splits = {
            "validation": additions(1000, torch.Generator().manual_seed(81)),
            "test": additions(1000, torch.Generator().manual_seed(82)),
        }

    def build_model(self, seed: int) -> nn.Module:
        """Four layers of 16 channels."""
        return DilatedConvolutions()

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(48, 2, 16) sequences and (48,) sums."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield additions(self.batch_size, generator)

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error, in variances of the sum."""
        return F.mse_loss(model(batch[0]), batch[1]) / VARIANCE

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """The same over a split."""
        return Evaluation(self.loss(model, self.splits[split]).item())
