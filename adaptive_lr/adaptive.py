"""`AdaptiveLR`: attaches control to an optimizer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from adaptive_lr import optimizers
from adaptive_lr.controllers import Composition, Controller, compose, guarded
from adaptive_lr.deliberation import Decisions, Deliberation
from adaptive_lr.layer import Layer, is_controlled
from adaptive_lr.meter import Meter
from adaptive_lr.optimizers import as_float
from adaptive_lr.plain import check_keys
from adaptive_lr.snapshot import Snapshot
from adaptive_lr.statistics import MEASURED_STATISTICS, Phase, Statistics
from adaptive_lr.trace import Header, Trace, describe_controllers, open_trace

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STATE_VERSION = 1


class AdaptiveLR:
    """Lets the learning rate and the momentum of an optimizer look after themselves, over any base schedule.

    ::

        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)   # as always
        control = AdaptiveLR(optimizer, trace="runs/mine")
        for x, y in batches:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()            # measured and layered here: lr = base x factor, then the base is put back
            scheduler.step()            # in either order with control.step
            control.step(loss)          # once per update

    The optimizer's hooks own the control (a dropped variable does not switch it off); the control holds the optimizer
    weakly.

    Args:
        optimizer: any `torch.optim.Optimizer`. An optimizer that wraps another as `.optimizer` (Accelerate's) is
            unwrapped.
        controllers: a controller, several, or a `Composition`; None: `controllers.guarded()`.
        schedule: who owns the base learning rate. None: someone else. A torch scheduler of this optimizer: it is
            stepped by `control.step`. A callable step -> factor (a schedule of `adaptive_lr.schedules`): the base is
            each group's `initial_lr` (its `lr` now) x factor, and where the schedule carries a momentum, that too.
        trace: a directory, a `SummaryWriter`, a `Trace`, or None.
        lag: updates by which decided levels act later than the next update; reflexes (damp, skip) always act in the
            step itself. None: 0.
        shadow: decide and record, change nothing.
        model: whose buffers a rewind puts back beside the parameters (running statistics of batch normalisation).

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the optimizer is under control already, `lag` is negative, the scheduler belongs to another
            optimizer or needs a metric (`ReduceLROnPlateau`), or a controller that sweeps the learning rate is asked to
            do so in shadow, with a lag, or on an optimizer that remembers its largest learning rate.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        controllers: Controller[Any] | Composition | Iterable[Controller[Any]] | None = None,
        *,
        schedule: LRScheduler | Callable[[int], float] | None = None,
        trace: str | PathLike[str] | SummaryWriter | Trace | None = None,
        lag: int | None = None,
        shadow: bool = False,
        model: nn.Module | None = None,
    ) -> None:
        optimizer = _unwrapped(optimizer)
        if is_controlled(optimizer):
            raise ValueError(
                f"optimizer must not be under control already, got a {type(optimizer).__name__} that is; "
                "detach() the other control first"
            )
        composition = guarded() if controllers is None else compose(controllers)
        lag = _valid_lag(lag)
        limits = optimizers.limits(optimizer)
        if composition.holds_lr:
            _check_sweep(composition, limits, lag=lag, shadow=shadow)
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module or None, got {type(model).__name__}")
        self._schedule = _base_schedule(schedule, optimizer)
        recorder = open_trace(trace)
        requires = composition.requires | (frozenset() if recorder is None else recorder.requires)
        per_group = recorder is not None or any(controller.per_group for controller in composition)
        self._deliberation = Deliberation(composition, lag=lag, trace=recorder)
        ratio = recorder is not None and "update_ratio" in recorder.requires
        meter = Meter(requires, per_group=per_group, always_ratio=ratio)
        self._layer = Layer(self._deliberation, meter, limits=limits, shadow=shadow)
        self._optimizer = weakref.ref(optimizer)
        if recorder is not None:
            recorder.begin(_header(optimizer, composition, lag=lag, shadow=shadow))
        self._model = None if model is None else weakref.ref(model)
        self._layer.attach(optimizer)
        try:
            self._consider(Statistics(0, Phase.START, self._start_values(optimizer, composition)), optimizer)
            if isinstance(self._schedule, _CallableSchedule):
                self._schedule.apply(optimizer)
        except BaseException:
            self.detach()
            raise

    # ---------------------------------------------------------------- in the loop

    def step(self, loss: float | torch.Tensor | Mapping[str, float | torch.Tensor] | None = None) -> None:
        """End one training step: laws that judge the whole step decide, and `schedule` is stepped.

        Call it once per update, after `optimizer.step()` (also when GradScaler left the update out).

        Args:
            loss: the training loss of this step as a number or one-element tensor; or metrics by name, where the
                training loss is `loss`; or None.

        Raises:
            TypeError, ValueError: `loss` is something else, or a metric has the name of a measured statistic.
            RuntimeError: the optimizer no longer exists, or control was detached.
        """
        optimizer = self._attached()
        metrics = {} if loss is None else _metrics(loss, "loss")
        self._layer.settle(optimizer)
        row = self._layer.take_row(metrics)
        self._consider(row, optimizer)
        if self._schedule is not None:
            self._schedule.step(optimizer)

    def observe(self, **metrics: float | torch.Tensor) -> None:
        """Report an evaluation, whenever it is known; each call is one evaluation, decided on at once.

        Args:
            **metrics: values by name, for example ``val_loss=0.31``.

        Raises:
            TypeError, ValueError: no metric is given, or one is no number or has the name of a measured statistic.
        """
        if not metrics:
            raise ValueError("observe needs at least one metric, for example observe(val_loss=0.31); got none")
        optimizer = self._attached()
        row = Statistics(self._layer.updates, Phase.OBSERVATION, _metrics(metrics, "metrics"))
        self._consider(row, optimizer)

    # ---------------------------------------------------------------- reading

    @property
    def factor(self) -> float:
        """What multiplies the base learning rate at the next update (in shadow: would multiply).

        While a `RangeTest` holds the learning rate itself, it is what will multiply the base afterwards.
        """
        return self._deliberation.levels(self._layer.updates).factor

    @property
    def decisions(self) -> Decisions:
        """The latest decisions, oldest first, each with its reason; `.total` counts all there ever were."""
        return self._deliberation.decisions

    @property
    def should_stop(self) -> bool:
        """Whether a controller has asked to end training."""
        return self._deliberation.should_stop

    def get_last_lr(self) -> list[float]:
        """The effective learning rate of the last update, per group; before any update, the base.

        After a skipped update it is the learning rate the update would have had.
        """
        last = self._layer.last_lr
        if last is None:
            return [as_float(group.get("lr")) for group in self._attached().param_groups]
        return [as_float(lr) for lr in last]

    # ---------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly: numbers, strings, None, dicts and lists (loads with `torch.load`).

        Save it beside the optimizer's own `state_dict`, which holds base values. A torch scheduler given as
        `schedule` is part of it.
        """
        optimizer = self._optimizer()
        if optimizer is not None:
            self._layer.settle(optimizer)
        if self._deliberation.trace is not None:
            self._deliberation.trace.flush()  # a run killed after this checkpoint has no gap before it
        return {
            "version": STATE_VERSION,
            "layer": self._layer.state_dict(),
            "meter": self._layer.meter.state_dict(),
            "deliberation": self._deliberation.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, with the same controllers and schedule attached.

        Raises:
            TypeError: `state` is no mapping.
            ValueError: it is of another version, of other controllers, or not one of `AdaptiveLR`; nothing is changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping from AdaptiveLR.state_dict(), got {type(state).__name__}")
        before = self.state_dict()
        if state.get("version", STATE_VERSION) != STATE_VERSION:  # first: another version may have other keys
            raise ValueError(f"state must be of version {STATE_VERSION}, got version {state['version']}")
        check_keys("AdaptiveLR", dict(state), before)
        if (state["schedule"] is None) != (self._schedule is None):
            given, attached = ("no", "a") if state["schedule"] is None else ("a", "no")
            raise ValueError(f"state must fit the schedule: it has {given} schedule, this control has {attached}")
        optimizer = self._attached()
        try:
            self._load(state, optimizer)
        except Exception as error:
            self._load(before, optimizer)
            if isinstance(error, ValueError):
                raise
            raise ValueError(
                f"state must be from AdaptiveLR.state_dict(), got one that cannot be read: {error!r}"
            ) from error
        if self._deliberation.trace is not None:
            self._deliberation.trace.resume(self._layer.updates, rows=self._deliberation.rows)

    def _load(self, state: Mapping[str, Any], optimizer: Optimizer) -> None:
        self._deliberation.load_state_dict(state["deliberation"])
        self._layer.load_state_dict(state["layer"])
        saved, groups = len(self._layer.last_lr or ()), len(optimizer.param_groups)
        if saved > groups:
            raise ValueError(
                f"state must fit the optimizer: it has {saved} parameter groups, the optimizer has {groups}"
            )
        self._layer.meter.load_state_dict(state["meter"])
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"], optimizer)

    def detach(self) -> None:
        """End control: hooks removed, base values in place, the trace closed. Calling it twice does no harm."""
        optimizer = self._optimizer()
        self._layer.detach(optimizer)
        if optimizer is not None and isinstance(self._schedule, _CallableSchedule):
            self._schedule.forget(optimizer)
        if self._deliberation.trace is not None:
            self._deliberation.trace.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "AdaptiveLR is attached to one optimizer and cannot be copied or pickled; "
            "save state_dict() and load it into a new AdaptiveLR"
        )

    def _consider(self, row: Statistics, optimizer: Optimizer) -> None:
        """Let the laws decide on a row between steps, and do what they cannot do themselves."""
        self._deliberation.consider(row, self._layer.updates)
        model = None if self._model is None else self._model()
        for request in self._deliberation.requests(self._layer.updates):
            if self._layer.shadow:
                continue
            if request == "rewind":
                self._layer.rewind(optimizer, model)
            else:
                self._layer.snapshot = Snapshot(optimizer, model)
        if self._layer.snapshot is not None and not self._deliberation.needs_snapshot:
            self._layer.snapshot = None

    def _start_values(self, optimizer: Optimizer, composition: Composition) -> dict[str, float]:
        """What a law that sweeps must know before the first update."""
        if not composition.holds_lr:
            return {}
        groups = enumerate(optimizer.param_groups)
        index, group = max(groups, key=lambda item: self._layer.reference(*item))
        values = {"reference_lr": self._layer.reference(index, group)}
        usual = optimizers.usual_lr(optimizer, group)
        return values if usual is None else {**values, "usual_lr": usual}

    def _attached(self) -> Optimizer:
        optimizer = self._optimizer()
        if optimizer is None:
            raise RuntimeError("the optimizer under control no longer exists")
        if not self._layer.attached:
            raise RuntimeError("control was detached from this optimizer; attach a new AdaptiveLR")
        return optimizer


class _TorchSchedule:
    """A torch scheduler that owns the base learning rate."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self._scheduler = scheduler

    def step(self, optimizer: Optimizer) -> None:
        del optimizer
        self._scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return dict(self._scheduler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any], optimizer: Optimizer) -> None:
        del optimizer
        self._scheduler.load_state_dict(dict(state))  # a copy: CyclicLR removes a key from what it is given


