"""What one step measured: the row that every controller sees.

A row is a value: frozen, made once, given to all laws, written to the trace, and enough to make the
same decisions again. Rows come in four phases::

    for batch in data:                  # START: one empty row before the first update
        loss.backward()
        optimizer.step()                # BEFORE: this step's gradient is known, the update has not happened
        control.step(loss)              # AFTER: the whole row of this step, loss and metrics included
    control.observe(val_loss=...)       # OBSERVATION: an evaluation, a row of its own
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Phase(enum.StrEnum):
    """When in a training step a row is made."""

    START = "start"
    BEFORE = "before"
    AFTER = "after"
    OBSERVATION = "observation"


GRADIENT_STATISTICS = (
    "grad_norm",
    "grad_max",
    "grad_mean",
    "grad_variance",
    "nonfinite",
    "param_norm",
    "momentum_norm",
    "alignment",
)
"""Measured from gradients, parameters and momentum buffers in one pass (see `adaptive_lr_kernels.measure`)."""

SCORE_STATISTICS = ("grad_score", "grad_typical", "grad_spread")
"""The gradient norm against its recent past (see `adaptive_lr.scores.score_norm`); `grad_score` asks for all three:
the score in robust standard deviations of the log-norm, the typical norm, and that standard deviation."""

LOSS_STATISTICS = ("loss_score", "loss_typical", "loss_spread")
"""The training loss against its recent past (see `adaptive_lr.series.score_loss`), in AFTER rows that have a loss;
`loss_score` asks for all three."""

RATIO_STATISTICS = ("update_ratio", "compound_ratio")
"""Known once the update has happened; `update_ratio` asks for both: the largest ratio r = ‖update‖ / ‖weight‖ over the
tensors of two or more dimensions, and what the ratios of the sixteen largest come to one after the other, Π(1 + r) - 1,
which bounds the relative change of a chain of layers (Bernstein et al. 2020, arXiv:2002.03432). Absent for a step that
called its closure more than once, unless a law held the learning rate."""

UPDATE_STATISTICS = (*RATIO_STATISTICS, "base_lr", "lr_factor")
"""Known once the update has happened: `RATIO_STATISTICS`, the base learning rate of the update (the largest of the
parameter groups), which control has no part in, and what control multiplied it by (absent where a law held the
learning rate itself)."""

SKIPPED = "skipped"
"""1 in the AFTER row of an update that was left out, and absent otherwise: its loss is that of a batch which did
nothing to the weights."""

MEASURED_STATISTICS = frozenset(
    (*GRADIENT_STATISTICS, *SCORE_STATISTICS, *LOSS_STATISTICS, *UPDATE_STATISTICS, SKIPPED)
)
"""Every name that this library measures itself; metrics of the user must have other names."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """One row: what is known at one moment of one step.

    Attributes:
        step: number of optimizer updates completed before this row's update (0 for the first); for an
            observation, the number of updates completed so far.
        phase: when the row was made.
        values: name -> value over all parameters: measured statistics (`MEASURED_STATISTICS`) and the user's
            metrics (the training loss is `loss`). A name that was not measured is absent. Read-only.
        groups: the measured statistics of each parameter group, in the optimizer's order. Read-only.
        updated: False in an AFTER row when no optimizer update happened since the last one (a gradient
            overflow under GradScaler); such a row has no gradient statistics.
    """

    step: int
    phase: Phase = Phase.AFTER
    values: Mapping[str, float] = field(default_factory=dict)
    groups: tuple[Mapping[str, float], ...] = ()
    updated: bool = True

    def get(self, name: str) -> float | None:
        """The value of a statistic or metric, or None where this row does not have it."""
        return self.values.get(name)
