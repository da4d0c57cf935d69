"""`AdaptiveLR`: attaches control to an optimizer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adaptive_lr import attachment, optimizers
from adaptive_lr.base_schedule import CallableSchedule, base_schedule
from adaptive_lr.controllers import Composition, Controller, compose, guarded
from adaptive_lr.controllers.arguments import check_flag
from adaptive_lr.deferred import DeviceMeter
from adaptive_lr.deliberation import Decisions, Deliberation
from adaptive_lr.lag import read_back
from adaptive_lr.layer import Layer, is_controlled
from adaptive_lr.meter import Meter
from adaptive_lr.metrics import metrics_of
from adaptive_lr.optimizers import as_float
from adaptive_lr.plain import check_keys
from adaptive_lr.ranks import Ranks, Wanted
from adaptive_lr.rows import Rows
from adaptive_lr.snapshot import Snapshot
from adaptive_lr.statistics import RATIO_STATISTICS
from adaptive_lr.trace import Trace, UpdateRatios, open_trace

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.utils.tensorboard import SummaryWriter

STATE_VERSION = 9


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
            step itself, and while a controller sweeps the learning rate nothing is delayed. On a GPU, rows of
            statistics are read that much later, so that the host does not wait for them. None: 2 where the parameters
            are on a GPU, else 0. With more than 3, `Rescue` judges updates after a rewind that still come from the old
            learning rate, and may cut once more than it must.
        shadow: decide and record, change nothing.
        model: whose buffers (running statistics of batch normalisation) a rewind puts back beside the parameters, and
            an update that is left out as they were before its forward pass, for one copy of those that change; and
            whose names parameters have in `update_ratios`.
        process_group: the processes that train one model, and decide as one (DDP, FSDP2, tensor parallelism): all of
            them attach, step and observe together, and each goes on with the statistics of the whole model and the
            mean of each metric. "auto": the default group of torch.distributed, where one of several processes is
            initialised now; None: this process decides alone, on its own gradients, loss and metrics. Ordinary
            tensors are taken to be replicas, the same on every process.
        update_ratios_every: every this many updates the update-to-weight ratio of each tensor is measured, for
            `update_ratios` and the trace: exactly while a law reads the largest of them, else from a sample of 1024
            elements of each (see `adaptive_lr.update_ratio`). No law sees it. None: never. Where several processes ask,
            all take the shortest interval.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the optimizer is under control already or has a learning rate that is not finite (or none above
            0 where a controller sweeps it), `schedule` gives a factor that is not finite or below 0, `lag` is
            negative, `update_ratios_every` is below 1, `trace` is empty or a file, the scheduler belongs to another
            optimizer or needs a metric (`ReduceLROnPlateau`), a controller that sweeps the learning rate is asked to do
            so in shadow, or on an optimizer that remembers its largest learning rate, or a `lag` is asked for on a GPU
            with a controller whose damping and skipping only the host knows (see `Controller.reflex`); or the processes
            differ in what must be alike (controllers, lag, shadow, optimizer, parameters), or parameters are spread
            over processes that are not in `process_group`.
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
        process_group: ProcessGroup | Literal["auto"] | None = "auto",
        update_ratios_every: int | None = None,
    ) -> None:
        optimizer = optimizers.unwrapped(optimizer)
        if is_controlled(optimizer):
            raise ValueError(
                f"optimizer must not be under control already, got a {type(optimizer).__name__} that is; "
                "detach() the other control first"
            )
        composition = guarded() if controllers is None else compose(controllers)
        check_flag("shadow", shadow)
        attachment.check_rates(optimizer, composition)
        reading = read_back(lag, optimizer, composition, shadow=shadow)
        limits = optimizers.limits(optimizer)
        attachment.check_sweep(composition, limits, shadow=shadow)
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module or None, got {type(model).__name__}")
        self._schedule = base_schedule(schedule, optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        ranks = Ranks.of(process_group, parameters)
        recorder = open_trace(trace)
        wanted = Wanted(
            composition.requires | (frozenset() if recorder is None else recorder.requires),
            per_group=recorder is not None or any(controller.per_group for controller in composition),
            ratio=recorder is not None and not recorder.requires.isdisjoint(RATIO_STATISTICS),
            tensors_every=attachment.checked_interval("update_ratios_every", update_ratios_every),
        )
        if reading.acts:
            wanted = wanted._replace(requires=wanted.requires | {"grad_norm", "grad_score"})
        if ranks is not None:
            wanted = ranks.join(
                attachment.terms(optimizer, composition, lag=reading.lag, shadow=shadow), parameters, wanted
            )
        self._deliberation = Deliberation(composition)
        meter = Meter(
            wanted.requires,
            per_group=wanted.per_group,
            process_group=None if ranks is None else ranks.group,
        )
        device = None
        if reading.reflex is not None:
            device = DeviceMeter(meter, reading.reflex, acts=reading.acts, device=parameters[0].device)
        self._rows = Rows(
            self._deliberation, meter, lag=reading.lag, device=device, ranks=ranks, traced=recorder is not None
        )
        self._layer = Layer(
            self._rows,
            limits=limits,
            shadow=shadow,
            traced=recorder is not None,
            model=model,
            buffers=attachment.buffers(model, composition, shadow=shadow),
            always_ratio=wanted.ratio,
            tensors_every=wanted.tensors_every,
        )
        self._optimizer = weakref.ref(optimizer)
        self._layer.attach(optimizer)
        try:
            start = self._rows.start(self._start_values(optimizer, composition))
            self._do_as_asked(optimizer)
            if isinstance(self._schedule, CallableSchedule):
                self._schedule.apply(optimizer)
            if recorder is not None:  # last: what is refused must not hide the run before it in the same directory
                header = attachment.header(optimizer, composition, lag=reading.lag, shadow=shadow)
                self._deliberation.begin_trace(recorder, header, start)
        except BaseException:
            self.detach()
            raise

    # ---------------------------------------------------------------- in the loop

    def step(self, loss: float | torch.Tensor | Mapping[str, float | torch.Tensor] | None = None) -> None:
        """End one training step: laws that judge the whole step decide, and `schedule` is stepped.

        Call it once per update, after `optimizer.step()` (also when GradScaler left the update out).

        Args:
            loss: the training loss of this step as a number or one-element tensor; or metrics by name, where the
                training loss is `loss`; or None. It is taken for what training makes small: give None where it is
                not (policy gradients, two networks that train against each other), or something that is, such as
                the cost.

        Raises:
            TypeError, ValueError: `loss` is something else, or a metric has the name of a measured statistic.
            RuntimeError: the optimizer no longer exists, or control was detached.
        """
        optimizer = self._attached()
        metrics = {} if loss is None else metrics_of(loss, "loss")
        self._layer.settle(optimizer)
        self._rows.report(metrics)
        self._do_as_asked(optimizer)
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
        self._rows.observe({name: float(value) for name, value in metrics_of(metrics, "metrics").items()})
        self._do_as_asked(optimizer)

    # ---------------------------------------------------------------- reading

    @property
    def factor(self) -> float:
        """What multiplies the base learning rate at the next update (in shadow: would multiply).

        While a `RangeTest` holds the learning rate itself, it is what will multiply the base afterwards.
        """
        return self._rows.levels().factor

    @property
    def decisions(self) -> Decisions:
        """The latest decisions, oldest first, each with its reason; `.total` counts all there ever were."""
        return self._deliberation.decisions

    @property
    def stalls(self) -> int:
        """How often the host waited for the GPU, to read a row that had not arrived or was needed at once."""
        return self._rows.stalls

    @property
    def update_ratios(self) -> UpdateRatios | None:
        """The update-to-weight ratio of each tensor, by name, in the latest update of which it was read.

        None before the first one, and without `update_ratios_every`.
        """
        return self._rows.update_ratios

    @property
    def should_stop(self) -> bool:
        """Whether a controller has asked to end training."""
        return self._deliberation.should_stop

    def get_last_lr(self) -> list[float]:
        """The effective learning rate of the last update, per group; before any update, the base.

        After a skipped update it is the learning rate the update would have had; so it is where rows are read with a
        lag and a GradScaler kept the optimizer from the update.
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
        self._rows.settle()
        if self._deliberation.trace is not None:
            self._deliberation.trace.flush()  # a run killed after this checkpoint has no gap before it
        return {
            "version": STATE_VERSION,
            "layer": self._layer.state_dict(),
            "rows": self._rows.state_dict(),
            "meter": self._rows.meter.state_dict(),
            "deliberation": self._deliberation.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`, with the same controllers and schedule attached.

        Raises:
            TypeError: `state` is no mapping.
            ValueError: it is of another version, of other controllers (or one that judged another metric), or not one
                of `AdaptiveLR`; nothing is changed.

        Warns:
            UserWarning: a controller has other settings than the one whose state is loaded.
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
            self._deliberation.trace.resume(self._rows.updates, rows=self._deliberation.rows)

    def _load(self, state: Mapping[str, Any], optimizer: Optimizer) -> None:
        self._deliberation.load_state_dict(state["deliberation"])
        self._layer.load_state_dict(state["layer"])
        saved, groups = len(self._layer.last_lr or ()), len(optimizer.param_groups)
        if saved > groups:
            raise ValueError(
                f"state must fit the optimizer: it has {saved} parameter groups, the optimizer has {groups}"
            )
        self._rows.load_state_dict(state["rows"])
        self._rows.meter.load_state_dict(state["meter"])
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"], optimizer)

    def detach(self) -> None:
        """End control: hooks removed, base values in place, the last rows read, the trace closed.

        Calling it twice does no harm. Without it, a record made with a lag on a GPU lacks the last updates.
        """
        optimizer = self._optimizer()
        self._layer.detach(optimizer)
        try:
            self._rows.settle()
        finally:
            if optimizer is not None and isinstance(self._schedule, CallableSchedule):
                self._schedule.forget(optimizer)
            if self._deliberation.trace is not None:
                self._deliberation.trace.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "AdaptiveLR is attached to one optimizer and cannot be copied or pickled; "
            "save state_dict() and load it into a new AdaptiveLR"
        )

    def _do_as_asked(self, optimizer: Optimizer) -> None:
        """Do what the laws cannot do themselves."""
        model = self._layer.model
        for request in self._deliberation.requests(self._rows.calls):
            if self._layer.shadow:
                continue
            if request == "rewind":
                self._layer.put_back(self._layer.snapshot, optimizer, model)
            elif request == "resume":
                self._layer.put_back(self._layer.aside, optimizer, model)
            elif request == "set aside":
                self._layer.aside = Snapshot(optimizer, model)
            else:
                self._layer.snapshot = Snapshot(optimizer, model)
        if self._layer.snapshot is not None and not self._deliberation.needs_snapshot:
            self._layer.snapshot = None
        if self._layer.aside is not None and not self._deliberation.needs_aside:
            self._layer.aside = None

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
