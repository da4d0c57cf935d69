"""Workloads of a size that asks for a GPU. They are ready, and in no record here: none was at hand.

They train on the first GPU, and where there is none on the CPU, slowly. Runs on a GPU are the same twice only as far as
its kernels are; weights and batches follow from the seed on any device.
"""

from __future__ import annotations

import torch


def device() -> torch.device:
    """Where they train."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
