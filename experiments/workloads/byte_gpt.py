"""A small language model that reads Python's own standard library, byte by byte."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.workload import Evaluation, Split
from experiments.workloads.common import Pair

NUM_BYTES, WIDTH, NUM_LAYERS, NUM_HEADS, CONTEXT = 256, 64, 2, 4, 64
EVERY = 20
"""Of every this many files, in the order of their names, one is for validation and one for test."""


def read_corpus() -> list[bytes]:
    """The contents of the standard library's top-level modules, in the order of their names.

    What the build of an interpreter writes beside them (`_sysconfigdata…`) holds paths of its machine and is left out.

    Raises:
        StudyError: the interpreter came without its sources.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(file for file in folder.glob("*.py") if not file.name.startswith("_sysconfigdata"))
    if len(files) < EVERY:
        raise StudyError(
            f"the byte-level workload trains on the standard library's source, and {str(folder)!r} has "
            f"{len(files)} modules; use an interpreter that comes with its sources"
        )
    return [file.read_bytes() for file in files]


class Block(nn.Module):
    """Causal self-attention and a perceptron, each on a normalised residual stream (pre-norm)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.attention_out = nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, stream: Tensor) -> Tensor:
        """(n, time, 64) -> (n, time, 64)."""
        projected = self.query_key_value(self.attention_norm(stream))
        query, key, value = projected.unflatten(2, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.attention_out(read.transpose(1, 2).flatten(2))
        after: Tensor = stream + self.perceptron(stream)
        return after


class GPT(nn.Module):
    """A decoder-only transformer over bytes, initialised as GPT-2 (normal, deviation 0.02, biases zero)."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(NUM_BYTES, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(NUM_LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, NUM_BYTES, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, text: Tensor) -> Tensor:
        """(n, time) bytes -> (n, time, 256) scores of the byte that follows."""
        stream = self.tokens(text) + self.positions.weight[: text.shape[1]]
        scores: Tensor = self.head(self.norm(self.blocks(stream)))
        return scores


class ByteGPT:
    """Next-byte prediction on Python's standard library with two layers of width 64: 136,960 parameters.

    One file in twenty is for validation, one for test, so no file is in two parts. The corpus is that of the running
    interpreter: results compare where `identity` is equal.

    Attributes:
        identity: SHA-256 of all files, one after another.
        description: the corpus and the model in a sentence.
    """

    name = "byte-gpt"
    total_steps = 240
    batch_size = 16
    evaluation_interval = 40
    num_windows = 128
    """Of 64 predictions each, evenly spaced over a split: what the model is judged on."""

    def __init__(self) -> None:
        files = read_corpus()
        self.identity = hashlib.sha256(b"".join(files)).hexdigest()
        self.description = (
            f"{len(files)} files of Python's standard library, {sum(map(len, files))} bytes, "
            f"sha256 {self.identity}; {NUM_LAYERS} layers of width {WIDTH}, context {CONTEXT}"
        )
        parts: dict[str, list[bytes]] = {"train": [], "validation": [], "test": []}
        for index, content in enumerate(files):
            parts[{0: "validation", EVERY // 2: "test"}.get(index % EVERY, "train")].append(content)
        text = {part: torch.frombuffer(bytearray(b"".join(own)), dtype=torch.uint8) for part, own in parts.items()}
        self.train = text["train"]
        self.splits = {split: self._windows(text[split]) for split in ("validation", "test")}

    def _windows(self, text: Tensor) -> Pair:
        starts = torch.linspace(0, len(text) - CONTEXT - 1, self.num_windows).long()
        return _cut(text, starts)

    def build_model(self, seed: int) -> nn.Module:
        """A GPT."""
        return GPT()

    def batches(self, seed: int) -> Iterator[Pair]:
        """Batches of 16 windows of 64 bytes from anywhere, each with the 64 bytes that follow them."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield _cut(self.train, torch.randint(len(self.train) - CONTEXT, (self.batch_size,), generator=generator))

    def loss(self, model: nn.Module, batch: Pair) -> Tensor:
        """Cross-entropy in nats a byte; ln 256 = 5.55 for a model that knows nothing."""
        text, following = batch
        return F.cross_entropy(model(text).flatten(0, 1), following.flatten())

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Cross-entropy in nats a byte over the fixed windows of a split."""
        return Evaluation(self.loss(model, self.splits[split]).item())


def _cut(text: Tensor, starts: Tensor) -> Pair:
    windows = text[starts[:, None] + torch.arange(CONTEXT + 1)].long()
    return windows[:, :-1], windows[:, 1:]
