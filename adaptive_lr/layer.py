"""The layer: the only code that changes an optimizer.

A step pre-hook multiplies learning rate and momentum by what is in force, a post-hook puts the base values back.
Between steps the groups always hold the *base*, owned by whoever owned it before: a torch scheduler, a trainer, a
hand-written line. That is the one form that composes exactly with recursive and closed-form schedulers alike::

    optimizer.step()
        pre-hook    measure the gradients; laws that act before the update decide
                    damp or take away gradients; write base x factor
        step        the optimizer's own, untouched (with a closure, the gradients are measured after it)
        post-hook   put back the base, and the gradients that were taken away

Facts of torch that shape the code: hooks fire twice (pre, pre, post, post) for a subclass that calls
``super().step()``; post-hooks do not fire after an exception; `load_state_dict` replaces the group dicts; one tensor
learning rate may be shared by all groups.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from adaptive_lr import optimizers
from adaptive_lr.changes import Change, Taken, copied_lr, damp_gradients, write_learning_rates, write_momentum
from adaptive_lr.deliberation import Deliberation, Levels
from adaptive_lr.meter import Measured, Meter
from adaptive_lr.optimizers import Rate, as_float
from adaptive_lr.plain import check_keys
from adaptive_lr.snapshot import Snapshot
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.trace import Update

_TORCH_STEP = "Optimizer.profile_hook_step.<locals>.wrapper"  # what torch wraps around every step, and calls hooks from


@dataclass(slots=True)
class _Step:
    """One `optimizer.step()` under way."""

    nested: bool = False  # whether a super().step() inside it has run the hooks again
    changes: list[Change] = field(default_factory=list)
    lr: tuple[Rate, ...] = ()
    base_lr: tuple[Rate, ...] = ()
    momentum: tuple[float | None, ...] = ()
    base_momentum: tuple[float | None, ...] = ()
    levels: Levels | None = None
    judged: bool = False
    measured: Measured | None = None
    snapshot: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    damp: float = 1.0
    taken: Taken | None = None


class _Guard(dict[str, Any]):
    """The keyword arguments of a step, which live as long as the step does.

    torch has no hook for a step that raises. Its wrapper keeps what the pre-hook returns as a local variable, so this
    object dies when the step ends in any way: the base values are back as soon as an exception has been handled.
    (Where a later pre-hook of someone else replaces the arguments, it dies before the step has run, and an exception
    is only noticed by the next call.)
    """

    __slots__ = ("_layer", "_optimizer", "_step")

    def __init__(self, kwargs: dict[str, Any], layer: Layer, optimizer: Optimizer, step: _Step) -> None:
        super().__init__(kwargs)
        self._layer, self._optimizer, self._step = layer, optimizer, step

    def __del__(self) -> None:
        self._layer.abandon(self._optimizer, self._step)


class Layer:
    """Scales and restores one optimizer; owned by the optimizer's hooks, holds no reference to it.

    Args:
        deliberation: decides.
        meter: measures.
        limits: what the optimizer bears.
        shadow: decide and record, change nothing.
    """

    def __init__(self, deliberation: Deliberation, meter: Meter, *, limits: optimizers.Limits, shadow: bool) -> None:
        self.deliberation = deliberation
        self.meter = meter
        self.shadow = shadow
        self.updates = 0
        self.references: list[float] = []  # learning rates at attachment, of the groups there were
        self.snapshot: Snapshot | None = None
        self.last_lr: tuple[Rate, ...] | None = None
        self._limits = limits
        self._step: _Step | None = None
        self._latest: Measured | None = None  # of the last update, until `take_row`
        self._warned: set[str] = set()
        self._handles: list[RemovableHandle] = []

    @property
    def attached(self) -> bool:
        """Whether the hooks are registered."""
        return bool(self._handles)

    def attach(self, optimizer: Optimizer) -> None:
        """Register the hooks."""
        self.references = [as_float(group.get("lr")) for group in optimizer.param_groups]
        # Under torch.compile(optimizer.step) the hooks run as they are; traced, they would be compiled again and again.
        self._handles = [
            optimizer.register_step_pre_hook(torch.compiler.disable(self.before)),  # type: ignore[no-untyped-call]
            optimizer.register_step_post_hook(torch.compiler.disable(self.after)),  # type: ignore[no-untyped-call]
        ]

    def detach(self, optimizer: Optimizer | None) -> None:
        """Remove the hooks; the groups hold their base values."""
        if optimizer is not None:
            self.settle(optimizer)
        for handle in self._handles:
            handle.remove()
        self._handles = []

    # ---------------------------------------------------------------- the two hooks

    def before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Step pre-hook."""
        if self._step is not None:
            if _steps_under_way(optimizer) > 1:
                self._step.nested = True
                return None
            self.settle(optimizer)
        overflow = getattr(optimizer, "found_inf", None)
        if overflow is not None and float(overflow) != 0.0:
            return None  # a fused optimizer under GradScaler is called on an overflow too, and does nothing
        step = self._step = _Step()
        try:
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            if closure is None:
                self._judge(optimizer, step)
            else:
                measured_closure = self._after_closure(closure, optimizer, step)
                if len(args) > 1:
                    args = (args[0], measured_closure, *args[2:])
                else:
                    kwargs = {**kwargs, "closure": measured_closure}
            self._scale(optimizer, step)
        except BaseException:
            self.settle(optimizer)
            raise
        return args, _Guard(kwargs, self, optimizer, step)

    def after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Step post-hook."""
        del args, kwargs
        step = self._step
        if step is None:
            return
        if step.nested and _steps_under_way(optimizer) > 1:
            return
        self.settle(optimizer)
        values, groups = step.measured or ({}, ())
        if step.snapshot is not None:
            values = {**values, "update_ratio": self.meter.ratio(step.snapshot)}
        if self.meter.base_lr:
            values = {**values, "base_lr": max(map(as_float, step.base_lr))}
        self._latest = values, groups
        self.last_lr = step.lr
        self._record(step)
        self.updates += 1

    # ---------------------------------------------------------------- between steps

    def settle(self, optimizer: Optimizer) -> None:
        """End the step under way, if there is one: base values and taken gradients are put back."""
        step, self._step = self._step, None
        if step is None:
            return
        if step.taken is not None:
            step.taken.put_back(optimizer)
        for change in step.changes:
            change.put_back(optimizer.param_groups)

    def abandon(self, optimizer: Optimizer, step: _Step) -> None:
        """Settle a step that ended without its post-hook."""
        if self._step is step and not _steps_under_way(optimizer):
            self.settle(optimizer)

    def rewind(self, optimizer: Optimizer, model: torch.nn.Module | None) -> None:
        """Put the snapshot back, if there is one."""
        self.settle(optimizer)
        if self.snapshot is not None:
            self.snapshot.put_back(optimizer, model)

    def reference(self, index: int, group: dict[str, Any]) -> float:
        """What a held level multiplies in a group: its `max_lr`, else `initial_lr`, else `lr` at attachment."""
        attached = self.references[index] if index < len(self.references) else None
        return optimizers.reference_lr(group, attached)

    def take_row(self, metrics: dict[str, float]) -> Statistics:
        """The AFTER row of the last update with the user's metrics; gradient statistics are given out once."""
        latest, self._latest = self._latest, None
        if latest is None:
            return Statistics(self.updates, Phase.AFTER, metrics, updated=False)
        values, groups = latest
        return Statistics(self.updates - 1, Phase.AFTER, {**values, **metrics}, groups)

    def state_dict(self) -> dict[str, Any]:
        """Counters and what is under way between `optimizer.step` and `control.step`, as plain values."""
        return {
            "updates": self.updates,
            "references": list(self.references),
            "snapshot": None if self.snapshot is None else self.snapshot.state_dict(),
            "last_lr": None if self.last_lr is None else [as_float(lr) for lr in self.last_lr],
            "latest": None if self._latest is None else [dict(self._latest[0]), [dict(g) for g in self._latest[1]]],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        check_keys("layer", state, self.state_dict())
        self.updates = state["updates"]
        self.references = list(state["references"])
        self.snapshot = None if state["snapshot"] is None else Snapshot.from_state_dict(state["snapshot"])
        self.last_lr = None if state["last_lr"] is None else tuple(state["last_lr"])
        latest = state["latest"]
        self._latest = None if latest is None else (dict(latest[0]), tuple(dict(group) for group in latest[1]))

    # ---------------------------------------------------------------- parts of a step

    def _after_closure(self, closure: Callable[..., Any], optimizer: Optimizer, step: _Step) -> Callable[..., Any]:
        def measured_closure(*args: Any, **kwargs: Any) -> Any:
            loss = closure(*args, **kwargs)
            if not step.judged:  # a line search calls it again; the first gradients are those of this step
                self._judge(optimizer, step)
            elif step.taken is not None:
                step.taken.take()
            elif step.damp != 1.0:  # or the search would compare damped gradients with others
                damp_gradients(optimizer, step.damp)
            return loss

        return measured_closure

    def _judge(self, optimizer: Optimizer, step: _Step) -> None:
        """Measure the gradients and let the laws that act before the update decide."""
        step.judged = True
        if self.meter.measures_gradients or self.deliberation.sees_before:
            scale = getattr(optimizer, "grad_scale", None)
            step.measured = self.meter.gradients(optimizer, 1.0 if scale is None else float(scale))
        if self.deliberation.sees_before:
            values, groups = step.measured or ({}, ())
            row = Statistics(self.updates, Phase.BEFORE, values, groups)
            outcome = self.deliberation.consider(row, self.updates + 1)
            if not self.shadow:
                if outcome.skip:
                    step.taken = Taken(optimizer)
                elif outcome.damp != 1.0:
                    step.damp = outcome.damp
                    damp_gradients(optimizer, outcome.damp)
        if self.deliberation.wants_ratio or self.meter.always_ratio:
            step.snapshot = self.meter.snapshot(optimizer)  # a copy of the weights: only where someone reads it

    def _scale(self, optimizer: Optimizer, step: _Step) -> None:
        """Write base x factor into every group: read all groups first, then write."""
        levels = self.deliberation.levels(self.updates)
        step.levels = levels
        factor, scale = (1.0, 1.0) if self.shadow else (levels.factor, levels.momentum)
        if factor > 1.0 and not self._limits.raise_lr:
            self._warn(f"the learning rate is not raised above its base: {self._limits.reason}")
            factor = 1.0
        if scale != 1.0 and not self._limits.momentum:
            self._warn(f"the momentum is not changed: {self._limits.reason}")
            scale = 1.0
        groups = optimizer.param_groups
        if scale != 1.0 and all(optimizers.momentum_key(group) is None for group in groups):
            self._warn(f"the momentum is not changed: {type(optimizer).__name__} has none")
            scale = 1.0
        traced = self.deliberation.trace is not None
        step.base_lr = tuple(copied_lr(group.get("lr")) for group in groups)
        step.base_momentum = tuple(map(optimizers.momentum, groups)) if traced or scale != 1.0 else ()
        held = levels.level is not None and not self.shadow
        if levels.level is not None and held:
            targets = [self.reference(index, group) * levels.level for index, group in enumerate(groups)]
            step.changes += write_learning_rates(groups, lambda index, _: targets[index])
        elif factor != 1.0:
            step.changes += write_learning_rates(groups, lambda _, lr: lr * factor)
        if scale != 1.0:
            step.changes += write_momentum(groups, scale)
        step.lr = tuple(copied_lr(group.get("lr")) for group in groups) if held or factor != 1.0 else step.base_lr
        step.momentum = tuple(map(optimizers.momentum, groups)) if scale != 1.0 else step.base_momentum

    def _record(self, step: _Step) -> None:
        if self.deliberation.trace is None or step.levels is None:
            return
        self.deliberation.record_update(
            Update(
                step=self.updates,
                lr=tuple(as_float(lr) for lr in step.lr),
                base_lr=tuple(as_float(lr) for lr in step.base_lr),
                momentum=step.momentum,
                base_momentum=step.base_momentum,
                factor=step.levels.factor,
                factors=step.levels.factors,
                damp=step.damp,
                skipped=step.taken is not None,
            )
        )

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, UserWarning, stacklevel=2)


def is_controlled(optimizer: Optimizer) -> bool:
    """Whether a layer is attached to this optimizer."""
    hooks = optimizer._optimizer_step_pre_hooks.values()
    return any(isinstance(getattr(getattr(hook, "__wrapped__", None), "__self__", None), Layer) for hook in hooks)


def _steps_under_way(optimizer: Optimizer) -> int:
    """How many calls of this optimizer's step the caller runs in: more than one where a step calls another."""
    calls = 0
    frame = sys._getframe(1).f_back
    while frame is not None:
        code = frame.f_code
        if code.co_qualname == _TORCH_STEP and frame.f_locals.get("self") is optimizer:
            calls += 1
        frame = frame.f_back
    return calls
