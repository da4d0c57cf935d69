"""CIFAR-10 from torchvision's files, and a small convolutional network."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from experiments.workloads.common import Classification, Pair
from experiments.workloads.torchvision_files import data_folder, read_cifar_batch


class CIFAR10(Classification):
    """50,000 + 10,000 colour images of 32 × 32 pixels (Krizhevsky 2009); three strided convolutions, 24,346 parameters.

    Needs `cifar-10-batches-py` below the data folder. The last tenth of the training part (5,000) is for validation.
    Channels are standardised by their mean and deviation over the training part. No augmentation.
    """

    name = "cifar10"
    total_steps = 250
    batch_size = 64

    def __init__(self) -> None:
        folder = data_folder() / "cifar-10-batches-py"

        def tensors(*names: str) -> Pair:
            images, classes = zip(*(read_cifar_batch(folder / name) for name in names), strict=True)
            return torch.from_numpy(np.concatenate(images)).float() / 255.0, torch.from_numpy(np.concatenate(classes))

        images, classes = tensors(*(f"data_batch_{number}" for number in range(1, 6)))
        test_images, test_classes = tensors("test_batch")
        whole = len(images) - len(images) // 10
        mean = images[:whole].mean(dim=(0, 2, 3), keepdim=True)
        deviation = images[:whole].std(dim=(0, 2, 3), keepdim=True)
        images, test_images = (images - mean) / deviation, (test_images - mean) / deviation
        super().__init__(
            (images[:whole], classes[:whole]), (images[whole:], classes[whole:]), (test_images, test_classes)
        )

    def build_model(self, seed: int) -> nn.Module:
        """(n, 3, 32, 32) images -> (n, 10) scores."""
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
