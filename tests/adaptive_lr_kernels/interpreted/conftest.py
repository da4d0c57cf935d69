"""Kernels run by Triton's interpreter, which has to be chosen before Triton is imported: in a process of their own.

`tests/adaptive_lr_kernels/test_interpreted.py` starts it. By hand:
`TRITON_INTERPRET=1 python -m pytest tests/adaptive_lr_kernels/interpreted`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


@pytest.fixture(autouse=True)
def silent_arithmetic() -> Iterator[None]:
    """Infinities and NaN come and go in silence, as on a GPU."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(scope="session", autouse=True)
def filled_memory() -> Iterator[None]:
    """New memory holds NaN, and the most negative of integers: what is not written shows."""
    empty = torch.empty

    def filled(*args: object, **kwargs: object) -> Tensor:
        tensor = empty(*args, **kwargs)
        if tensor.is_floating_point():
            return tensor.fill_(math.nan)
        return tensor.fill_(torch.iinfo(tensor.dtype).min)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", filled)
        yield
