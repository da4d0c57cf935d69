"""The reflex on the device: a gradient norm scored against its past, and what is to be done with the gradients.

The host never waits for any of it. Torch does it (`adaptive_lr_kernels.reference_reflex`), or one small kernel per call
(`fused_reflex`, `scaling`). The law follows level m, slope b and variance v of the log-norm x, each error
counting up to a bound (constants: `NormLaw`), and has thresholds on the score:

    sd = max(sqrt(v), spread_floor);  spread = sd * (1 + 2 / n)         n: norms so far
    score = (x - m) / spread        0 below `warmup` norms and for a norm of 0; inf for a norm that is not finite
    skip  = score is not finite, or score > skip_above
    damp  = exp(-score * spread) where score > damp_above, else 1
    damp  = min(damp, clip / (norm + 1e-6)) where there is a clip       1 where the update is skipped

    afterwards, unless the norm is 0 or not finite (the first norm sets m = x):
    n += 1;  e = min(max(x - m, -bound * sd), bound * sd)
    b += trend * e / k;  m += e / k + b     k = min(n, clip(n / level_share, least_memory, level_memory))
    v += (e^2 / w - v) / l                  l = clip(n / scale_share, 1, scale_memory)
    n = warmup after `adopt_after` errors in a row at the bound on one side

w is the mean of min(z^2, bound^2) for a normal z, so that v is the variance of normal errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from adaptive_lr_kernels.backends import Backend, selected
from adaptive_lr_kernels.norm_law import NormLaw
from adaptive_lr_kernels.reference_reflex import judge_reference, scale_reference, score_reference
from adaptive_lr_kernels.upload import uploaded
from adaptive_lr_kernels.workspace import Workspace, shared, stream_of

COLUMNS = ("score", "typical", "spread", "damp", "skip")
"""What `Judgement.row` holds, in order."""


@dataclass(frozen=True, slots=True)
class ReflexSettings:
    """The constants of the reflex; none has a default.

    Attributes:
        damp_above: score from which gradients are damped, > 0.
        skip_above: score from which the update is left out, at least `damp_above`.
        clip: largest norm let through, > 0, or None.
        norms: how norms are followed.
    """

    damp_above: float
    skip_above: float
    clip: float | None
    norms: NormLaw

    def __post_init__(self) -> None:
        if not 0.0 < self.damp_above <= self.skip_above:
            raise ValueError(
                "damp_above and skip_above must satisfy 0 < damp_above <= skip_above, "
                f"got {self.damp_above} and {self.skip_above}"
            )
        if self.clip is not None and not 0.0 < self.clip < math.inf:
            raise ValueError(f"clip must be finite and > 0, or None, got {self.clip}")
        self.norms.check()


class Past(NamedTuple):
    """What norms are judged against, on the device, updated in place.

    Attributes:
        values: float64 [5]: norms so far, log-norm expected next, its slope, the variance of the errors, and how many
            of them in a row were at the bound (below 0: at the lower one).
    """

    values: Tensor

    @classmethod
    def empty(cls, device: torch.device | str) -> Past:
        """A past without norms."""
        return cls(torch.zeros(5, dtype=torch.float64, device=device))

    def fill(self, values: Iterable[float]) -> None:
        """Hold these five numbers instead, without waiting for the device."""
        held = torch.tensor([float(value) for value in values], dtype=torch.float64, device="cpu")
        self.values.copy_(uploaded(held, self.values.device))

    def read(self) -> list[float]:
        """The five numbers. Waits for the device."""
        return self.values.tolist()


class Window(NamedTuple):
    """The last values of a series on the device, updated in place.

    Attributes:
        values: float64 [window]; value number i (from 0) is in slot i % window; +inf where none has been yet.
        entered: int64, 0-d: how many values ever entered.
        shares: float64 [3]: 0.25, 0.5, 0.75; a constant.
    """

    values: Tensor
    entered: Tensor
    shares: Tensor

    @classmethod
    def empty(cls, size: int, device: torch.device | str) -> Window:
        """A window of `size` slots without values."""
        values = torch.full((size,), math.inf, dtype=torch.float64, device=device)
        count = torch.zeros((), dtype=torch.int64, device=device)
        return cls(values, count, torch.linspace(0.25, 0.75, 3, dtype=torch.float64, device=device))

    def fill(self, values: Iterable[float]) -> None:
        """Hold these values instead, oldest first, without waiting for the device.

        Raises:
            ValueError: there are more than the window has slots.
        """
        held = list(values)
        size = self.values.numel()
        if len(held) > size:
            raise ValueError(f"values must be at most {size}, one per slot of the window, got {len(held)}")
        slots = torch.tensor(held + [math.inf] * (size - len(held)), dtype=torch.float64, device="cpu")
        self.values.copy_(uploaded(slots, self.values.device))
        self.entered.fill_(len(held))

    def read(self) -> list[float]:
        """The values, oldest first. Waits for the device."""
        count, slots = int(self.entered), self.values.tolist()
        first = count % len(slots)
        return slots[first:] + slots[:first] if count >= len(slots) else slots[:count]


class Judgement(NamedTuple):
    """What the reflex says about one gradient norm.

    Attributes:
        row: float64 [5]: score, typical norm, spread, damping coefficient, skip flag (see `COLUMNS`).
        damp: float64, 0-d: multiplies the gradients of this step; in (0, 1], and 1 where the update is skipped.
        skip: float32, 0-d: 1 where the update is to be left out, else 0 (what `optimizer.found_inf` takes).
    """

    row: Tensor
    damp: Tensor
    skip: Tensor

    @classmethod
    def empty(cls, device: torch.device | str) -> Judgement:
        """Memory for one judgement."""
        row = torch.empty(len(COLUMNS), dtype=torch.float64, device=device)
        return cls(row, row[3], torch.empty((), dtype=torch.float32, device=device))


def judge(
    state: Past,
    norm: Tensor,
    settings: ReflexSettings,
    *,
    grad_scale: Tensor | None = None,
    backend: Backend = "auto",
) -> Judgement:
    """Score a gradient norm against the ones before it, say what to do, and take it in. Waits for nothing.

    Args:
        state: the norms before; updated in place.
        norm: Euclidean norm of all gradients, float64, 0-d, on the device of the state; may be 0, inf or NaN.
        settings: the law.
        grad_scale: what the gradients, and so the norm, are multiplied by (a GradScaler's scale), float32, 0-d, on the
            same device; None: 1.
        backend: as in `adaptive_lr_kernels.measure`.

    Returns:
        The judgement, on the same device.

    Raises:
        ValueError: an unknown backend; the Triton backend on a device that it cannot run on.
    """
    if selected(backend, state.values.device) == "triton":
        # Here, so that Triton is imported only where it is used.
        from adaptive_lr_kernels.fused_reflex import judge_fused

        return judge_fused(state, norm, settings, grad_scale=grad_scale)
    row, skip = judge_reference(state, norm, settings, grad_scale)
    return Judgement(row, row[3], skip)


def score_value(
    state: Window, value: Tensor, *, warmup: int, relative_floor: float, backend: Backend = "auto"
) -> Tensor:
    """Score a value (a loss) against the ones before it, and take it in. Waits for nothing.

        m, q1, q3 = median and quartiles of the last values x (linear interpolation)
        spread = max((q3 - q1) / 1.349, relative_floor * |m|) * (1 + 8 / n)     n: values in the window
        score = (value - m) / spread        0 below `warmup` values; inf for one that is not finite: it does not enter

    Args:
        state: the values before; updated in place.
        value: float64, 0-d, on the device of the state; one that is not finite scores inf and does not enter.
        warmup: values to see before one is judged.
        relative_floor: least spread as a share of the median's magnitude, > 0.
        backend: as in `adaptive_lr_kernels.measure`.

    Returns:
        float64 [3]: score, typical value, spread (NaN during the warm-up).

    Raises:
        ValueError: an unknown backend; the Triton backend on a device that it cannot run on.
    """
    if selected(backend, state.values.device) == "triton":
        from adaptive_lr_kernels.fused_reflex import score_fused

        return score_fused(state, value, warmup=warmup, relative_floor=relative_floor)
    return score_reference(state, value, warmup=warmup, relative_floor=relative_floor)


def scale_gradients(
    gradients: Iterable[Tensor],
    damp: Tensor,
    skip: Tensor,
    *,
    backend: Backend = "auto",
    workspace: Workspace | None = None,
) -> None:
    """Multiply gradients by `damp` in place, or fill them with zeros where `skip` is not 0. Waits for nothing.

    Zeros, not products: 0 x NaN is NaN. Where damp is 1 and skip 0, gradients keep the bits they had: the Triton
    backend neither reads nor writes them then, torch writes them all the same.

    Args:
        gradients: dense floating-point or complex tensors on one device.
        damp: float64, 0-d, on that device; rounded to the precision that each dtype computes in.
        skip: float32, 0-d, on that device.
        backend: as in `adaptive_lr_kernels.measure`.
        workspace: what the Triton backend keeps between calls; None: shared by all callers that have none.

    Raises:
        ValueError: an unknown backend; the Triton backend on a device that it cannot run on.
    """
    listed, device = list(gradients), damp.device
    if selected(backend, device, listed) == "triton":
        kept = shared(device, stream_of(device)) if workspace is None else workspace
        measured = kept.where(listed)
        if measured is not None and measured[1].device == device == skip.device:
            from adaptive_lr_kernels.scaling import scale_measured

            scale_measured(*measured, damp, skip)
        else:
            kept.scaling(device).scale(listed, damp, skip)
    else:
        scale_reference(listed, damp, skip)
