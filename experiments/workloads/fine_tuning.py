"""Fine-tuning: a network that knows the digits 0 to 4 learns 5 to 9, its early layers more slowly."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from adaptive_lr.schedules import cosine
from adaptive_lr.schedules.parameter_groups import layerwise_decay
from adaptive_lr.study.digits import Digits
from experiments.workloads.common import Pair, shuffled_batches

NUM_CLASSES = 5
PRETRAINING_STEPS, PRETRAINING_LR, PRETRAINING_SEED = 300, 3e-3, 0
"""The recipe of the network that all runs begin from: AdamW under a cosine; part of the workload."""

LAYER_DECAY = 1 / 2.6
"""Ratio of a layer's learning rate to the next one's (Howard & Ruder 2018, arXiv:1801.06146, section 3.2)."""


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, NUM_CLASSES))


def _half(examples: Pair, first_class: int) -> Pair:
    """The examples of five classes, numbered from zero."""
    images, classes = examples
    chosen = (classes >= first_class) & (classes < first_class + NUM_CLASSES)
    return images[chosen], classes[chosen] - first_class


@lru_cache(maxsize=1)
def pretrained_weights() -> dict[str, Tensor]:
    """A network's state after learning the digits 0 to 4; computed once in a process, in about a second."""
    workload = Digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(PRETRAINING_SEED)
        network = _network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PRETRAINING_LR)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine(PRETRAINING_STEPS))
    batches = shuffled_batches(_half(workload.train, 0), 32, PRETRAINING_SEED)
    for _ in range(PRETRAINING_STEPS):
        optimizer.zero_grad()
        workload.loss(network, next(batches)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
    return network.state_dict()


class FineTuning(Digits):
    """The digits 5 to 9 of the built-in `digits` workload, from a perceptron pre-trained on 0 to 4.

    The body is the pre-trained one, the head a new one from the run's seed. 537 images for training; 25,477
    parameters in three layers, each with a learning rate of its own (`parameter_groups`).
    """

    name = "fine-tuning"
    total_steps = 200
    batch_size = 32

    def __init__(self) -> None:
        super().__init__()
        self.train = _half(self.train, NUM_CLASSES)
        self.splits = {split: _half(examples, NUM_CLASSES) for split, examples in self.splits.items()}
        self.evaluation_interval = len(self.train[0]) // self.batch_size
        self.body = {name: value for name, value in pretrained_weights().items() if not name.startswith("4.")}

    def build_model(self, seed: int) -> nn.Module:
        """(n, 64) pixels -> (n, 5) scores: the pre-trained body and a new head."""
        network = _network()
        network.load_state_dict(self.body, strict=False)  # all but the head
        return network

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Groups for an optimizer: `lr` for the head, and 2.6 times less for each layer before the next.

        Args:
            model: from `build_model`.
            lr: of the head, > 0.
        """
        return layerwise_decay(model, list(model.children())[::2], lr=lr, decay=LAYER_DECAY)
