"""Tests that need an NVIDIA GPU, and nothing beyond torch, Triton, numpy and pytest: `make gpu-check`.

Where there is no GPU they are skipped. What uses Triton is imported within the tests, so that they can be collected
where there is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is marked `gpu`, and skipped without one."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())