class _CallableSchedule:
    """A pure step -> factor that owns the base learning rate, and the base momentum where it carries one."""

    def __init__(self, schedule: Callable[[int], float]) -> None:
        self._schedule = schedule
        momentum: Callable[[int], float | None] | None = getattr(schedule, "momentum", None)
        self._momentum = None if momentum is None or momentum(0) is None else momentum
        self._count = 0
        self._added: set[int] = set()  # indices of the groups whose `initial_lr` entry is ours

    def step(self, optimizer: Optimizer) -> None:
        self._count += 1
        self.apply(optimizer)

    def apply(self, optimizer: Optimizer) -> None:
        factor = _number(self._schedule(self._count), "the factor that schedule gives")
        momentum = None if self._momentum is None else self._momentum(self._count)
        for index, group in enumerate(optimizer.param_groups):
            if "initial_lr" not in group:
                lr = group["lr"]
                group["initial_lr"] = lr.detach().clone() if isinstance(lr, torch.Tensor) else lr
                self._added.add(index)
            base = group["initial_lr"] * factor
            if isinstance(group["lr"], torch.Tensor):
                with torch.no_grad():
                    group["lr"].copy_(torch.as_tensor(base))
            else:
                group["lr"] = float(base)
            if momentum is not None and optimizers.momentum_key(group) is not None:
                key, value = optimizers.with_momentum(group, momentum)
                group[key] = value

    def forget(self, optimizer: Optimizer) -> None:
        for index, group in enumerate(optimizer.param_groups):
            if index in self._added:
                group.pop("initial_lr", None)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count}

    def load_state_dict(self, state: Mapping[str, Any], optimizer: Optimizer) -> None:
        self._count = state["count"]
        self.apply(optimizer)


