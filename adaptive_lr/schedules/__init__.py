"""Base schedules: pure functions from the step to a factor on the peak learning rate.

    from adaptive_lr import schedules

    schedule = schedules.warmup(100).then(schedules.cosine(900, eta_min=0.1))
    LambdaLR(optimizer, schedule)                  # or AdaptiveLR(optimizer, schedule=schedule)

What a schedule can do is in `base`; the schedules are in `decays`, `cycles` and `phases`; `parameter_groups` has
learning rates by layer and `recipes` published starting points by scenario. This package needs nothing else of
`adaptive_lr`.
"""

from adaptive_lr.schedules import cycles, decays, parameter_groups, phases, recipes
from adaptive_lr.schedules.base import Schedule
from adaptive_lr.schedules.batch_size import scale_lr
from adaptive_lr.schedules.drawing import draw
from adaptive_lr.schedules.phases import constant_with_decay, cosine_decay
from adaptive_lr.schedules.text import REGISTRY, from_text

# In use a schedule reads like a function: schedules.cosine(900).
constant = decays.Constant
step = decays.Step
multi_step = decays.MultiStep
exponential = decays.Exponential
polynomial = decays.Polynomial
linear = decays.Linear
cosine = decays.Cosine
inverse_sqrt = decays.InverseSqrt
cosine_warm_restarts = cycles.CosineWarmRestarts
cyclic = cycles.Cyclic
one_cycle = cycles.OneCycle
warmup = phases.Warmup
warmup_stable_decay = phases.WarmupStableDecay

__all__ = [
    "REGISTRY",
    "Schedule",
    "constant",
    "constant_with_decay",
    "cosine",
    "cosine_decay",
    "cosine_warm_restarts",
    "cyclic",
    "draw",
    "exponential",
    "from_text",
    "inverse_sqrt",
    "linear",
    "multi_step",
    "one_cycle",
    "parameter_groups",
    "polynomial",
    "recipes",
    "scale_lr",
    "step",
    "warmup",
    "warmup_stable_decay",
]
