"""Every test starts from the same seeds, on one thread."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

torch.set_num_threads(1)  # two workers share two cores; more threads only get in each other's way


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed every generator a test may use."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test use the global generator
    torch.manual_seed(0)
