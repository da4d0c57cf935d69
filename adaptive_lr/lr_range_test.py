"""`range_test`: the LR range test as one call, for those who want the classic curve (Smith 2017, arXiv:1506.01186).

The law is `controllers.RangeTest`, which finds the peak while a run trains; here it runs in a ready-made loop, and
everything is put back afterwards. (The module is not called `range_test`: importing it would then replace the function
of that name in `adaptive_lr`.)
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from adaptive_lr import suggestions as rules
from adaptive_lr.adaptive import AdaptiveLR
from adaptive_lr.controllers.arguments import check_count, check_number
from adaptive_lr.controllers.range_state import SWEEP, RangeTestState
from adaptive_lr.controllers.range_test import RangeTest
from adaptive_lr.layer import is_controlled
from adaptive_lr.optimizers import reference_lr
from adaptive_lr.plain import from_plain
from adaptive_lr.restoring import restored
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.training_update import TrainingUpdate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_OVERFLOWS = 50
"""Updates in a row that a GradScaler may leave out: it halves its scale each time, and half precision spans 40 powers
of two."""


@dataclass(frozen=True)
class RangeTestResult:
    """The curve of a sweep and what it suggests. All learning rates are those of the group with the largest one.

    Attributes:
        lrs: learning rate of each update, ascending.
        losses: loss of the batch of each update, before that update; the last may be NaN or infinite.
        smoothed: `suggestions.centred_mean` of the losses, which does not lag; NaN where the loss is not finite.
        suggestions: the classic rules as published (see `adaptive_lr.suggestions`): `steepest`, `valley`, `slide` and
            `minimum`, each a learning rate, or None where the rule has none.
        suggestion: the peak that `controllers.RangeTest` would set on this sweep: where the size of the update reached
            its level (`adaptive_lr.controllers.update_size`), or a 15th of where the loss diverged; then the geometric
            mean with what is usual for this kind of optimizer. None where the sweep shows neither, nor a fall of the
            loss, and where the first loss was not finite.
        interval: (low, high), between which the smoothed loss falls, from a tenth of its fall to its lowest point (see
            `suggestions.interval`); None where it is flat.
        stop_reason: why the sweep ended, as a sentence.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestions: dict[str, float | None]
    suggestion: float | None
    interval: tuple[float, float] | None
    stop_reason: str

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curve, the interval and all suggestions; the learning rate is on a logarithmic axis.

        Args:
            ax: where to draw; None: a new figure.

        Returns:
            The axes.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        from adaptive_lr.range_figure import draw

        return draw(self, ax)


