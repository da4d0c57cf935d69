"""A recurrent network that reads a digit row by row."""

from __future__ import annotations

from torch import Tensor, nn

from adaptive_lr.study.digits import Digits


class RowReader(nn.Module):
    """A GRU over the eight rows of an image, and a linear layer on its last state."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 64) pixels -> (n, 10) scores."""
        states, _ = self.gru(pixels.reshape(-1, 8, 8))
        scores: Tensor = self.head(states[:, -1])
        return scores


class GRURows(Digits):
    """The data of the built-in `digits` workload, and a GRU of 64 units over its rows: 14,858 parameters.

    Recurrent networks lose what they have learned when one update is too large.
    """

    name = "gru"
    total_steps = 300

    def build_model(self, seed: int) -> nn.Module:
        """A row reader of 64 units."""
        return RowReader(64)
