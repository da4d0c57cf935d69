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

import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from adaptive_lr import optimizers
from adaptive_lr.actuation import act
from adaptive_lr.buffers import Buffers
from adaptive_lr.changes import Taken, copied_lr, damp_gradients, write_learning_rates, write_momentum
from adaptive_lr.optimizers import Rate, as_float
from adaptive_lr.plain import check_keys
from adaptive_lr.rows import Rows
from adaptive_lr.snapshot import Snapshot
from adaptive_lr.steps import Guard, Step, steps_under_way


class Layer:
    """Scales and restores one optimizer; owned by the optimizer's hooks, holds no reference to it.

    Args:
        rows: makes rows of the steps and has the laws decide on them.
        limits: what the optimizer bears.
        shadow: decide and record, change nothing.
        traced: whether there is a trace.
        model: the model that is trained, held weakly, or None.
        buffers: of that model, which go back where an update is left out; None: they do not.
        always_ratio: whether the update-to-weight ratio is measured at every step, whatever the laws read.
        tensors_every: updates between two of which the ratio of every tensor is asked for; 0: none is.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        limits: optimizers.Limits,
        shadow: bool,
        traced: bool,
        model: nn.Module | None = None,
        buffers: Buffers | None = None,
        always_ratio: bool = False,
        tensors_every: int = 0,
    ) -> None:
        self.rows = rows
        self.shadow = shadow
        self.references: list[float] = []  # learning rates at attachment, of the groups there were
        self.snapshot: Snapshot | None = None
        self.aside: Snapshot | None = None  # of a way that was left, while another is tried
        self.last_lr: tuple[Rate, ...] | None = None
        self._limits = limits
        self._traced = traced
        self._model = None if model is None else weakref.ref(model)
        self._buffers = buffers
        self._always_ratio = always_ratio
        self._tensors_every = tensors_every
        self._compares_weights = always_ratio or tensors_every > 0
        self._step: Step | None = None
        self._warned: set[str] = set()
        self._handles: list[RemovableHandle] = []

    @property
    def model(self) -> nn.Module | None:
        """The model that is trained, if it was given and is still there."""
        return None if self._model is None else self._model()

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
        if self._buffers is not None:
            self._buffers.forget()

    # ---------------------------------------------------------------- the two hooks

    def before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Step pre-hook."""
        if self._step is not None:
            if steps_under_way(optimizer) > 1:
                self._step.nested = True
                return None
            self.settle(optimizer)
        step = self._step = Step(self.rows.begin())
        try:
            closure = args[1] if len(args) > 1 else kwargs.get("closure")
            deferred = closure is None and self.rows.defers(optimizer, step.levels)
            if not deferred and _overflows(optimizer):
                step.overflow = (
                    True  # a fused optimizer under GradScaler is called on an overflow too, and does nothing
                )
                return args, Guard(kwargs, self, optimizer, step)
            if closure is None:
                self._judge(optimizer, step, deferred=deferred)
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
        return args, Guard(kwargs, self, optimizer, step)

    def after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Step post-hook."""
        del args, kwargs
        step = self._step
        if step is None:
            return
        if step.nested and steps_under_way(optimizer) > 1:
            return
        self.settle(optimizer)
        self.rows.complete(step)
        if self._buffers is not None:
            if step.taken is not None or step.overflow:
                self._buffers.put_back()
            else:
                self._buffers.keep()
        if not step.overflow:
            self.last_lr = step.lr

    # ---------------------------------------------------------------- between steps

    def settle(self, optimizer: Optimizer) -> None:
        """End the step under way, if there is one: base values and taken gradients are put back."""
        step, self._step = self._step, None
        if step is None:
            return
        if step.flags is not None:
            step.flags.put_back(optimizer)
        if step.taken is not None:
            step.taken.put_back(optimizer)
        for change in step.changes:
            change.put_back(optimizer.param_groups)

    def abandon(self, optimizer: Optimizer, step: Step) -> None:
        """Settle a step that ended without its post-hook."""
        if self._step is step and not steps_under_way(optimizer):
            self.settle(optimizer)

    def put_back(self, snapshot: Snapshot | None, optimizer: Optimizer, model: nn.Module | None) -> None:
        """Go back to a snapshot, if there is one."""
        self.settle(optimizer)
        if snapshot is not None:
            snapshot.put_back(optimizer, model)
            if self._buffers is not None:
                self._buffers.keep()

    def reference(self, index: int, group: dict[str, Any]) -> float:
        """What a held level multiplies in a group: its `max_lr`, else `initial_lr`, else `lr` at attachment."""
        attached = self.references[index] if index < len(self.references) else None
        return optimizers.reference_lr(group, attached)

    def state_dict(self) -> dict[str, Any]:
        """What is kept between steps, as plain values."""
        return {
            "references": list(self.references),
            "snapshot": None if self.snapshot is None else self.snapshot.state_dict(),
            "aside": None if self.aside is None else self.aside.state_dict(),
            "last_lr": None if self.last_lr is None else [as_float(lr) for lr in self.last_lr],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        check_keys("layer", state, self.state_dict())
        self.references = list(state["references"])
        self.snapshot = None if state["snapshot"] is None else Snapshot.from_state_dict(state["snapshot"])
        self.aside = None if state["aside"] is None else Snapshot.from_state_dict(state["aside"])
        self.last_lr = None if state["last_lr"] is None else tuple(state["last_lr"])

    # ---------------------------------------------------------------- parts of a step

    def _after_closure(self, closure: Callable[..., Any], optimizer: Optimizer, step: Step) -> Callable[..., Any]:
        def measured_closure(*args: Any, **kwargs: Any) -> Any:
            loss = closure(*args, **kwargs)
            step.evaluations += 1
            if not step.judged:  # a line search calls it again; the first gradients are those of this step
                self._judge(optimizer, step)
            elif step.taken is not None:
                step.taken.take()
            elif step.damp != 1.0:  # or the search would compare damped gradients with others
                damp_gradients(optimizer, step.damp)
            return loss

        return measured_closure

    def _judge(self, optimizer: Optimizer, step: Step, *, deferred: bool = False) -> None:
        """Measure the gradients, and do with them what the laws that act before the update ask for."""
        step.judged = True
        if deferred:
            judgement = self.rows.judge_on_device(optimizer, step)
            if judgement is not None:
                step.flags = act(optimizer, judgement, self.rows.meter.workspace)
                if self._buffers is not None:
                    self._buffers.put_back(judgement.skip)
        else:
            outcome = self.rows.judge(optimizer, step)
            if outcome is not None and not self.shadow:
                if outcome.skip:
                    step.taken = Taken(optimizer)
                elif outcome.damp != 1.0:
                    step.damp = outcome.damp
                    damp_gradients(optimizer, outcome.damp)
        if step.levels.update_ratio or self._compares_weights:
            self._keep_weights(optimizer, step)

    def _keep_weights(self, optimizer: Optimizer, step: Step) -> None:
        """Keep what the update-to-weight ratio of this step will need: a copy of the weights if a law reads it."""
        meter, calls, every = self.rows.meter.update_ratio, self.rows.calls, self._tensors_every
        asked = every > 0 and calls % every == 0
        if step.levels.update_ratio or self._always_ratio:
            step.weights = meter.copy(optimizer)
        elif asked:
            step.weights = meter.sample(optimizer, calls)
        if asked and step.weights is not None:
            step.names = optimizers.parameter_names(step.weights.parameters, optimizer, self.model)

    def _scale(self, optimizer: Optimizer, step: Step) -> None:
        """Write base x factor into every group: read all groups first, then write."""
        levels = step.levels
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
        step.base_lr = tuple(copied_lr(group.get("lr")) for group in groups)
        step.base_momentum = tuple(map(optimizers.momentum, groups)) if self._traced or scale != 1.0 else ()
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

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, UserWarning, stacklevel=2)


def is_controlled(optimizer: Optimizer) -> bool:
    """Whether a layer is attached to this optimizer."""
    hooks = optimizer._optimizer_step_pre_hooks.values()
    return any(isinstance(getattr(getattr(hook, "__wrapped__", None), "__self__", None), Layer) for hook in hooks)


def _overflows(optimizer: Optimizer) -> bool:
    """Whether a GradScaler has found gradients that are not finite; waits for their device."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and float(found) != 0.0
