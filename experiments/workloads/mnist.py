"""MNIST from torchvision's files, and a perceptron."""

from __future__ import annotations

import torch
from torch import nn

from experiments.workloads.common import Classification, Pair
from experiments.workloads.torchvision_files import data_folder, read_idx


class MNIST(Classification):
    """60,000 + 10,000 images of 28 × 28 pixels (LeCun et al. 1998), and a perceptron 784-128-10: 101,770 parameters.

    Needs `MNIST/raw` below the data folder. The last twelfth of the training part (5,000) is for validation. Pixels
    are standardised by one mean and one deviation over the training part.
    """

    name = "mnist"
    total_steps = 300
    batch_size = 128

    def __init__(self) -> None:
        folder = data_folder() / "MNIST" / "raw"

        def tensors(part: str) -> Pair:
            images = torch.tensor(read_idx(folder / f"{part}-images-idx3-ubyte"))
            classes = torch.tensor(read_idx(folder / f"{part}-labels-idx1-ubyte"))
            return images.flatten(1).float() / 255.0, classes.long()

        (images, classes), (test_images, test_classes) = tensors("train"), tensors("t10k")
        whole = len(images) - len(images) // 12
        mean, deviation = images[:whole].mean(), images[:whole].std()
        images, test_images = (images - mean) / deviation, (test_images - mean) / deviation
        super().__init__(
            (images[:whole], classes[:whole]), (images[whole:], classes[whole:]), (test_images, test_classes)
        )

    def build_model(self, seed: int) -> nn.Module:
        """(n, 784) pixels -> (n, 10) scores."""
        return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
