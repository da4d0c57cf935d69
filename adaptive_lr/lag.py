"""How late rows are read, and whether the reflex of a set of controllers can run on the device."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from torch.optim import Optimizer

from adaptive_lr.controllers.composition import Composition
from adaptive_lr.scores import NORM_LAW
from adaptive_lr.statistics import Phase
from adaptive_lr_kernels.reflex import ReflexSettings

CUDA_LAG = 2
"""Updates that a row may take from a GPU to the host: the host is seldom further ahead of it."""

_SCORE_ONLY = ReflexSettings(math.inf, math.inf, None, NORM_LAW)


@dataclass(frozen=True, slots=True)
class ReadBack:
    """When and where a step is judged.

    Attributes:
        lag: updates between a row and the first update that decisions on it act on, beyond the next one.
        reflex: what is judged on the device; None: rows are read at once, by the host.
        acts: whether the judgement on the device acts (else it only scores).
    """

    lag: int
    reflex: ReflexSettings | None
    acts: bool


def read_back(lag: int | None, optimizer: Optimizer, composition: Composition, *, shadow: bool) -> ReadBack:
    """When and where steps of this optimizer are judged.

    Args:
        lag: what was asked for; None: `CUDA_LAG` where the parameters are on a GPU, else 0.
        optimizer: whose gradients are judged.
        composition: who judges.
        shadow: whether nothing acts.

    Raises:
        TypeError, ValueError: `lag` is no number of updates, or one above 0 is asked for on a GPU with a controller
            that can only judge on the host.

    Warns:
        UserWarning: `lag` is None and such a controller makes it 0 on a GPU.
    """
    if lag is not None and (isinstance(lag, bool) or not isinstance(lag, int)):
        raise TypeError(f"lag must be a number of updates (int >= 0) or None, got {lag!r}")
    if lag is not None and lag < 0:
        raise ValueError(f"lag must be >= 0 updates, got {lag}")
    devices = {parameter.device.type for group in optimizer.param_groups for parameter in group["params"]}
    on_gpu = devices == {"cuda"}
    asked = (CUDA_LAG if on_gpu else 0) if lag is None else lag
    if not _is_deferred(asked, on_gpu=on_gpu):
        return ReadBack(asked, None, acts=False)
    laws = [(name, law) for name, law in zip(composition.names, composition, strict=True) if law.phase is Phase.BEFORE]
    if shadow or not laws:
        return ReadBack(asked, _SCORE_ONLY, acts=False)
    reflex = laws[0][1].reflex
    if reflex is not None and len(laws) == 1:
        return ReadBack(asked, reflex, acts=True)
    names = ", ".join(name for name, law in laws if law.reflex is None or law is not laws[0][1])
    why = f"{names} may damp or skip in the step itself, and on the device only one controller can, by its `reflex`"
    if lag is None:
        warnings.warn(f"the host waits for the GPU at every step (lag=0): {why}", UserWarning, stacklevel=4)
        return ReadBack(0, None, acts=False)
    raise ValueError(f"lag must be 0 with these controllers on a GPU: {why}; got {lag}")


def _is_deferred(lag: int, *, on_gpu: bool) -> bool:
    """Whether rows travel while updates go on; on a CPU there is nothing to wait for."""
    return lag > 0 and on_gpu
