"""What these problems share: the order of examples, and columns of examples in three parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

Columns = list[Tensor]
"""One tensor a column, one row an example."""


def shuffled(count: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Indices (batch_size,) of batches without end, in a new order every epoch; incomplete ones are left out."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from torch.split(order[: count // batch_size * batch_size], batch_size)


def three_parts(columns: Sequence[Tensor], train: int, validation: int) -> tuple[Columns, dict[str, Columns]]:
    """The first `train` rows, and by split the next `validation` and the rest."""
    ends = (slice(train), slice(train, train + validation), slice(train + validation, None))
    first, middle, last = ([column[part] for column in columns] for part in ends)
    return first, {"validation": middle, "test": last}
