"""Measures steps on their device, judges their gradients there, and reads what it measured later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from adaptive_lr.controllers.composition import Outcome
from adaptive_lr.meter import Meter
from adaptive_lr.optimizers import Rate, as_float
from adaptive_lr.pending import RATIOS, Key, Pending, Reading
from adaptive_lr.ranks import UNLIKE
from adaptive_lr.scores import LOSS_SPREAD_FLOOR, LOSS_WINDOW, NORM_WARMUP, LossPast, NormPast
from adaptive_lr.statistics import LOSS_STATISTICS, RATIO_STATISTICS, SCORE_STATISTICS
from adaptive_lr_kernels import upload
from adaptive_lr_kernels.reflex import Judgement, Past, ReflexSettings, Window, judge, score_value

Held = TypeVar("Held", Past, Window)


class _Kept(Generic[Held]):
    """What others are scored against: on a device while steps are under way there, else with the meter.

    Args:
        empty: makes the memory for it on a device.
    """

    def __init__(self, empty: Callable[[torch.device], Held]) -> None:
        self._empty: Callable[[torch.device], Held] = empty
        self._held: Held | None = None
        self._here = False  # whether it is on the device, not with the meter

    def on(self, device: torch.device, values: Sequence[float]) -> Held:
        """It on a device; `values` are those that the meter has, if it is the one that has them."""
        if self._held is None or self._held.values.device != device:
            taken = self.taken()
            values = values if taken is None else taken
            self._held = self._empty(device)
        if not self._here:
            self._held.fill(values)
            self._here = True
        return self._held

    def taken(self) -> tuple[float, ...] | None:
        """Its values, which are the meter's from now on, or None where they are already; waits for the device."""
        if not self._here or self._held is None:
            return None
        self._here = False
        return tuple(self._held.read())


class DeviceMeter:
    """Measures steps on their device, judges their gradients there, and reads what it measured later.

    Args:
        meter: what is measured; keeps the past norms and losses while no step is under way.
        reflex: the law by which norms are scored and judged.
        acts: whether the judgement acts on the step.
        device: where the parameters are.
    """

    def __init__(self, meter: Meter, reflex: ReflexSettings, *, acts: bool, device: torch.device) -> None:
        self.acts = acts
        self._meter = meter
        self._reflex = reflex
        self._device = device
        self._norms: _Kept[Past] = _Kept(Past.empty)
        self._losses: _Kept[Window] = _Kept(partial(Window.empty, LOSS_WINDOW))

    def measure(self, optimizer: Optimizer, pending: Pending) -> Judgement | None:
        """Measure the gradients of the step to come into the row of `pending`; what is to be done with them."""
        pending.num_groups = len(optimizer.param_groups)
        row, names = pending.row, self._meter.statistics
        overflow, scale = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
        if not self._meter.measures_gradients:
            if overflow is not None:
                row.add("overflow", "", overflow)
            return None
        measurement = self._meter.measurement(optimizer)
        for name in names:
            row.add("value", name, measurement.overall[name])
        if self._meter.measures_groups(pending.num_groups):
            for name in names:
                row.add("group", name, measurement.per_group[name])
        device = measurement.overall[names[0]].device  # a GradScaler's tensors may be on another GPU
        if overflow is not None:
            overflow = overflow.reshape(()).to(device, non_blocking=True)
            row.add("overflow", "", overflow)
        if scale is not None:
            scale = scale.reshape(()).to(device, non_blocking=True)
            row.add("scale", "", scale)
        if not self._meter.scores:
            return None
        norm = measurement.overall["grad_norm"]
        if overflow is not None:  # no update, so no norm to judge others by
            norm = norm.masked_fill(overflow != 0, math.inf)
        judgement = judge(self._norms.on(device, self._meter.norms), norm, self._reflex, grad_scale=scale)
        row.add("reflex", "", judgement.row)
        return judgement if self.acts else None

    def score_loss(self, loss: float | Tensor, pending: Pending) -> None:
        """Score the training loss against the ones before it, into the row of `pending`."""
        if isinstance(loss, Tensor):
            loss = loss.detach().reshape(1).to(self._device, torch.float64, non_blocking=True)
        else:
            loss = upload.vector([loss], self._device)
        past = self._losses.on(self._device, self._meter.losses.window)
        scored = score_value(past, loss[0], warmup=NORM_WARMUP, relative_floor=LOSS_SPREAD_FLOOR)
        pending.row.add("loss score", "", scored)

    def read(self, pending: Pending) -> Reading:
        """What was measured; waits where it has not arrived.

        Raises:
            ValueError: the processes that decide as one reported different steps or metrics.
        """
        found = pending.row.read()
        if found.get(("alike", ""), [1.0])[0] == 0.0:
            raise ValueError(UNLIKE)
        overflow = found.get(("overflow", ""), [0.0])[0] != 0.0
        reading = Reading({}, (), pending.known, overflow, 1.0, False, (), (), None)
        if pending.metrics is not None:
            metrics = pending.metrics.items()
            reading.metrics = {name: found["metric", name][0] if v is None else v for name, v in metrics}
            reading.scored_loss = dict(zip(LOSS_STATISTICS, found.get(("loss score", ""), []), strict=False))
        if pending.step is None or overflow:
            return reading
        judged = found.get(("reflex", ""), [])
        if self._meter.measures_gradients:
            values = {name: column[0] for (section, name), column in found.items() if section == "value"}
            columns = {name: column for (section, name), column in found.items() if section == "group"}
            scored = dict(zip(SCORE_STATISTICS, judged, strict=False)) if judged else None
            scale = found.get(("scale", ""), [1.0])[0]
            reading.values, reading.groups = self._meter.row(values, columns, pending.num_groups, scale, scored)
        if ("ratio", "") in found:
            reading.afterwards = {**pending.known, **dict(zip(RATIO_STATISTICS, found["ratio", ""], strict=True))}
        reading.ratios = tuple(found[section, ""] for section in RATIOS if (section, "") in found)
        if judged and self.acts:
            reading.damp, reading.skipped = judged[3], bool(judged[4])
        reading.lr = _rates(found, "lr", pending.lr)
        reading.base_lr = _rates(found, "base_lr", pending.base_lr)
        return reading

    def check(self, outcome: Outcome, reading: Reading) -> None:
        """The laws must ask for what was done.

        Raises:
            RuntimeError: they ask for something else: a controller's `reflex` is not the law of its `update`.
        """
        if not self.acts:
            return
        same = outcome.skip or math.isclose(outcome.damp, reading.damp, rel_tol=1e-6)
        if outcome.skip != reading.skipped or not same:
            done = f"damp={reading.damp:.6g}, skip={reading.skipped}"
            asked = f"damp={outcome.damp:.6g}, skip={outcome.skip}"
            raise RuntimeError(
                f"a controller's reflex must be the law of its update: on the device it did {done}, "
                f"and the controllers ask for {asked}"
            )

    def give_past(self) -> None:
        """Hand past norms and losses to the meter; waits for the device."""
        norms, losses = self._norms.taken(), self._losses.taken()
        if norms is not None:
            self._meter.norms = NormPast.of(norms)
        if losses is not None:
            self._meter.losses = LossPast(losses)


def _rates(found: Mapping[Key, list[float]], section: str, rates: tuple[Rate, ...]) -> tuple[float, ...]:
    """Learning rates as numbers."""
    return tuple(
        found[section, str(index)][0] if (section, str(index)) in found else as_float(rate)
        for index, rate in enumerate(rates)
    )
