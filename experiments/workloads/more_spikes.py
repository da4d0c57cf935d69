"""The faults of `spikes` elsewhere: a network with batch normalisation, a recurrent one, one that learns slowly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from adaptive_lr.study.workload import Workload
from experiments.workloads.digits_cnn import DigitsCNN
from experiments.workloads.gru import GRURows
from experiments.workloads.mnist1d import MNIST1D
from experiments.workloads.spikes import LARGE_SPIKE_FACTOR, SPIKE_FACTOR, CorruptedBatches, GradientSpikes

STEPS = (100, 175, 250)
"""Of their 300: past the warm-up, and far enough apart to recover."""


def _gradient_spikes(build: Callable[[], Workload], factor: float) -> GradientSpikes:
    return GradientSpikes(build(), steps=STEPS, factor=factor)


def _corrupted_batches(build: Callable[[], Workload]) -> CorruptedBatches:
    return CorruptedBatches(build(), steps=STEPS)


digits_cnn_gradient_spikes = partial(_gradient_spikes, DigitsCNN, SPIKE_FACTOR)
digits_cnn_large_gradient_spikes = partial(_gradient_spikes, DigitsCNN, LARGE_SPIKE_FACTOR)
digits_cnn_corrupted_batches = partial(_corrupted_batches, DigitsCNN)
gru_gradient_spikes = partial(_gradient_spikes, GRURows, SPIKE_FACTOR)
gru_large_gradient_spikes = partial(_gradient_spikes, GRURows, LARGE_SPIKE_FACTOR)
gru_corrupted_batches = partial(_corrupted_batches, GRURows)
mnist1d_cnn_gradient_spikes = partial(_gradient_spikes, MNIST1D, SPIKE_FACTOR)
mnist1d_cnn_large_gradient_spikes = partial(_gradient_spikes, MNIST1D, LARGE_SPIKE_FACTOR)
mnist1d_cnn_corrupted_batches = partial(_corrupted_batches, MNIST1D)
