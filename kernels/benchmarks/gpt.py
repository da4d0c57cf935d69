"""A decoder-only transformer of any size, for timing a whole training step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Size:
    """The size of a model and of its batch."""

    name: str
    width: int
    layers: int
    heads: int
    context: int
    vocabulary: int
    sequences: int

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.sequences * self.context


SMALL = Size("small GPT", width=256, layers=4, heads=4, context=128, vocabulary=512, sequences=8)
GPT2 = Size("GPT-2 124M", width=768, layers=12, heads=12, context=1024, vocabulary=50257, sequences=8)


class Block(nn.Module):
    """Causal self-attention and a perceptron, pre-norm."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.attention_norm = nn.LayerNorm(size.width)
        self.query_key_value = nn.Linear(size.width, 3 * size.width)
        self.attention_out = nn.Linear(size.width, size.width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(size.width),
            nn.Linear(size.width, 4 * size.width),
            nn.GELU(),
            nn.Linear(4 * size.width, size.width),
        )

    def forward(self, stream: Tensor) -> Tensor:
        """[n, time, width] -> [n, time, width]."""
        projected = self.query_key_value(self.attention_norm(stream))
        query, key, value = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.attention_out(read.transpose(1, 2).flatten(2))
        after: Tensor = stream + self.perceptron(stream)
        return after


class GPT(nn.Module):
    """Tokens in, mean cross-entropy of the next token out; embedding and head share their weight, as in GPT-2."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocabulary, size.width)
        self.positions = nn.Embedding(size.context, size.width)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.layers)))
        self.norm = nn.LayerNorm(size.width)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        """[n, time + 1] tokens -> 0-d loss."""
        stream = self.tokens(text[:, :-1]) + self.positions.weight
        scores = self.norm(self.blocks(stream)) @ self.tokens.weight.T
        return F.cross_entropy(scores.flatten(0, 1).float(), text[:, 1:].flatten())