def _unwrapped(optimizer: Any) -> Optimizer:
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, Optimizer) and not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        optimizer = inner
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def _valid_lag(lag: int | None) -> int:
    if lag is None:
        return 0
    if isinstance(lag, bool) or not isinstance(lag, int):
        raise TypeError(f"lag must be a number of updates (int >= 0) or None, got {lag!r}")
    if lag < 0:
        raise ValueError(f"lag must be >= 0 updates, got {lag}")
    return lag


def _check_sweep(composition: Composition, limits: optimizers.Limits, *, lag: int, shadow: bool) -> None:
    names = [name for name, law in zip(composition.names, composition, strict=True) if law.holds_lr]
    if len(names) > 1:
        raise ValueError(f"controllers must hold at most one that sweeps the learning rate, got {names}")
    if shadow:
        raise ValueError(f"shadow must be False with {names[0]}: a sweep cannot be judged without acting")
    if lag:
        raise ValueError(f"lag must be 0 with {names[0]}: a sweep reads each row at the level that made it, got {lag}")
    if not limits.raise_lr:
        raise ValueError(f"controllers must not include {names[0]} for this optimizer: {limits.reason}")


def _base_schedule(schedule: Any, optimizer: Optimizer) -> _TorchSchedule | _CallableSchedule | None:
    if schedule is None:
        return None
    if isinstance(schedule, ReduceLROnPlateau):
        raise ValueError(
            "schedule must not be a ReduceLROnPlateau: it needs a metric at each step. Step it yourself (control is "
            "layered over it all the same), or add controllers.Plateau, which leaves the base alone"
        )
    if isinstance(schedule, LRScheduler):
        if _unwrapped(schedule.optimizer) is not optimizer:
            raise ValueError("schedule must be of the optimizer under control, got a scheduler of another optimizer")
        return _TorchSchedule(schedule)
    if callable(schedule):
        return _CallableSchedule(schedule)
    raise TypeError(
        f"schedule must be None, a torch scheduler, or a callable step -> factor, got {type(schedule).__name__}"
    )