def range_test(
    model: nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    batches: Iterable[tuple[Any, Any]],
    *,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    steps: int = 100,
    total_steps: int | None = None,
    accumulate: int = 1,
    autocast: AbstractContextManager[Any] | None = None,
    scaler: GradScaler | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> RangeTestResult:
    """Train for a few steps while the learning rate rises geometrically, and see where the loss falls and diverges.

    ::

        result = range_test(model, optimizer, torch.nn.functional.cross_entropy, loader)
        print(result.suggestion, result.interval)
        result.plot()

    Everything is afterwards as it was, whatever happens: weights, gradients, buffers, optimizer state, learning rates,
    scaler, random generators, train and eval flags (see `restoring.restored`). A training run after it is bit-identical
    to one without it. It can be called at any time, also in the middle of training. It takes two copies of parameters
    and optimizer state in memory.

    Args:
        model: called as ``model(x)``. If it is in evaluation mode it is put into training mode; if it is in training
            mode, submodules that are not (frozen batch normalisation) stay as they are.
        optimizer: a torch optimizer that is not under `AdaptiveLR` control. Ratios between the learning rates of its
            groups are kept; where a scheduler is attached, between their peaks (`max_lr`, else `initial_lr`).
        loss_fn: called as ``loss_fn(model(x), y)``, gives a loss of one element.
        batches: pairs (x, y), moved to the device of the model's first parameter. They start again where they end
            before the sweep does; of an iterator, what it gave is kept for that.
        start_lr: first learning rate of the group with the largest one, > 0.
        end_lr: last one, above `start_lr`.
        steps: updates from `start_lr` to `end_lr`, >= 2. A sweep that diverges has fewer.
        total_steps: updates of the run that `suggestion` is for; longer runs than 300 updates want a lower peak. None:
            up to 300.
        accumulate: batches for each update, >= 1; the loss is their mean.
        autocast: entered for every forward pass, for example ``torch.autocast("cuda")``.
        scaler: for training in half precision. An update that it leaves out is tried again with the next batch.
        progress: called after each update with the number done and `steps`.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of its range, the optimizer holds no parameter of
            the model (or of a loss that is a module), is under control, or
            cannot bear a sweep (it remembers its largest learning rate, or steps only with a closure), or `batches` is
            empty or does not give pairs.
        Exception: whatever `model`, `loss_fn` or `batches` raise.
    """
    check_number("start_lr", start_lr, "(0, inf)")
    check_number("end_lr", end_lr, "(0, inf)")
    if end_lr <= start_lr:
        raise ValueError(f"end_lr must be above start_lr, got start_lr={start_lr}, end_lr={end_lr}")
    check_count("steps", steps, 2)
    check_count("accumulate", accumulate)
    check_count("total_steps", total_steps, optional=True)
    _check_kinds(model, optimizer, loss_fn, batches, scaler)
    if autocast is not None and not (hasattr(autocast, "__enter__") and hasattr(autocast, "__exit__")):
        raise TypeError(f"autocast must be a context manager or None, got {autocast!r}")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable or None, got {progress!r}")
    _check_belongs(model, loss_fn, optimizer)
    widest, reference = _reference(optimizer)
    law = RangeTest(
        # The share bounds sweeps that are part of a run; this one is not.
        total_steps=None if total_steps is None else max(total_steps, steps + 1),
        max_share=1.0,
        steps_per_decade=(steps - 1) / math.log10(end_lr / start_lr),
        start=start_lr / reference,
        end=end_lr / reference,
        to_divergence=True,
    )
    modules = (model, loss_fn) if isinstance(loss_fn, nn.Module) else (model,)
    with restored(modules=modules, optimizer=optimizer, scaler=scaler, batches=batches), torch.enable_grad():
        if not model.training:
            model.train()
        control = AdaptiveLR(optimizer, law, model=model)
        try:
            update = TrainingUpdate(model, optimizer, loss_fn, batches, accumulate, autocast or nullcontext(), scaler)
            lrs: list[float] = []
            losses: list[float] = []
            overflows, state = 0, law.init()
            while not lrs or state.stage == SWEEP:
                loss, happened = update()
                if happened:
                    overflows = 0
                    lrs.append(control.get_last_lr()[widest])
                    losses.append(loss)
                    if progress is not None:
                        progress(len(lrs), steps)
                else:
                    overflows += 1
                control.step(loss)
                state = _state(control, law)
                if not happened and (not math.isfinite(loss) or overflows >= MAX_OVERFLOWS):
                    # The law waits for an update that will not come: to it, the loss has diverged.
                    row = Statistics(len(losses), Phase.AFTER, {"loss": math.nan})
                    state, _ = law.update(state, row)
                    break
        finally:
            control.detach()
    found = rules.interval(lrs, losses)
    informed = state.watch.diverged or state.crossed > 0.0 or found is not None
    return RangeTestResult(
        lrs=tuple(lrs),
        losses=tuple(losses),
        smoothed=tuple(rules.centred_mean(lrs, losses).tolist()),
        suggestions=rules.classic(lrs, losses, steps=steps),
        suggestion=state.peak * reference if informed and losses and math.isfinite(losses[0]) else None,
        interval=found,
        stop_reason=_stop_reason(state, lrs, end_lr, overflows),
    )


def _state(control: AdaptiveLR, law: RangeTest) -> RangeTestState:
    plain = control.state_dict()["deliberation"]["controllers"][0]["state"]
    state = from_plain(law.init(), plain)
    assert isinstance(state, RangeTestState)
    return state


def _stop_reason(state: RangeTestState, lrs: list[float], end_lr: float, overflows: int) -> str:
    done = f"after {len(lrs)} update{'' if len(lrs) == 1 else 's'}"
    if overflows >= MAX_OVERFLOWS:
        return f"{overflows} updates in a row overflowed, {done}"
    if state.watch.diverged:
        return f"the loss diverged at a learning rate of {lrs[-1]:.3g}, {done}" if lrs else "the first loss diverged"
    return f"the end of the range, {end_lr:g}, was reached without divergence, {done}"


def _reference(optimizer: Optimizer) -> tuple[int, float]:
    """Index and reference learning rate of the group where that is largest: what the law's levels multiply."""
    references = [reference_lr(group) for group in optimizer.param_groups]
    index = max(range(len(references)), key=references.__getitem__)
    if not 0.0 < references[index] < math.inf:
        raise ValueError(f"optimizer must have a group with a finite learning rate > 0, got {references}")
    return index, references[index]


def _check_belongs(model: nn.Module, loss_fn: object, optimizer: Optimizer) -> None:
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    modules = (model, loss_fn) if isinstance(loss_fn, nn.Module) else (model,)
    if not any(id(parameter) in held for module in modules for parameter in module.parameters()):
        raise ValueError(f"optimizer must hold parameters of the model, got one of others ({type(optimizer).__name__})")


def _check_kinds(model: object, optimizer: object, loss_fn: object, batches: object, scaler: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    if is_controlled(optimizer):
        raise ValueError(
            f"optimizer must not be under AdaptiveLR control, got a {type(optimizer).__name__} that is: save "
            "control.state_dict(), control.detach(), and attach and load it again after the test"
        )
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(f"optimizer must step without a closure, got {type(optimizer).__name__}")
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be callable, got {type(loss_fn).__name__}")
    if not isinstance(batches, Iterable):
        raise TypeError(f"batches must be iterable, got {type(batches).__name__}")
    if scaler is not None and not isinstance(scaler, GradScaler):
        raise TypeError(f"scaler must be a torch.amp.GradScaler or None, got {type(scaler).__name__}")
