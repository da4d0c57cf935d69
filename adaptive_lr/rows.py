"""Makes a row of every step and gives it to the laws: at once, or a fixed number of updates later.

What a law decides on the row of update t acts on update t + 1 + lag. So whether the row is read at once or only when
it is due changes nothing in training, and what is read late may be read early wherever the host needs it (an
evaluation, a checkpoint). On a CPU rows are read at once. On a GPU that would make the host wait at every step, so
there rows travel (`adaptive_lr.readback`) while the next updates are under way, and the reflex, which cannot wait, is
judged on the device (`adaptive_lr_kernels.reflex`). The laws see the same rows in the same order, and the reflex that
they decide on is the one that acted.

While a law holds the learning rate itself, and for a step that cannot do without the host (see
`adaptive_lr.actuation`), the row is read at once; a held level is not delayed either.

The lag is counted in calls of `optimizer.step`: whether a fused optimizer under GradScaler made the update is known
only when its row is read.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from adaptive_lr.actuation import can_act
from adaptive_lr.controllers.composition import Outcome
from adaptive_lr.deferred import DeviceMeter
from adaptive_lr.deliberation import Deliberation, Levels
from adaptive_lr.meter import Measured, Meter
from adaptive_lr.optimizers import as_float
from adaptive_lr.pending import Pending
from adaptive_lr.plain import check_keys
from adaptive_lr.ranks import Ranks
from adaptive_lr.readback import Ring
from adaptive_lr.statistics import RATIO_STATISTICS, SKIPPED, Phase, Statistics
from adaptive_lr.steps import Step
from adaptive_lr.trace import Update, UpdateRatios
from adaptive_lr_kernels.reflex import Judgement

UNREPORTED_UPDATES = 20
"""Updates from the start without a `control.step` or `observe` after which a user is told of it."""


class Rows:
    """The rows of one optimizer's steps.

    Args:
        deliberation: the laws.
        meter: measures.
        lag: updates between a row and the first update that decisions on it act on, beyond the next one.
        device: measures and judges where rows are read with the lag; None: all rows are read at once.
        ranks: the processes that decide as one, or None.
        traced: whether there is a trace, or will be.
    """

    def __init__(
        self,
        deliberation: Deliberation,
        meter: Meter,
        *,
        lag: int,
        device: DeviceMeter | None,
        ranks: Ranks | None = None,
        traced: bool = False,
    ) -> None:
        self.meter = meter
        self.lag = lag
        self.updates = 0  # of which the rows were read
        self.calls = 0  # of `optimizer.step`, one that raised not among them
        self.update_ratios: UpdateRatios | None = None  # of the latest update read that had them asked for
        self._deliberation = deliberation
        self._device = device
        self._ranks = ranks
        self._traced = traced
        self._ring = Ring(lag + 2)
        self._read_at_once = 0
        self._told_stalls = 0  # by the trace
        self._ask_at = UNREPORTED_UPDATES  # the call at which something must have been reported; -1: something was
        self._open: Pending | None = None  # the last step on the device; `control.step` may still add to its row
        self._waiting: deque[Pending] = deque()
        self._latest: Measured | None = None  # of the last update read, until an AFTER row takes it

    @property
    def stalls(self) -> int:
        """How often the host waited for the device."""
        return self._ring.waits + self._read_at_once

    # ---------------------------------------------------------------- a step

    def begin(self) -> Levels:
        """A step begins; what is in force in it."""
        if self._open is not None:
            self._close()
        return self.levels()

    def levels(self) -> Levels:
        """What is in force at the next update."""
        if self._waiting:
            self._read_due()
        return self._deliberation.levels(self.calls)

    def defers(self, optimizer: Optimizer, levels: Levels) -> bool:
        """Whether the row of the step that begins is read with the lag."""
        return self._device is not None and levels.level is None and can_act(optimizer)

    def judge(self, optimizer: Optimizer, step: Step) -> Outcome | None:
        """Measure the gradients of a step and read them at once; what the laws ask for."""
        if self._device is not None:
            self._read_at_once += 1
            self.settle()
        values: dict[str, float] = {}
        groups: tuple[dict[str, float], ...] = ()
        if self.meter.measures_gradients or self._deliberation.sees_before:
            scale = getattr(optimizer, "grad_scale", None)
            values, groups = self.meter.gradients(optimizer, 1.0 if scale is None else float(scale))
        step.measured = values, groups
        if not self._deliberation.sees_before:
            return None
        row = Statistics(self.updates, Phase.BEFORE, values, groups)
        return self._deliberation.consider(row, self._first(self.calls + 1, step.levels))

    def judge_on_device(self, optimizer: Optimizer, step: Step) -> Judgement | None:
        """Measure the gradients of a step and leave the row where it is; what the reflex says, on the device."""
        assert self._device is not None
        self._open = Pending(self._first(self.calls + 1, step.levels), step)
        return self._device.measure(optimizer, self._open)

    def complete(self, step: Step) -> None:
        """A step has ended as it should."""
        self.calls += 1
        if self.calls == self._ask_at:
            self._warn_unreported()
        if step.overflow:
            return
        pending = self._open
        known: dict[str, float] = {}
        ratios: tuple[list[float], ...] = ()
        if step.weights is not None:
            ratios = self._compare_weights(step, pending, known)
        if pending is None:
            values, groups = step.measured or ({}, ())
            base_lr = tuple(map(as_float, step.base_lr)) if self._traced or self.meter.base_lr else ()
            lr = tuple(map(as_float, step.lr)) if self._traced else ()
            skipped = step.taken is not None
            self._end(step, {**values, **known}, groups, lr, base_lr, step.damp, ratios, skipped=skipped)
        else:
            pending.complete(known, lr=self._traced, base_lr=self._traced or self.meter.base_lr)

    def _compare_weights(self, step: Step, pending: Pending | None, known: dict[str, float]) -> tuple[list[float], ...]:
        """The update-to-weight ratio of a step: on the host into `known` and as a result, on a device into its row.

        The largest goes into the AFTER row where it is exact: of an estimate the laws know nothing. Nor of a step that
        was several updates or a line search (L-BFGS), whose size says nothing of the learning rate; but a sweep needs
        it.
        """
        assert step.weights is not None
        exact = step.weights.places is None and (step.evaluations <= 1 or step.levels.level is not None)
        ratios, step.weights = self.meter.update_ratio.ratios(step.weights), None  # nor keep a copy of the weights
        if ratios is None:
            if exact:
                known.update(dict.fromkeys(RATIO_STATISTICS, 0.0))
            return ()
        if pending is None:
            if exact:
                known.update(zip(RATIO_STATISTICS, ratios.summary.tolist(), strict=True))
            return tuple(numbers.tolist() for numbers in ratios if numbers is not None) if step.names else ()
        if exact:
            pending.row.add("ratio", "", ratios.summary)
        if step.names:
            pending.take_ratios(ratios)
        return ()

    def report(self, metrics: Mapping[str, float | Tensor]) -> None:
        """`control.step` was called: the row of the last update is whole."""
        self._ask_at = -1
        if self._device is None:
            self._consider_after({name: float(value) for name, value in metrics.items()}, self._first(self.calls))
            return
        self._read_due()
        if self._open is None or not self._open.completed:
            self._close()
            self._open = Pending(self._first(self.calls))
        if self._ranks is not None:
            metrics = self._agreed(metrics, self._open)
        if self.meter.scores_loss and "loss" in metrics:
            self._device.score_loss(metrics["loss"], self._open)  # first: it says which device the row is on
        self._open.report(metrics, self._first(self.calls))
        self._close()
        self._read_due()

    def start(self, values: dict[str, float]) -> Statistics:
        """The row before the first update, for which there is nothing to wait."""
        row = Statistics(0, Phase.START, values)
        self._deliberation.consider(row, 0)
        return row

    def observe(self, metrics: dict[str, float]) -> None:
        """An evaluation: the laws see it at once, after all rows before it."""
        self._ask_at = -1
        self.read_all()
        row = Statistics(self.updates, Phase.OBSERVATION, metrics)
        if self._ranks is not None:
            row = self._ranks.agree(row)
        self._deliberation.consider(row, self._first(self.calls))

    def _warn_unreported(self) -> None:
        laws = self._deliberation.composition
        idle = [name for name, law in zip(laws.names, laws, strict=True) if law.phase is Phase.AFTER]
        if idle:
            warnings.warn(
                f"control.step(loss) was not called in {UNREPORTED_UPDATES} updates, and without it {', '.join(idle)} "
                "cannot act: call it once per update, after optimizer.step()",
                UserWarning,
                stacklevel=2,
            )

    # ---------------------------------------------------------------- reading back

    def read_all(self) -> None:
        """Give the laws all rows there are, due or not."""
        self._close()
        while self._waiting:
            self._read(self._waiting.popleft())

    def settle(self) -> None:
        """Leave nothing on the device: rows and past norms are on the host."""
        self.read_all()
        if self._device is not None:
            self._device.give_past()

    def _first(self, following: int, levels: Levels | None = None) -> int:
        """The first update that a decision acts on, where `following` is the next one: a held level never waits."""
        if not self.lag:
            return following
        levels = self._deliberation.levels(following) if levels is None else levels
        return following if levels.level is not None else following + self.lag

    def _read_due(self) -> None:
        # A held level is due at once, behind rows that are not: whatever came before it is read with it.
        while self._waiting and min([pending.due for pending in self._waiting]) <= self.calls:
            self._read(self._waiting.popleft())

    def _close(self) -> None:
        """Nothing more is added to the last step's row: send it."""
        pending, self._open = self._open, None
        if pending is None:
            return
        while len(self._waiting) >= self.lag + 2:
            self._read(self._waiting.popleft())
        pending.row.send(self._ring)
        self._waiting.append(pending)

    def _read(self, pending: Pending) -> None:
        """Give the laws what they would have seen by now without a lag."""
        assert self._device is not None
        reading = self._device.read(pending)
        step = pending.step
        if step is not None and not reading.overflow:
            if self._deliberation.sees_before:
                row = Statistics(self.updates, Phase.BEFORE, reading.values, reading.groups)
                outcome = self._deliberation.consider(row, pending.first)
                if not self._deliberation.holds:  # the others rest from when a law takes hold, the reflex a lag later
                    self._device.check(outcome, reading)
            if pending.completed:
                values = {**reading.values, **reading.afterwards}
                lr, base_lr, skipped = reading.lr, reading.base_lr, reading.skipped
                self._end(step, values, reading.groups, lr, base_lr, reading.damp, reading.ratios, skipped=skipped)
        if reading.metrics is not None:
            self._consider_after(reading.metrics, pending.after, reading.scored_loss)

    def _end(
        self,
        step: Step,
        values: dict[str, float],
        groups: tuple[dict[str, float], ...],
        lr: tuple[float, ...],
        base_lr: tuple[float, ...],
        damp: float,
        ratios: tuple[list[float], ...],
        *,
        skipped: bool,
    ) -> None:
        """An update is read to its end."""
        if self.meter.base_lr:
            values["base_lr"] = max(base_lr)
        if self.meter.lr_factor and step.levels.level is None:
            values["lr_factor"] = step.levels.factor
        if skipped:
            values[SKIPPED] = 1.0
        self._latest = values, groups
        if ratios and not skipped:
            self.update_ratios = UpdateRatios(self.updates, *(dict(zip(step.names, f, strict=True)) for f in ratios))
        if self._traced:
            stalls, self._told_stalls = self.stalls - self._told_stalls, self.stalls
            self._deliberation.record_update(
                Update(
                    step=self.updates,
                    lr=lr,
                    base_lr=base_lr,
                    momentum=step.momentum,
                    base_momentum=step.base_momentum,
                    factor=step.levels.factor,
                    factors=step.levels.factors,
                    damp=damp,
                    skipped=skipped,
                    stalls=None if self._device is None else stalls,
                ),
                self.update_ratios if ratios and not skipped else None,
            )
        self.updates += 1

    def _agreed(self, metrics: Mapping[str, float | Tensor], pending: Pending) -> dict[str, float | Tensor]:
        """The means of metrics over the processes, on the device; whether all took part is read with the row.

        What is known after an update is not sent: the ratio of replicas is alike on all of them and that of DTensors is
        measured over the group; the base learning rate is to be scheduled alike.
        """
        assert self._ranks is not None
        named = {name: metrics[name] for name in sorted(metrics)}
        found = self._ranks.exchange((self.calls, "report"), named, {})
        pending.row.add("alike", "", found.alike)
        return dict(zip(named, found.means.unbind(), strict=True))

    def _consider_after(
        self, metrics: dict[str, float], first: int, scored_loss: Mapping[str, float] | None = None
    ) -> None:
        """The AFTER row of the last update; what was measured of it is given out once.

        Args:
            metrics: what `control.step` was given.
            first: the first update that decisions on the row act on.
            scored_loss: the score of the loss where a device has it; None: it is scored here, where it is asked for.
        """
        latest, self._latest = self._latest, None
        if latest is None:
            values = dict(metrics)
            row = Statistics(self.updates, Phase.AFTER, values, updated=False)
        else:
            values = {**latest[0], **metrics}
            row = Statistics(self.updates - 1, Phase.AFTER, values, latest[1])
        if self._ranks is not None and self._device is None:  # on a device metrics were agreed on before they were sent
            values = dict(self._ranks.agree(row).values)
            row = replace(row, values=values)
        if scored_loss is None and self.meter.scores_loss:
            scored_loss = self.meter.loss(values)
        if scored_loss:
            values.update(scored_loss)  # the row's own, which nobody has seen yet
        self._deliberation.consider(row, first)

    # ---------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Counters, and what is under way between `optimizer.step` and `control.step`, as plain values."""
        self.settle()
        latest = self._latest
        return {
            "updates": self.updates,
            "calls": self.calls,
            "latest": None if latest is None else [dict(latest[0]), [dict(group) for group in latest[1]]],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; whatever was under way is forgotten."""
        check_keys("rows", state, self.state_dict())
        self.updates = state["updates"]
        self.calls = state["calls"]
        if self._ask_at >= 0:
            self._ask_at = self.calls + UNREPORTED_UPDATES
        latest = state["latest"]
        self._latest = None if latest is None else (dict(latest[0]), tuple(dict(group) for group in latest[1]))
