"""ResNet-18 on CIFAR-10 from torchvision's files."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.cifar10 import CIFAR10
from experiments.workloads.common import Pair
from experiments.workloads.on_gpu import device

WIDTHS = (64, 128, 256, 512)
PADDING = 4
"""Pixels of zeros around an image before it is cropped."""


class Block(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016, arXiv:1512.03385, figure 5, left; shortcut of option B).

    Args:
        before, after: channels.
        stride: of the first convolution.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        same = stride == 1 and before == after
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, images: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, after, h / stride, w / stride)."""
        return F.relu(self.body(images) + self.shortcut(images))


def resnet18(widths: tuple[int, int, int, int] = WIDTHS) -> nn.Module:
    """ResNet-18 for images of 32 × 32: (n, 3, 32, 32) -> (n, 10) scores.

    As for ImageNet, but for a first convolution of 3 × 3 without stride, and no pooling, since the images are small.
    Convolutions are initialised by He et al. (2015), as in the paper.

    Args:
        widths: channels of the four stages.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
    ]  # fmt: skip
    before = widths[0]
    for stage, width in enumerate(widths):
        layers += [Block(before, width, 1 if stage == 0 else 2), Block(width, width, 1)]
        before = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


class ResNet18(CIFAR10):
    """CIFAR-10 with ResNet-18, 11,173,962 parameters, 30 epochs of batches of 128, cropped and mirrored at random.

    Needs `cifar-10-batches-py` below the data folder; split and scaling are those of `cifar10.CIFAR10`.
    """

    name = "resnet18"
    total_steps = 10_530
    batch_size = 128
    widths = WIDTHS

    def build_model(self, seed: int) -> nn.Module:
        """A ResNet-18, its weights drawn on the CPU: the same on any device."""
        return resnet18(self.widths).to(device())

    def batches(self, seed: int) -> Iterator[Pair]:
        """Shuffled batches; every image is padded, cropped anew, and mirrored half of the time."""
        generator = torch.Generator().manual_seed(seed)
        augmentation = torch.Generator().manual_seed(seed + 1)
        images, classes = self.train
        while True:
            order = torch.randperm(len(images), generator=generator)
            for index in torch.split(order[: len(images) // self.batch_size * self.batch_size], self.batch_size):
                yield augmented(images[index], augmentation).to(device()), classes[index].to(device())

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Cross-entropy and accuracy over all images of a split, as they are."""
        images, classes = self.splits[split]
        scores = torch.cat([model(part.to(device())).cpu() for part in torch.split(images, 1000)])
        accuracy = (scores.argmax(dim=1) == classes).double().mean()
        return Evaluation(F.cross_entropy(scores, classes).item(), accuracy.item())


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, 3, h, w), each padded by four pixels and cropped to its size at random, and mirrored or not.

    Args:
        images: any.
        generator: of the places and of the mirror images.
    """
    count, _, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4)
    top, left = torch.randint(0, 2 * PADDING + 1, (2, count, 1), generator=generator)
    rows = top + torch.arange(height)
    columns = left + torch.arange(width)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    example = torch.arange(count)[:, None, None]
    cropped: Tensor = padded.permute(0, 2, 3, 1)[example, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2).contiguous()
