"""Elsewhere: a recurrent language model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.workload import Evaluation, Split

ALPHABET = "abcdefghijklmnopqrstuvwxyz .,:;()_\"'-=*`[]<>/0"
LENGTH = 24


class CharLSTM(nn.Module):
    """(n, length) symbols -> (n, length, symbols) scores of the next ones."""

    def __init__(self, symbols: int, hidden: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, 24)
        self.lstm = nn.LSTM(24, hidden, batch_first=True)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, text: Tensor) -> Tensor:
        """From a state of zeros."""
        scores: Tensor = self.head(self.lstm(self.embedding(text))[0])
        return scores


class HelpText:
    """A character LSTM on the English of Python's own help topics, in lower case; four fifths are for training.

    Validation and test are 500 stretches each of 24 characters and their followers. 27,223 parameters. The text differs
    between versions of Python; its hash is part of the workload.
    """

    name = "lstm-text"
    total_steps = 500
    batch_size = 24
    evaluation_interval = 125

    def __init__(self) -> None:
        from pydoc_data.topics import topics

        text = " ".join(" ".join(topics[key] for key in sorted(topics)).lower().split())
        self.identity = hashlib.sha256(text.encode()).hexdigest()
        code = {symbol: number for number, symbol in enumerate(ALPHABET)}
        data = torch.tensor([code.get(symbol, len(ALPHABET)) for symbol in text])
        first, second = int(0.8 * len(data)), int(0.9 * len(data))
        self.train = data[:first]
        self.splits = {"validation": _stretches(data[first:second]), "test": _stretches(data[second:])}

    def build_model(self, seed: int) -> nn.Module:
        """One layer of 64 units."""
        return CharLSTM(len(ALPHABET) + 1)

    def batches(self, seed: int) -> Iterator[Tensor]:
        """(24, 25) stretches of text, from anywhere."""
        generator = torch.Generator().manual_seed(seed)
        offsets = torch.arange(LENGTH + 1)
        while True:
            starts = torch.randint(len(self.train) - LENGTH - 1, (self.batch_size, 1), generator=generator)
            yield self.train[starts + offsets]

    def loss(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Cross-entropy in nats a character."""
        return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Cross-entropy, and the share of characters that were the most likely one."""
        text = self.splits[split]
        scores, following = model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten()
        accuracy = (scores.argmax(dim=1) == following).double().mean()
        return Evaluation(F.cross_entropy(scores, following).item(), accuracy.item())


def _stretches(text: Tensor, count: int = 500) -> Tensor:
    """(count, LENGTH + 1) stretches, evenly spread."""
    rows = text[: len(text) // (LENGTH + 1) * (LENGTH + 1)].reshape(-1, LENGTH + 1)
    return rows[:: max(1, len(rows) // count)][:count]
