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
from adaptive_lr.deliberation import Deliberation, Levels
from adaptive_lr.meter import Measured, Meter
from adaptive_lr.plain import check_keys
from adaptive_lr.snapshot import Snapshot
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.trace import Update

Value = float | torch.Tensor | None

_TORCH_STEP = "Optimizer.profile_hook_step.<locals>.wrapper"  # what torch wraps around every step, and calls hooks from


@dataclass(slots=True)
class _Written:
    """One group entry that holds our value for the time of a step."""

    group: int
    key: str
    base: Any
    value: Any

    def put_back(self, groups: list[dict[str, Any]]) -> None:
        # If someone else has written since, the entry is theirs.
        if self.group < len(groups) and groups[self.group].get(self.key) is self.value:
            groups[self.group][self.key] = self.base


@dataclass(slots=True)
class _Filled:
    """One learning-rate tensor, filled in place (captured graphs hold its address) for the time of a step."""

    tensor: torch.Tensor
    base: torch.Tensor
    version: int

    def put_back(self, groups: list[dict[str, Any]]) -> None:
        del groups
        if self.tensor._version == self.version:
            with torch.no_grad():
                self.tensor.copy_(self.base)


@dataclass(slots=True)
class _Step:
    """One `optimizer.step()` under way."""

    nested: bool = False  # whether a super().step() inside it has run the hooks again
    changes: list[_Written | _Filled] = field(default_factory=list)
    lr: tuple[Value, ...] = ()
    base_lr: tuple[Value, ...] = ()
    momentum: tuple[float | None, ...] = ()
    base_momentum: tuple[float | None, ...] = ()
    levels: Levels | None = None
    judged: bool = False
    measured: Measured | None = None
    snapshot: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    damp: float = 1.0
    taken: _Taken | None = None


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


class _Taken:
    """Gradients taken away for a step that is left out, and what some optimizers touch all the same.

    An optimizer leaves parameters without gradients alone. Schedule-free still advances counters in its groups, LBFGS
    one in its state; values that the step replaced are put back.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._groups = [dict(group) for group in optimizer.param_groups]
        # Some optimizers keep plain values beside the dict of each parameter.
        self._states = {key: dict(s) if isinstance(s, dict) else s for key, s in optimizer.state.items()}
        self._gradients = [(p, p.grad) for group in optimizer.param_groups for p in group["params"]]
        self.take()

    def take(self) -> None:
        for parameter, _ in self._gradients:
            parameter.grad = None

    def put_back(self, optimizer: Optimizer) -> None:
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        for group, before in zip(optimizer.param_groups, self._groups, strict=False):
            _put_back(group, before)
        for key, state in list(optimizer.state.items()):
            if key not in self._states:
                del optimizer.state[key]
            elif isinstance(state, dict):
                _put_back(state, self._states[key])
            else:
                optimizer.state[key] = self._states[key]


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    for key in now.keys() - before.keys():
        del now[key]
    now.update(before)


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
        self.last_lr: tuple[Value, ...] | None = None
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
        for name in ("max_lr", "initial_lr"):
            if group.get(name) is not None:
                return as_float(group[name])
        return self.references[index] if index < len(self.references) else as_float(group.get("lr"))

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
                _damp(optimizer, step.damp)
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
                    step.taken = _Taken(optimizer)
                elif outcome.damp != 1.0:
                    step.damp = outcome.damp
                    _damp(optimizer, outcome.damp)
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
        step.base_lr = tuple(_copy(group.get("lr")) for group in groups)
        step.base_momentum = tuple(map(optimizers.momentum, groups)) if traced or scale != 1.0 else ()
        held = levels.level is not None and not self.shadow
        if levels.level is not None and held:
            targets = [self.reference(index, group) * levels.level for index, group in enumerate(groups)]
            step.changes += _write_learning_rates(groups, lambda index, _: targets[index])
        elif factor != 1.0:
            step.changes += _write_learning_rates(groups, lambda _, lr: lr * factor)
        if scale != 1.0:
            for index, group in enumerate(groups):
                if optimizers.momentum_key(group) is not None:
                    key, value = optimizers.scaled_momentum(group, scale)
                    step.changes.append(_Written(index, key, group[key], value))
                    group[key] = value
        step.lr = tuple(_copy(group.get("lr")) for group in groups) if held or factor != 1.0 else step.base_lr
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


def as_float(value: Value) -> float:
    """A learning rate as a number; NaN for an optimizer that has none (Adafactor with relative steps)."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
    return float("nan") if value is None else float(value)


def _copy(value: Value) -> Value:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _write_learning_rates(groups: list[dict[str, Any]], rate: Callable[[int, Any], Any]) -> list[_Written | _Filled]:
    """Give every group the learning rate that `rate` makes of its index and its base.

    Returns:
        What was changed, to be put back.
    """
    changes: list[_Written | _Filled] = []
    filled: set[int] = set()
    for index, group in enumerate(groups):
        lr = group.get("lr")
        if lr is None:
            continue
        if isinstance(lr, torch.Tensor) and not lr.requires_grad:
            if id(lr) not in filled:  # one tensor may be the learning rate of several groups
                filled.add(id(lr))
                base = lr.clone()
                lr.copy_(torch.as_tensor(rate(index, lr)))
                changes.append(_Filled(lr, base, lr._version))
        else:
            # A learning rate that is itself differentiated must not be overwritten: the group gets another.
            group["lr"] = rate(index, lr)
            changes.append(_Written(index, "lr", lr, group["lr"]))
    return changes


def _damp(optimizer: Optimizer, damp: float) -> None:
    """Multiply the gradients, in place where that is possible (as `clip_grad_norm_` does)."""
    dense: dict[int, torch.Tensor] = {}  # each once, should parameters share a gradient
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.requires_grad or gradient.layout is not torch.strided:
                parameter.grad = gradient * damp
            else:
                dense[id(gradient)] = gradient
    if dense:
        with torch.no_grad():
            torch._foreach_mul_(list(dense.values()), damp)


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
