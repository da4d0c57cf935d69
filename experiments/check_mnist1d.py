"""Check the generated MNIST-1D against its published accuracies: `python -m experiments.check_mnist1d`.

Published (Greydanus & Kobak 2024, arXiv:2011.14439): linear 32 %, perceptron 68 %, convolutional network 94 % on the
test part, trained on all 4000 training signals by Adam at 0.01 with batches of 100. The published perceptron's width is
not certain, so two widths are tried. Takes about a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import torch
from torch import nn

from experiments.workloads.common import shuffled_batches
from experiments.workloads.mnist1d import FINAL_LENGTH, MNIST1D

STEPS, BATCH_SIZE, LR = 6000, 100, 0.01
PUBLISHED = {"linear": 0.32, "perceptron, 100 wide": 0.68, "perceptron, 256 wide": 0.68, "convolutional": 0.94}


def accuracy(workload: MNIST1D, build: Callable[[], nn.Module]) -> float:
    """Test accuracy after training on the training and validation parts together."""
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    signals, classes = (torch.cat(parts) for parts in zip(workload.train, workload.splits["validation"], strict=True))
    for batch in islice(shuffled_batches((signals, classes), BATCH_SIZE, seed=0), STEPS):
        optimizer.zero_grad()
        workload.loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return workload.evaluate(model.eval(), "test").accuracy or 0.0


def perceptron(width: int) -> nn.Module:
    """Two hidden layers of rectifiers."""
    return nn.Sequential(
        nn.Linear(FINAL_LENGTH, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def main() -> None:
    """Train the models and print a line for each."""
    torch.set_num_threads(1)
    workload = MNIST1D()
    models: dict[str, Callable[[], nn.Module]] = {
        "linear": lambda: nn.Linear(FINAL_LENGTH, 10),
        "perceptron, 100 wide": lambda: perceptron(100),
        "perceptron, 256 wide": lambda: perceptron(256),
        "convolutional": lambda: workload.build_model(0),
    }
    for name, build in models.items():
        print(f"{name:22}{accuracy(workload, build):6.1%}   published {PUBLISHED[name]:.0%}", flush=True)


if __name__ == "__main__":
    main()
