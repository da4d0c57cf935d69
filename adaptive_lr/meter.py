"""Measures what one step of an optimizer shows: the values of a `Statistics` row.

Only what is asked for is measured. The numbers come from `adaptive_lr_kernels.measure`, one pass over all gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from adaptive_lr import optimizers
from adaptive_lr.plain import check_keys
from adaptive_lr.scores import LossPast, NormPast, score_loss, score_norm
from adaptive_lr.statistics import GRADIENT_STATISTICS, LOSS_STATISTICS, SCORE_STATISTICS
from adaptive_lr.update_ratio import UpdateRatioMeter
from adaptive_lr_kernels import Measurement, Workspace, measure
from adaptive_lr_kernels.plain_norm import plain_norm

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_POWERS = {"grad_norm": 1, "grad_max": 1, "grad_mean": 1, "grad_variance": 2}  # of a gradient's scale

Measured = tuple[dict[str, float], tuple[dict[str, float], ...]]


class Meter:
    """Measures gradients before an update.

    Args:
        requires: names of measured statistics (`adaptive_lr.statistics.MEASURED_STATISTICS`).
        per_group: whether to measure each parameter group as well.
        process_group: the processes over which gradients are measured; None: this one alone.
    """

    def __init__(
        self,
        requires: Iterable[str],
        *,
        per_group: bool,
        process_group: ProcessGroup | None = None,
    ) -> None:
        asked = frozenset(requires)
        self.scores = not asked.isdisjoint(SCORE_STATISTICS)
        self.scores_loss = not asked.isdisjoint(LOSS_STATISTICS)
        self.base_lr = "base_lr" in asked
        self.lr_factor = "lr_factor" in asked
        self.statistics = tuple(
            name for name in GRADIENT_STATISTICS if name in asked or (self.scores and name == "grad_norm")
        )
        self._per_group = per_group
        self._process_group = process_group
        self._only_norm = self.statistics == ("grad_norm",) and process_group is None
        self._needs_parameters = "param_norm" in self.statistics
        self._needs_momenta = not {"momentum_norm", "alignment"}.isdisjoint(self.statistics)
        self.workspace = Workspace()
        self.norms = NormPast()
        self._group_norms: tuple[NormPast, ...] = ()
        self.losses = LossPast()
        self.update_ratio = UpdateRatioMeter(process_group)

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
        groups = optimizer.param_groups
        num_groups = len(groups)
        if self._only_norm and not self.measures_groups(num_groups):
            norm = plain_norm([parameter.grad for group in groups for parameter in group["params"]])
            if norm is not None:
                return self.row({"grad_norm": norm}, {}, num_groups, scale)
        measurement = self.measurement(optimizer)
        values = {name: float(measurement.overall[name]) for name in self.statistics}
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
            self.norms, scored = score_norm(self.norms, values["grad_norm"])
        values.update(scored)
        if by_group:
            known = self._group_norms + (NormPast(),) * (len(by_group) - len(self._group_norms))
            following = []
            for row, past in zip(by_group, known, strict=False):
                after, scored = score_norm(past, row["grad_norm"])
                row.update(scored)
                following.append(after)
            self._group_norms = tuple(following)

    def loss(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The score of the training loss, where there is one."""
        if "loss" not in metrics:
            return {}
        self.losses, scored = score_loss(self.losses, metrics["loss"])
        return scored

    def state_dict(self) -> dict[str, Any]:
        """The past norms and losses, as plain values."""
        return {
            "norms": list(self.norms),
            "group_norms": [list(past) for past in self._group_norms],
            "losses": list(self.losses.window),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the past from `state_dict`."""
        check_keys("meter", state, self.state_dict())
        self.norms = NormPast.of(state["norms"])
        self._group_norms = tuple(map(NormPast.of, state["group_norms"]))
        self.losses = LossPast(tuple(state["losses"]))
