"""Other methods in the same harness: clipping, skipping, learning-rate-free optimizers, loss-driven schedules.

Each with the settings that its authors document. They come from their packages (the extra `adaptive-lr[peers]`), or are
written from their papers where they are a rule of a few lines (`peer_updates`). The learning rate given is what their
own documentation calls `lr`; for Prodigy, whose `lr` of 1 is a multiplier of what it estimates, and for MoMo, whose
`lr` is an upper bound, it means another thing, and their sensitivity to it is another thing too.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer

from adaptive_lr.study import base_schedules, peer_updates
from adaptive_lr.study.base_schedules import WARMUP_SHARE, BaseSchedule
from adaptive_lr.study.errors import StudyError, require
from adaptive_lr.study.optimizer_choice import OptimizerChoice
from adaptive_lr.study.recipe import Recipe

EXTRA = "adaptive-lr[peers]"

SCHEDULE_FREE_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "sgd": {"momentum": 0.9},
    "adamw": {"betas": (0.9, 0.999), "weight_decay": 0.01},
}
"""Of Schedule-Free, by optimizer: its interpolation is its defaults', its weight decay that of our AdamW."""

PRODIGY_SETTINGS: Mapping[str, Any] = {"betas": (0.9, 0.999), "weight_decay": 0.01}
"""Of Prodigy: its defaults, and the weight decay of our AdamW."""

GREEDY_SETTINGS: Mapping[str, Any] = {"factor": 0.95, "patience": 2, "min_lr": 1e-5}
"""Of GreedyLR: those of the pre-training example that it comes with; evaluations are its clock there as well."""

Groups = list[dict[str, Any]]


def schedule_free(choice: OptimizerChoice, groups: Groups, lr: float, total_steps: int) -> Optimizer:
    """Schedule-Free SGD or AdamW, which warm up by themselves."""
    package = require("schedulefree", extra="peers")
    kind = package.SGDScheduleFree if choice.name == "sgd" else package.AdamWScheduleFree
    warmup = max(1, round(WARMUP_SHARE * total_steps))
    return _made(kind, groups, lr=lr, warmup_steps=warmup, **SCHEDULE_FREE_SETTINGS[choice.name])


def prodigy(choice: OptimizerChoice, groups: Groups, lr: float, total_steps: int) -> Optimizer:
    """Prodigy, whose learning rate multiplies what it estimates."""
    return _made(require("prodigyopt", extra="peers").Prodigy, groups, lr=lr, **PRODIGY_SETTINGS)


def momo(choice: OptimizerChoice, groups: Groups, lr: float, total_steps: int) -> Optimizer:
    """MoMo or MoMo-Adam, with the settings that they come with.

    Raises:
        StudyError: there are several parameter groups, of which its step length is no solution.
    """
    if len(groups) > 1:
        raise StudyError(f"MoMo supports one parameter group, got {len(groups)}: this workload has layer-wise rates")
    package = require("momo", extra="peers")
    return _made(package.Momo if choice.name == "sgd" else package.MomoAdam, groups, lr=lr)


def greedy(optimizer: Optimizer, total_steps: int) -> BaseSchedule:
    """GreedyLR, on evaluations."""
    package = require("transformers.optimization", extra="peers")
    return BaseSchedule(per_evaluation=package.GreedyLR(optimizer, **GREEDY_SETTINGS))


def _made(kind: Callable[..., Optimizer], groups: Groups, **settings: Any) -> Optimizer:
    # What packages say about themselves, as warnings or in print, would stand in the middle of a study's progress.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return kind(groups, **settings)


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


_COSINE = f"{WARMUP_SHARE:.0%} linear warm-up, then cosine to zero"

CLIP = Recipe(
    "clip",
    f"{_COSINE}; gradients clipped to a norm of {peer_updates.MAX_NORM:g}",
    base_schedules.cosine,
    update=peer_updates.clipped_at_one,
)

ZCLIP = Recipe(
    "zclip",
    f"{_COSINE}; gradients clipped by their z-score (ZClip, arXiv:2504.02507)",
    base_schedules.cosine,
    update=peer_updates.z_clipped,
)

SKIP_STEP = Recipe(
    "skip-step",
    f"{_COSINE}; updates left out {peer_updates.SKIP_DEVIATIONS:g} deviations above the last "
    f"{peer_updates.SKIP_WINDOW} losses or norms (OLMo-core)",
    base_schedules.cosine,
    update=peer_updates.skipped,
)

SCHEDULE_FREE = Recipe(
    "schedule-free",
    f"Schedule-Free (arXiv:2405.15682) with {WARMUP_SHARE:.0%} warm-up, judged at its average; "
    f"SGD: {_words(SCHEDULE_FREE_SETTINGS['sgd'])}; AdamW: {_words(SCHEDULE_FREE_SETTINGS['adamw'])}",
    base_schedules.constant,
    optimizer=schedule_free,
    default_lrs={"sgd": 1.0, "adamw": 0.0025},
    optimizers=("sgd", "adamw"),
    requires=("schedulefree", EXTRA),
)

PRODIGY = Recipe(
    "prodigy",
    "Prodigy (arXiv:2306.06101) under a cosine to zero, as its authors recommend; the learning rate given multiplies "
    f"its estimate; {_words(PRODIGY_SETTINGS)}",
    base_schedules.cosine_at_once,
    optimizer=prodigy,
    default_lrs={"adamw": 1.0},
    optimizers=("adamw",),
    requires=("prodigyopt", EXTRA),
)

MOMO = Recipe(
    "momo",
    "MoMo or MoMo-Adam (arXiv:2305.07583) with their defaults; the learning rate given is its constant upper bound",
    base_schedules.constant,
    optimizer=momo,
    update=peer_updates.given_the_loss,
    default_lrs={"sgd": 1.0, "adamw": 0.01},
    optimizers=("sgd", "adamw"),
    requires=("momo", EXTRA),
)

GREEDY = Recipe(
    "greedy",
    f"GreedyLR (arXiv:2512.14527) on the validation loss; {_words(GREEDY_SETTINGS)}",
    greedy,
    requires=("transformers", EXTRA),
)
