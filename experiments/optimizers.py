"""Optimizers beyond those that constants were chosen on, named by a reference: `experiments.optimizers:RMSPROP`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from adaptive_lr.study.errors import require
from adaptive_lr.study.recipe import OptimizerChoice

Parameters = Iterable[nn.Parameter] | list[dict[str, Any]]

GRID = tuple(10.0 ** (k / 2) for k in range(-8, 3))
"""Half-decades that hold the optimum of all of them."""


class MuonWithAdamW(Optimizer):
    """`torch.optim.Muon` for matrices and AdamW for everything else, as one optimizer with one step.

    The two share its state and its group dicts, so that whoever reads or writes those reaches both.

    Args:
        params: parameters or parameter groups with an `lr` of their own; each is split in two.
        lr: of both; Muon's updates are given the root mean square of AdamW's (Liu et al. 2025, arXiv:2502.16982).
    """

    def __init__(self, params: Parameters, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        whole = self.param_groups
        matrices, others = ([_part(group, two) for group in whole] for two in (True, False))
        self.state = defaultdict(dict)
        self.parts: list[Optimizer] = []
        if any(group["params"] for group in matrices):
            self.parts.append(torch.optim.Muon(_filled(matrices), lr=lr, adjust_lr_fn="match_rms_adamw"))
        if any(group["params"] for group in others):
            self.parts.append(torch.optim.AdamW(_filled(others), lr=lr))
        for part in self.parts:
            part.state = self.state
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of both."""
        assert closure is None
        for part in self.parts:
            part.step()


def _part(group: dict[str, Any], matrices: bool) -> dict[str, Any]:
    return {"params": [p for p in group["params"] if (p.dim() == 2) == matrices], "lr": group["lr"]}


def _filled(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [group for group in groups if group["params"]]


def _lion(parameters: Parameters, lr: float) -> Optimizer:
    made: Optimizer = require("lion_pytorch").Lion(parameters, lr=lr)
    return made


RMSPROP = OptimizerChoice("RMSprop", lambda p, lr: torch.optim.RMSprop(p, lr=lr), {}, GRID)
ADAGRAD = OptimizerChoice("Adagrad", lambda p, lr: torch.optim.Adagrad(p, lr=lr), {}, GRID)
NADAM = OptimizerChoice("NAdam", lambda p, lr: torch.optim.NAdam(p, lr=lr), {}, GRID)
LION = OptimizerChoice("Lion", _lion, {"package": "lion-pytorch"}, GRID)
MUON = OptimizerChoice("Muon, AdamW for the rest", MuonWithAdamW, {"adjust_lr_fn": "match_rms_adamw"}, GRID)

MORE = {name: f"experiments.optimizers:{name.upper()}" for name in ("rmsprop", "adagrad", "nadam", "lion", "muon")}
"""Name -> reference."""
