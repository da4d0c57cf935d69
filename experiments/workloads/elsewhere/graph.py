"""Elsewhere: a graph, full batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.workload import Evaluation, Split

NODES, FEATURES, CLASSES = 1800, 12, 6


class GraphConvolution(nn.Module):
    """(nodes, 12) features -> (nodes, 6) scores, by two layers that average over neighbours.

    Args:
        adjacency: (nodes, nodes), sparse, normalised.
    """

    def __init__(self, adjacency: Tensor, hidden: int = 16) -> None:
        super().__init__()
        self.adjacency = adjacency  # no buffer: it is data
        self.first, self.second = nn.Linear(FEATURES, hidden), nn.Linear(hidden, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        """Scores of all nodes."""
        hidden = torch.relu(torch.sparse.mm(self.adjacency, self.first(features)))
        return torch.sparse.mm(self.adjacency, self.second(hidden))


class BlockModel:
    """Graph convolution (Kipf & Welling, arXiv:1609.02907) on a stochastic block model of six communities.

    1,800 nodes with noisy features: 1,000 have labels, 300 are for validation and 500 for test. 310 parameters.
    Every batch is the whole graph, so that nothing but the initial weights varies with the seed.
    """

    name = "graph-convolution"
    total_steps = 400
    evaluation_interval = 100

    def __init__(self) -> None:
        random = np.random.default_rng(41)
        community = random.integers(0, CLASSES, NODES)
        same = community[:, None] == community[None, :]
        edges = np.triu(random.random((NODES, NODES)) < np.where(same, 0.018, 0.0035), 1)
        edges = edges | edges.T | np.eye(NODES, dtype=bool)
        scale = 1.0 / np.sqrt(edges.sum(1))
        rows, columns = np.nonzero(edges)
        places = torch.from_numpy(np.stack([rows, columns]))
        weights = torch.from_numpy(scale[rows] * scale[columns]).float()
        self.adjacency = torch.sparse_coo_tensor(places, weights, (NODES, NODES), check_invariants=True).coalesce()
        centres = 0.35 * random.normal(size=(CLASSES, FEATURES))
        self.features = torch.from_numpy(centres[community] + random.normal(size=(NODES, FEATURES))).float()
        self.classes = torch.from_numpy(community)
        order = torch.from_numpy(random.permutation(NODES))
        self.train = order[:1000]
        self.splits = {"validation": order[1000:1300], "test": order[1300:]}

    def build_model(self, seed: int) -> nn.Module:
        """Two graph convolutions, 16 units between them."""
        return GraphConvolution(self.adjacency)

    def batches(self, seed: int) -> Iterator[Tensor]:
        """(1000,) indices of the nodes with labels, every time."""
        while True:
            yield self.train

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Cross-entropy in nats of the nodes of a batch."""
        return F.cross_entropy(model(self.features)[batch], self.classes[batch])

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Cross-entropy and accuracy of the nodes of a split."""
        nodes = self.splits[split]
        scores, classes = model(self.features)[nodes], self.classes[nodes]
        accuracy = (scores.argmax(dim=1) == classes).double().mean()
        return Evaluation(F.cross_entropy(scores, classes).item(), accuracy.item())
