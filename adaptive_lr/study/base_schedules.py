"""The base schedules of recipes: what the learning rate does when nothing looks after it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, OneCycleLR, ReduceLROnPlateau

from adaptive_lr import schedules
from adaptive_lr.study.errors import StudyError

WARMUP_SHARE = 0.05
"""Share of the horizon that recipes with a warm-up warm up for, linearly, unless it is tuned."""

DECAY_SHARE = 0.2
"""Share of the horizon over which warm-up-stable-decay decays (Hägele et al. 2024, arXiv:2405.18392)."""

STEP_MILESTONES = (0.5, 0.75)
"""Shares of the horizon after which the step recipes divide the rate by ten (He et al. 2016)."""

PLATEAU = {"factor": 0.1, "patience": 5}
"""Of both plateau recipes; patience in evaluations."""


class LossScheduler(Protocol):
    """A scheduler whose step takes a loss, as torch's ReduceLROnPlateau does."""

    def step(self, loss: float, /) -> object:
        """Judge one more loss."""
        ...


class BaseSchedule(NamedTuple):
    """The schedulers of one run.

    Attributes:
        per_step: stepped with every update.
        per_evaluation: stepped with the validation loss of every evaluation.
        per_loss: stepped with the training loss of every update.
    """

    per_step: LRScheduler | None = None
    per_evaluation: ReduceLROnPlateau | LossScheduler | None = None
    per_loss: LossScheduler | None = None


def as_base_schedule(found: object, recipe: str) -> BaseSchedule:
    """What the `schedule` of a recipe returned, as the schedulers of a run.

    Args:
        found: a `BaseSchedule`; a torch scheduler, stepped with every update, or, if it is a ReduceLROnPlateau, with
            every evaluation; None for a constant rate.
        recipe: its name, for the error.

    Raises:
        StudyError: it is something else.
    """
    if isinstance(found, BaseSchedule):
        return found
    if isinstance(found, ReduceLROnPlateau):
        return BaseSchedule(per_evaluation=found)
    if found is None or isinstance(found, LRScheduler):
        return BaseSchedule(per_step=found)
    raise StudyError(
        f"the schedule of recipe {recipe!r} must return a torch scheduler, a BaseSchedule, or None; "
        f"got {type(found).__name__}"
    )


# The learning rates of the optimizer's parameter groups are the peaks of their schedules.


def cosine(optimizer: Optimizer, total_steps: int, warmup_share: float = WARMUP_SHARE) -> BaseSchedule:
    """A linear warm-up, then a cosine to zero."""
    warmup = _warmup_steps(total_steps, warmup_share)
    return BaseSchedule(LambdaLR(optimizer, _warm(warmup).then(schedules.cosine(max(1, total_steps - warmup)))))


def cosine_at_once(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    """A cosine to zero without a warm-up."""
    return BaseSchedule(LambdaLR(optimizer, schedules.cosine(total_steps)))


def linear(optimizer: Optimizer, total_steps: int, warmup_share: float = WARMUP_SHARE) -> BaseSchedule:
    """A linear warm-up, then a line to zero (Defazio et al. 2023, arXiv:2310.07831)."""
    warmup = _warmup_steps(total_steps, warmup_share)
    decay = schedules.linear(max(1, total_steps - warmup), start_factor=1.0, end_factor=0.0)
    return BaseSchedule(LambdaLR(optimizer, _warm(warmup).then(decay)))


def warmup_stable_decay(
    optimizer: Optimizer, total_steps: int, warmup_share: float = WARMUP_SHARE, decay_share: float = DECAY_SHARE
) -> BaseSchedule:
    """A linear warm-up, the peak, and a 1 - √p decay at the end."""
    warmup = _warmup_steps(total_steps, warmup_share)
    decay = min(round(decay_share * total_steps), total_steps - warmup)
    start = 1.0 / warmup
    curve = schedules.warmup_stable_decay(total_steps, warmup_steps=warmup, decay_steps=decay, start_factor=start)
    return BaseSchedule(LambdaLR(optimizer, curve))


def one_cycle(optimizer: Optimizer, total_steps: int, rising_share: float = 0.3) -> BaseSchedule:
    """Torch's OneCycleLR with its defaults."""
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return BaseSchedule(OneCycleLR(optimizer, max_lr=peaks, total_steps=total_steps, pct_start=rising_share))


def step(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    """Divided by ten, twice."""
    return BaseSchedule(MultiStepLR(optimizer, [round(share * total_steps) for share in STEP_MILESTONES], gamma=0.1))


def reduce_on_plateau(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    """Torch's ReduceLROnPlateau on evaluations."""
    return BaseSchedule(per_evaluation=ReduceLROnPlateau(optimizer, **PLATEAU))  # type: ignore[arg-type]


def constant(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    """The peak from the first to the last update."""
    return BaseSchedule()


def _warmup_steps(total_steps: int, share: float) -> int:
    return max(1, round(share * total_steps))


def _warm(steps: int) -> schedules.Schedule:
    # From 1/n of the peak, not from zero: an update of zero would teach nothing.
    return schedules.warmup(steps, start_factor=1.0 / steps)
