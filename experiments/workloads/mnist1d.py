"""MNIST-1D, generated from its published recipe, and the small convolutional network it was published with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import nn

from experiments.workloads.common import Classification, Pair

TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
"""The pen stroke of each digit, as data: twelve heights, in the dataset's definition."""

PADDING = (36, 60)
"""Fewest and most zeros after a stroke; the more, the shorter the stroke once all are stretched to one length."""

NUM_PER_CLASS, NUM_TRAIN = 500, 4000
LENGTH, FINAL_LENGTH = 12 + PADDING[1], 40
SCALE, MAX_SHIFT, SMOOTH_NOISE, WHITE_NOISE, SHEAR = 0.4, 48, 0.25, 0.02, 0.75


def generate() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The 5000 signals of MNIST-1D (Greydanus 2020, arXiv:2011.14439), the first 4000 of them for training.

    Each is its digit's stroke, padded and stretched at random, scaled, shifted around, laid into smooth noise, made
    grainy, sheared, and sampled at 40 places; all together are then shuffled and standardised. Random numbers are
    drawn in the order of the published recipe, from the seed 42 and the generator it was published with, so the
    signals are the published ones to rounding.

    Returns:
        Signals (5000, 40) and classes (5000,).
    """
    random = np.random.RandomState(42)
    strokes = np.asarray(TEMPLATES)
    strokes = (strokes - strokes.mean(axis=1, keepdims=True)) / strokes.std(axis=1, keepdims=True)
    strokes = (strokes - strokes[:, :1]) / 6.0

    wide, narrow = np.linspace(0.0, 1.0, LENGTH), np.linspace(0.0, 1.0, FINAL_LENGTH)
    slope = np.linspace(-0.5, 0.5, LENGTH)
    signals = np.empty((len(strokes) * NUM_PER_CLASS, FINAL_LENGTH))
    classes = np.repeat(np.arange(len(strokes)), NUM_PER_CLASS)
    for signal, digit in zip(signals, classes, strict=True):
        num_zeros = PADDING[0] + int(random.rand() * (PADDING[1] - PADDING[0] + 1))
        # The offset tells a stroke's own zeros from the padding, which is what the smooth noise replaces.
        padded = np.concatenate([strokes[digit] + 1e-8, np.zeros(num_zeros)])
        stretched = np.interp(wide, np.linspace(0.0, 1.0, len(padded)), padded)
        stretched *= 1.0 + SCALE * (random.rand() - 0.5)
        shifted = np.roll(stretched, random.choice(MAX_SHIFT))
        smooth = gaussian_filter1d(SMOOTH_NOISE * random.randn(LENGTH), 2.0)
        laid = np.where(shifted == 0.0, smooth, shifted) + WHITE_NOISE * random.randn(LENGTH)
        sheared = laid - SHEAR * (random.rand() - 0.5) * slope
        signal[:] = np.interp(narrow, wide, sheared)

    order = random.permutation(len(classes))
    return ((signals - signals.mean()) / signals.std())[order], classes[order]


class MNIST1D(Classification):
    """MNIST-1D, and its published network of three strided convolutions with 25 channels: 5,210 parameters.

    3500 signals for training, the 500 others of the published training part for validation, the published test part
    for test.
    """

    name = "mnist1d-cnn"
    total_steps = 300
    batch_size = 100

    def __init__(self) -> None:
        signals, classes = generate()

        def tensors(part: slice) -> Pair:
            return torch.from_numpy(signals[part]).float(), torch.from_numpy(classes[part]).long()

        first, last = NUM_TRAIN - 500, NUM_TRAIN
        super().__init__(tensors(slice(first)), tensors(slice(first, last)), tensors(slice(last, None)))

    def build_model(self, seed: int) -> nn.Module:
        """(n, 40) signals -> (n, 10) scores."""
        return nn.Sequential(
            nn.Unflatten(1, (1, FINAL_LENGTH)),
            nn.Conv1d(1, 25, 5, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(25, 25, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(25, 25, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(125, 10),
        )
