"""A language model of ten million parameters that reads Python's own standard library, byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.byte_gpt import EVERY, NUM_BYTES, read_corpus
from experiments.workloads.common import Pair
from experiments.workloads.on_gpu import device


class Block(nn.Module):
    """Causal self-attention and a perceptron, each on a normalised residual stream (pre-norm).

    Args:
        width: of the stream.
        num_heads: that share it.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, stream: Tensor) -> Tensor:
        """(n, time, width) -> (n, time, width)."""
        projected = self.query_key_value(self.attention_norm(stream))
        query, key, value = projected.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.attention_out(read.transpose(1, 2).flatten(2))
        after: Tensor = stream + self.perceptron(stream)
        return after


class GPT(nn.Module):
    """A decoder-only transformer over bytes, initialised as GPT-2.

    All weights are normal with deviation 0.02, those that end a residual branch with 0.02 / sqrt(2 layers) (Radford et
    al. 2019, section 2.3); biases are zero.

    Args:
        width, num_layers, num_heads: of the model.
        context: the longest text.
    """

    def __init__(self, *, width: int, num_layers: int, num_heads: int, context: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(NUM_BYTES, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, NUM_BYTES, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                ends_branch = name.endswith(("attention_out.weight", "perceptron.3.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * num_layers) ** 0.5 if ends_branch else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, text: Tensor) -> Tensor:
        """(n, time) bytes -> (n, time, 256) scores of the byte that follows."""
        stream = self.tokens(text) + self.positions.weight[: text.shape[1]]
        scores: Tensor = self.head(self.norm(self.blocks(stream)))
        return scores


class LargeByteGPT:
    """Next-byte prediction on Python's standard library with eight layers of width 320: 10,110,080 parameters.

    Corpus and split are those of `byte_gpt.ByteGPT`. 2,000 updates of 64 windows of 256 bytes read it some eight times.

    Args:
        width, num_layers, num_heads, context: of the model; smaller ones are for tests.

    Attributes:
        identity: SHA-256 of all files, one after another.
    """

    name = "gpt-10m"
    total_steps = 2000
    batch_size = 64
    evaluation_interval = 200
    num_windows = 256
    """Evenly spaced over a split: what the model is judged on."""

    def __init__(self, *, width: int = 320, num_layers: int = 8, num_heads: int = 5, context: int = 256) -> None:
        self.sizes = {"width": width, "num_layers": num_layers, "num_heads": num_heads, "context": context}
        self.context = context
        files = read_corpus()
        self.identity = hashlib.sha256(b"".join(files)).hexdigest()
        parts: dict[str, list[bytes]] = {"train": [], "validation": [], "test": []}
        for index, content in enumerate(files):
            parts[{0: "validation", EVERY // 2: "test"}.get(index % EVERY, "train")].append(content)
        text = {part: torch.frombuffer(bytearray(b"".join(own)), dtype=torch.uint8) for part, own in parts.items()}
        self.train = text["train"]
        self.splits = {split: self._windows(text[split]) for split in ("validation", "test")}

    def _windows(self, text: Tensor) -> Pair:
        return self._cut(text, torch.linspace(0, len(text) - self.context - 1, self.num_windows).long())

    def _cut(self, text: Tensor, starts: Tensor) -> Pair:
        windows = text[starts[:, None] + torch.arange(self.context + 1)].long().to(device())
        return windows[:, :-1], windows[:, 1:]

    def build_model(self, seed: int) -> nn.Module:
        """A GPT, its weights drawn on the CPU: the same on any device."""
        return GPT(**self.sizes).to(device())

    def batches(self, seed: int) -> Iterator[Pair]:
        """Batches of 64 windows from anywhere, each with the bytes that follow."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            starts = torch.randint(len(self.train) - self.context, (self.batch_size,), generator=generator)
            yield self._cut(self.train, starts)

    def loss(self, model: nn.Module, batch: Pair) -> Tensor:
        """Cross-entropy in nats a byte; ln 256 = 5.55 for a model that knows nothing."""
        text, following = batch
        return F.cross_entropy(model(text).flatten(0, 1), following.flatten())

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Cross-entropy in nats a byte over the fixed windows of a split, in batches of equal size."""
        text, following = self.splits[split]
        parts = zip(torch.split(text, self.batch_size), torch.split(following, self.batch_size), strict=True)
        losses = torch.stack([self.loss(model, part) for part in parts])
        return Evaluation(losses.double().mean().item())
