"""References to the tiny workloads, as a user would write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptive_lr.study import Run

FILE = Path(__file__).parent / "tiny.py"


def reference(attribute: str) -> str:
    return f"{FILE}:{attribute}"


@pytest.fixture
def tiny() -> Callable[[str], str]:
    """Name of a class in tiny.py -> reference to that workload."""
    return reference


@pytest.fixture
def run_of() -> Callable[..., Run]:
    """A run of the tiny workload, with some of its fields replaced."""

    def make(**changes: object) -> Run:
        given = {"optimizer": "sgd", "recipe": "cosine", "peak_lr": 0.1, "seed": 0, "steps": 12, **changes}
        return Run(reference(str(given.pop("workload", "Tiny"))), **given)  # type: ignore[arg-type]

    return make
