"""Measures what one step of an optimizer shows: the values of a `Statistics` row.

Only what is asked for is measured. The numbers come from `adaptive_lr_kernels.measure`, one pass over all gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import Optimizer

from adaptive_lr import optimizers
from adaptive_lr.plain import check_keys
from adaptive_lr.series import NormScore, score_loss, score_norm
from adaptive_lr.statistics import GRADIENT_STATISTICS, LOSS_STATISTICS, SCORE_STATISTICS
from adaptive_lr_kernels import Measurement, Workspace, measure
from adaptive_lr_kernels.shards import is_distributed, local

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

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
        process_group: the processes over which gradients are measured; None: this one alone.
    """

    def __init__(
        self,
        requires: Iterable[str],
        *,
        per_group: bool,
        always_ratio: bool = False,
        process_group: ProcessGroup | None = None,
    ) -> None:
        asked = frozenset(requires)
        self.scores = not asked.isdisjoint(SCORE_STATISTICS)
        self.scores_loss = not asked.isdisjoint(LOSS_STATISTICS)
        self.always_ratio = always_ratio
        self.base_lr = "base_lr" in asked
        self.statistics = tuple(
            name for name in GRADIENT_STATISTICS if name in asked or (self.scores and name == "grad_norm")
        )
        self._per_group = per_group
        self._process_group = process_group
        self._needs_parameters = "param_norm" in self.statistics
        self._needs_momenta = not {"momentum_norm", "alignment"}.isdisjoint(self.statistics)
        self.workspace = Workspace()
        self.score = NormScore()
        self._group_scores: tuple[NormScore, ...] = ()
        self._loss_score = NormScore()
        self._floors: tuple[Any, torch.Tensor] | None = None  # of the weights of the latest ratio, and what they were

    @property
    def measures_gradients(self) -> bool:
        """Whether anything is to be read from the gradients."""
        return bool(self.statistics)

    def gradients(self, optimizer: Optimizer, scale: float = 1.0) -> Measured:
        """Measure the gradients that the optimizer is about to use, and score their norm against the past.

        Args:
            optimizer: its parameters' `.grad`; parameters without one do not count.
            scale: what the gradients are multiplied by (a GradScaler's scale); values are given unscaled.

        Returns:
            The values over all parameters, and per group (empty unless asked for).
        """
        measurement = self.measurement(optimizer)
        values = {name: float(measurement.overall[name]) for name in self.statistics}
        num_groups = len(optimizer.param_groups)
        columns = {}
        if self.measures_groups(num_groups):
            columns = {name: measurement.per_group[name].tolist() for name in self.statistics}
        return self.row(values, columns, num_groups, scale)

    def measures_groups(self, num_groups: int) -> bool:
        """Whether the groups are measured one by one; a single group is the whole."""
        return self._per_group and num_groups > 1

    def measurement(self, optimizer: Optimizer) -> Measurement:
        """What is asked for of the gradients, as tensors on their device: the one place where gradients are read.

        Its memory may be written again by the second measurement after it (see `Workspace`).
        """
        groups = optimizer.param_groups
        every = [parameter for group in groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in every]
        arguments: dict[str, Any] = {
            "statistics": self.statistics,
            "process_group": self._process_group,
            "workspace": self.workspace,
        }
        if self._needs_parameters:
            arguments["parameters"] = every
        if self._needs_momenta:
            arguments["momenta"] = [optimizers.momentum_buffer(optimizer, p) for p in every]
        if self.measures_groups(len(groups)):
            arguments["groups"] = [number for number, group in enumerate(groups) for _ in group["params"]]
        return measure(gradients, **arguments)

    def row(
        self,
        values: dict[str, float],
        columns: Mapping[str, list[float]],
        num_groups: int,
        scale: float = 1.0,
        scored: Mapping[str, float] | None = None,
    ) -> Measured:
        """The values of a row from what was measured.

        Args:
            values: over all parameters, by name; completed in place.
            columns: by name, one number per group; empty where the groups were not measured.
            num_groups: how many groups the optimizer has.
            scale: what the gradients were multiplied by.
            scored: the score of the norm where it is known already; None: the norm is scored here.
        """
        by_group: tuple[dict[str, float], ...] = ()
        if columns:
            # A trailing group without gradients is beyond the largest index: it measured nothing.
            measured = len(next(iter(columns.values())))
            by_group = tuple(
                {name: column[number] if number < measured else 0.0 for name, column in columns.items()}
                for number in range(num_groups)
            )
        if scale != 1.0:
            for row in (values, *by_group):
                for name in row.keys() & _POWERS.keys():
                    row[name] /= scale ** _POWERS[name]
        if self.scores:
            self._add_scores(values, by_group, scored)
        if self._per_group and not columns:
            by_group = (dict(values),)
        return values, by_group

    def _add_scores(
        self, values: dict[str, float], by_group: tuple[dict[str, float], ...], scored: Mapping[str, float] | None
    ) -> None:
        if scored is None:
            self.score, scored = score_norm(self.score, values["grad_norm"])
        values.update(scored)
        if by_group:
            known = self._group_scores + (NormScore(),) * (len(by_group) - len(self._group_scores))
            following = []
            for row, state in zip(by_group, known, strict=False):
                after, scored = score_norm(state, row["grad_norm"])
                row.update(scored)
                following.append(after)
            self._group_scores = tuple(following)

    def loss(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The score of the training loss, where there is one."""
        if "loss" not in metrics:
            return {}
        self._loss_score, scored = score_loss(self._loss_score, metrics["loss"])
        return scored

    def snapshot(self, optimizer: Optimizer) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Pairs (parameter, copy) of what the update-to-weight ratio compares; one copy of the weights in memory.

        Of a DTensor, the copy is of what this process holds.
        Tensors of two or more dimensions; all tensors where there are none.
        """
        groups = optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None and p.numel()]
        matrices = [p for p in parameters if p.dim() >= 2]
        with torch.no_grad():
            return [(p, local(p).clone()) for p in matrices or parameters]

    def ratio(self, snapshot: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor | None:
        """The largest ‖update‖ / ‖weight before it‖ over the tensors of a snapshot, 0-d; None without tensors."""
        if not snapshot:
            return None
        parameters, before = zip(*snapshot, strict=True)
        with torch.no_grad():
            updates = torch._foreach_sub([local(p) for p in parameters], list(before))
        # Where each process holds whole tensors, each knows the ratio.
        group = self._process_group if any(map(is_distributed, parameters)) else None
        measured = measure(
            updates,
            parameters=before,
            statistics=("grad_norm", "param_norm"),
            process_group=group,
            per_tensor=True,
            placed_as=parameters if group is not None else None,
        ).per_tensor
        return (measured["grad_norm"] / torch.maximum(measured["param_norm"], self._floors_of(parameters))).max()

    def _floors_of(self, weights: Sequence[torch.Tensor]) -> torch.Tensor:
        """The least norms that weights count with, on their device."""
        device = weights[0].device
        if device.type != "cuda":
            return torch.tensor([_floor(weight) for weight in weights], dtype=torch.float64, device=device)
        described = (device, [weight.shape for weight in weights])
        if self._floors is None or self._floors[0] != described:  # kept: nothing travels to the device in a steady run
            floors = torch.tensor([_floor(weight) for weight in weights], dtype=torch.float64, device="cpu")
            self._floors = described, floors.pin_memory().to(device, non_blocking=True)
        return self._floors[1]

    def state_dict(self) -> dict[str, Any]:
        """The past norms and losses, as plain values."""
        return {
            "norms": list(self.score.window),
            "group_norms": [list(score.window) for score in self._group_scores],
            "losses": list(self._loss_score.window),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the past from `state_dict`."""
        check_keys("meter", state, self.state_dict())
        self.score = NormScore(tuple(state["norms"]))
        self._group_scores = tuple(NormScore(tuple(window)) for window in state["group_norms"])
        self._loss_score = NormScore(tuple(state["losses"]))


def _floor(weight: torch.Tensor) -> float:
    """The least norm that a weight counts with."""
    fan_in = weight.numel() / weight.shape[0] if weight.dim() >= 2 else weight.numel()
    return WEIGHT_FLOOR * math.sqrt(weight.numel() / fan_in)