def _metrics(given: Any, argument: str) -> dict[str, float]:
    if not isinstance(given, Mapping):
        return {"loss": _number(given, argument)}
    metrics: dict[str, float] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"names of metrics must be strings, got {name!r}")
        if name in MEASURED_STATISTICS:
            raise ValueError(f"metric {name!r} has the name of a statistic that is measured here; give it another name")
        metrics[name] = _number(value, name)
    return metrics


def _number(value: Any, name: str) -> float:
    if isinstance(value, torch.Tensor):
        if value.numel() != 1 or value.is_complex():
            raise ValueError(f"{name} must be a number or a real tensor of one element, got shape {tuple(value.shape)}")
        return float(value.detach())
    if isinstance(value, Real) or (hasattr(value, "__float__") and not isinstance(value, str)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"{name} must be a number or a tensor of one element, got {value!r}") from error
    raise TypeError(f"{name} must be a number or a tensor of one element, got {type(value).__name__}")


def _header(optimizer: Optimizer, composition: Composition, *, lag: int, shadow: bool) -> Header:
    return Header(
        optimizer=type(optimizer).__name__,
        groups=tuple(str(group.get("name", index)) for index, group in enumerate(optimizer.param_groups)),
        controllers=describe_controllers(composition),
        min_factor=composition.min_factor,
        max_factor=composition.max_factor,
        lag=lag,
        shadow=shadow,
    )
