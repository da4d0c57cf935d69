"""Measures what one step of an optimizer shows: the values of a `Statistics` row.

Only what is asked for is measured. The numbers come from `adaptive_lr_kernels.measure`, one pass over all gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from adaptive_lr import optimizers
from adaptive_lr.plain import check_keys
from adaptive_lr.series import NormScore, score_norm
from adaptive_lr.statistics import GRADIENT_STATISTICS, SCORE_STATISTICS
from adaptive_lr_kernels import measure

WEIGHT_FLOOR = 0.1
"""Least root-mean-square of a tensor in the update-to-weight ratio, as a share of the usual initialisation's scale,
1 / sqrt(fan-in): a tensor that starts at zero (the last layer of a branch, LoRA's second factor) has no scale of its
own, and its first update would be infinitely large."""

_POWERS = {"grad_norm": 1, "grad_max": 1, "grad_mean": 1, "grad_variance": 2}  # of a gradient's scale

Measured = tuple[dict[str, float], tuple[dict[str, float], ...]]


class Meter:
    """Measures gradients before an update and the update-to-weight ratio after it.

    Args:
        requires: names of measured statistics (`adaptive_lr.statistics.MEASURED_STATISTICS`).
        always_ratio: whether the update-to-weight ratio is measured at every step, whatever the laws read.
        per_group: whether to measure each parameter group as well.
    """

    def __init__(self, requires: Iterable[str], *, per_group: bool, always_ratio: bool = False) -> None:
        asked = frozenset(requires)
        self.scores = not asked.isdisjoint(SCORE_STATISTICS)
        self.always_ratio = always_ratio
        self.base_lr = "base_lr" in asked
        self._statistics = tuple(
            name for name in GRADIENT_STATISTICS if name in asked or (self.scores and name == "grad_norm")
        )
        self._per_group = per_group
        self._needs_parameters = "param_norm" in self._statistics
        self._needs_momenta = not {"momentum_norm", "alignment"}.isdisjoint(self._statistics)
        self._score = NormScore()
        self._group_scores: tuple[NormScore, ...] = ()

    @property
    def measures_gradients(self) -> bool:
        """Whether anything is to be read from the gradients."""
        return bool(self._statistics)

    def gradients(self, optimizer: Optimizer, scale: float = 1.0) -> Measured:
        """Measure the gradients that the optimizer is about to use, and score their norm against the past.

        Args:
            optimizer: its parameters' `.grad`; parameters without one do not count.
            scale: what the gradients are multiplied by (a GradScaler's scale); values are given unscaled.

        Returns:
            The values over all parameters, and per group (empty unless asked for).
        """
        groups = optimizer.param_groups
        every = [parameter for group in groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in every]
        several = self._per_group and len(groups) > 1
        arguments: dict[str, Any] = {"statistics": self._statistics}
        if self._needs_parameters:
            arguments["parameters"] = every
        if self._needs_momenta:
            arguments["momenta"] = [optimizers.momentum_buffer(optimizer, p) for p in every]
        if several:
            arguments["groups"] = [number for number, group in enumerate(groups) for _ in group["params"]]
        measurement = measure(gradients, **arguments)
        values = {name: float(measurement.overall[name]) for name in self._statistics}
        by_group: tuple[dict[str, float], ...] = ()
        if several:
            # A trailing group without gradients is beyond the largest index: it measured nothing.
            columns = {name: measurement.per_group[name].tolist() for name in self._statistics}
            measured = len(next(iter(columns.values())))
            by_group = tuple(
                {name: column[number] if number < measured else 0.0 for name, column in columns.items()}
                for number in range(len(groups))
            )
        if scale != 1.0:
            for row in (values, *by_group):
                for name in row.keys() & _POWERS.keys():
                    row[name] /= scale ** _POWERS[name]
        if self.scores:
            self._add_scores(values, by_group)
        if self._per_group and not several:
            by_group = (dict(values),)
        return values, by_group

    def _add_scores(self, values: dict[str, float], by_group: tuple[dict[str, float], ...]) -> None:
        self._score, scored = score_norm(self._score, values["grad_norm"])
        values.update(scored)
        if by_group:
            known = self._group_scores + (NormScore(),) * (len(by_group) - len(self._group_scores))
            following = []
            for row, state in zip(by_group, known, strict=False):
                after, scored = score_norm(state, row["grad_norm"])
                row.update(scored)
                following.append(after)
            self._group_scores = tuple(following)

    def snapshot(self, optimizer: Optimizer) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Pairs (parameter, copy) of what the update-to-weight ratio compares; one copy of the weights in memory.

        Tensors of two or more dimensions; all tensors where there are none.
        """
        groups = optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None and p.numel()]
        matrices = [p for p in parameters if p.dim() >= 2]
        return [(p, p.detach().clone()) for p in matrices or parameters]

    def ratio(self, snapshot: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
        """The largest ‖update‖ / ‖weight before it‖ over the tensors of a snapshot; 0 without tensors."""
        if not snapshot:
            return 0.0
        before = [copy for _, copy in snapshot]
        with torch.no_grad():
            updates = torch._foreach_sub([p.detach() for p, _ in snapshot], before)
        size, weight = (
            measure(tensors, statistics=("grad_norm",)).per_tensor["grad_norm"] for tensors in (updates, before)
        )
        floors = torch.tensor([_floor(tensor) for tensor in before], dtype=torch.float64, device=weight.device)
        return float((size / torch.maximum(weight, floors)).max())

    def state_dict(self) -> dict[str, Any]:
        """The past norms, as plain values."""
        return {"norms": list(self._score.window), "group_norms": [list(s.window) for s in self._group_scores]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the past norms from `state_dict`."""
        check_keys("meter", state, self.state_dict())
        self._score = NormScore(tuple(state["norms"]))
        self._group_scores = tuple(NormScore(tuple(window)) for window in state["group_norms"])


def _floor(weight: torch.Tensor) -> float:
    """The least norm that a weight counts with."""
    fan_in = weight.numel() / weight.shape[0] if weight.dim() >= 2 else weight.numel()
    return WEIGHT_FLOOR * math.sqrt(weight.numel() / fan_in)
