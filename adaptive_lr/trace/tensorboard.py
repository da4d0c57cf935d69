"""The view of a trace in TensorBoard: scalars, a layout of charts, and decisions as text.

Event files hold float32, and a reader stops in silence at the first flipped byte, so they are never the record
itself (that is ``trace.jsonl``). All scalars of a step share one event. Tags::

    lr/<group>  lr_base/<group>             learning rate as used, and the base schedule's
    lr_factor/<controller>  lr_factor/total
    momentum/<group>  momentum_base/<group>
    loss/train  loss/<metric>  metric/<metric>     the training loss; metrics with "loss" in their name; the others
    update/<statistic>                      update_ratio, compound_ratio, base_lr, lr_factor: what is known after it
    update_ratio/<parameter>                of each tensor, where it was asked for, exact or estimated
    host/stalls                             waits for the device since the point before, where rows are read late
    gradient/<statistic>                    and gradient_group/<group>/<statistic> if there are several groups
    reflex/damp  reflex/skipped
    decisions/<controller>                  as text
    setup                                   as text: optimizer, controllers and their configurations

TensorBoard itself shows a sample: ten texts and a thousand points a tag. To see all:
``tensorboard --logdir runs --samples_per_plugin text=10000,scalars=1000000`` (with 0, which is to mean all, TensorBoard
2.21 shows nothing).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

from adaptive_lr.controllers.composition import Decision
from adaptive_lr.statistics import MEASURED_STATISTICS, UPDATE_STATISTICS, Phase, Statistics
from adaptive_lr.trace.event_file import Sink
from adaptive_lr.trace.records import Header, Update, UpdateRatios

_CHARTED_GROUPS = 4  # parameter groups that get a chart each; more share one

_TEMPLATES = 64  # sets of tags whose event is kept for the next step; metrics come and go, so not without end


class View:
    """Turns rows, updates and decisions into events.

    Args:
        sink: where they go.
        every: rows and updates of every n-th step only. Evaluations and decisions are never left out.
        owned: the event file holds nothing but this trace, so a resumed run may hide what it overwrites.
    """

    def __init__(self, sink: Sink, *, every: int, owned: bool) -> None:
        from tensorboard.compat.proto import event_pb2

        self._events = event_pb2
        self._sink = sink
        self._every = every
        self._owned = owned
        self._groups: tuple[str, ...] = ()
        self._update_tags: tuple[str, ...] = ()
        self._header: Header | None = None
        self._start: int | None = None  # the step from which the session about to begin replaces what was sent
        self._step = 0
        self._scalars: dict[str, float] = {}  # of `_step`, not yet sent
        self._stalls = 0  # since the last update that was sent
        self._templates: dict[tuple[str, ...], tuple[Any, list[Any]]] = {}

    def begin(self, header: Header) -> None:
        """Name the groups and controllers of what follows."""
        self._header = header
        self._update_tags = self._tags(len(header.groups), len(header.controllers))
        self._start = 0

    def resume(self, step: int) -> None:
        """What was sent for this step and later ones is replaced by what follows."""
        self._emit()
        self._start = step

    def row(self, row: Statistics) -> None:
        """Take the scalars of a row; the last row of a step sends them."""
        if row.phase is Phase.START:
            return
        observation = row.phase is Phase.OBSERVATION
        if not observation and row.step % self._every:
            return
        self._at(row.step)
        for name, value in row.values.items():
            self._scalars[_tag(name)] = value
        if len(row.groups) > 1:
            for group, values in zip(_names(self._groups, len(row.groups)), row.groups, strict=True):
                for name, value in values.items():
                    self._scalars[f"gradient_group/{group}/{name}"] = value
        if row.phase is not Phase.BEFORE:
            self._emit()

    def update(self, update: Update) -> None:
        """Take the learning rates, momenta and factors of an update."""
        if update.stalls is not None:
            self._stalls += update.stalls
        if update.step % self._every:
            return
        self._at(update.step)
        values = (*update.lr, *update.base_lr, update.factor, *update.factors, update.damp, float(update.skipped))
        if len(values) != len(self._update_tags):
            self._update_tags = self._tags(len(update.lr), len(update.factors))
        self._scalars.update(zip(self._update_tags, values, strict=True))
        for index, momentum in enumerate(update.momentum):
            base = update.base_momentum[index]
            if momentum is not None and base is not None:
                self._scalars[f"momentum/{self._groups[index]}"] = momentum
                self._scalars[f"momentum_base/{self._groups[index]}"] = base
        if update.stalls is not None:
            self._scalars["host/stalls"], self._stalls = self._stalls, 0

    def update_ratios(self, ratios: UpdateRatios) -> None:
        """Take the update-to-weight ratios of the tensors in an update, whatever `every` is."""
        self._at(ratios.step)
        self._scalars.update({f"update_ratio/{name}": value for name, value in ratios.values.items()})

    def decisions(self, decisions: Iterable[Decision]) -> None:
        """Send decisions as text, those of one controller together."""
        texts: dict[str, list[str]] = {}
        step = 0
        for decision in decisions:
            step = decision.step
            texts.setdefault(decision.controller, []).append(_markdown(decision))
        for controller, paragraphs in texts.items():
            self._send(_text(f"decisions/{controller}", "\n\n".join(paragraphs)), step)

    def flush(self, *, wait: bool = True) -> None:
        """Bring everything to the disk; without `wait`, what is at hand and only if that cannot hold up training."""
        if wait:
            self._emit()
        self._sink.flush(wait=wait)

    def close(self) -> None:
        """Bring everything to the disk and let the sink go; nothing is sent to a `SummaryWriter` any more."""
        try:
            if self._owned:
                self._emit()
        finally:
            self._sink.close()

    def abandon(self) -> None:
        """Let the sink go without writing."""
        self._scalars = {}
        self._sink.abandon()

    def _at(self, step: int) -> None:
        if step != self._step:
            self._emit()
            self._step = step

    def _emit(self) -> None:
        """Send the scalars of the step as one event: a kept one, of which only the numbers change."""
        if not self._scalars:
            return
        scalars, self._scalars = self._scalars, {}
        tags = tuple(scalars)
        template = self._templates.get(tags)
        if template is None:
            if len(self._templates) >= _TEMPLATES:
                self._templates.clear()
            event = self._events.Event()
            template = event, [event.summary.value.add(tag=tag, simple_value=0.0) for tag in tags]
            self._templates[tags] = template
        event, values = template
        for value, number in zip(values, scalars.values(), strict=True):
            value.simple_value = float(number)
        self._begin_session()
        event.step, event.wall_time = self._step, time.time()
        self._sink.add(event)

    def _send(self, summary: Any, step: int) -> None:
        self._begin_session()
        self._sink.add(self._events.Event(step=step, wall_time=time.time(), summary=summary))

    def _begin_session(self) -> None:
        """Before the first event of a session: hide what it replaces, then say what is shown."""
        if self._start is None:
            return
        start, self._start = self._start, None
        if self._owned:
            # The first START in a directory is a beginning; each later one hides the events from its step on.
            log = self._events.SessionLog(status=self._events.SessionLog.START)
            self._sink.add(self._events.Event(step=start, wall_time=time.time(), session_log=log))
        if self._header is not None:
            self._send(_layout(self._header), 0)
            self._send(_text("setup", _setup(self._header)), 0)

    def _tags(self, num_groups: int, num_controllers: int) -> tuple[str, ...]:
        """The tags of an update's numbers. A group that was added later is named by its index."""
        header = self._header or Header("", ())
        self._groups = _names(header.groups, num_groups)
        return (
            *(f"lr/{group}" for group in self._groups),
            *(f"lr_base/{group}" for group in self._groups),
            "lr_factor/total",
            *(f"lr_factor/{name}" for name in _names(header.controller_names, num_controllers)),
            "reflex/damp",
            "reflex/skipped",
        )


def _names(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    return (*names[:count], *(str(index) for index in range(len(names), count)))


def _tag(name: str) -> str:
    if name == "loss":
        return "loss/train"
    if name in UPDATE_STATISTICS:
        return f"update/{name}"
    if name in MEASURED_STATISTICS:
        return f"gradient/{name}"
    return f"loss/{name}" if "loss" in name.lower() else f"metric/{name}"


def _number(value: float) -> str:
    return f"{value:.6g}"


def _markdown(decision: Decision) -> str:
    lines = [f"**step {decision.step}, {decision.controller}: {decision.action}**"]
    if decision.text:
        lines.append(f"> {decision.text}")
    changes = []
    if decision.statistic:
        changes.append(f"`{decision.statistic}` = {_number(decision.value)}, threshold {_number(decision.threshold)}")
    if decision.factor_after != decision.factor_before:
        changes.append(f"factor {_number(decision.factor_before)} → {_number(decision.factor_after)}")
    if decision.momentum_after != decision.momentum_before:
        changes.append(f"momentum x {_number(decision.momentum_before)} → {_number(decision.momentum_after)}")
    if changes:
        lines.append("; ".join(changes))
    return "\n\n".join(lines)


def _setup(header: Header) -> str:
    lines = [
        f"**{header.optimizer}**, parameter groups: {', '.join(f'`{group}`' for group in header.groups)}"
        + (" — **shadow: decisions are recorded, nothing is changed**" if header.shadow else ""),
        f"factor within [{_number(header.min_factor)}, {_number(header.max_factor)}], lag {header.lag}",
    ]
    for controller in header.controllers:
        settings = controller["configuration"]
        table = "\n".join(f"| {name} | `{value}` |" for name, value in settings.items())
        lines.append(f"**{controller['name']}** (`{controller['class']}`)")
        if table:
            lines.append(f"| setting | value |\n|---|---|\n{table}")
    return "\n\n".join(lines)


def _summary(tag: str, plugin: str, content: bytes, data: bytes, *, shape: tuple[int, ...]) -> Any:
    """A string for one of TensorBoard's plugins."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary()
    value = summary.value.add(tag=tag)
    value.metadata.plugin_data.plugin_name = plugin
    value.metadata.plugin_data.content = content
    value.tensor.dtype = 7  # DT_STRING
    for size in shape:
        value.tensor.tensor_shape.dim.add(size=size)
    value.tensor.string_val.append(data)
    return summary


def _text(tag: str, markdown: str) -> Any:
    return _summary(f"{tag}/text_summary", "text", b"", markdown.encode("utf-8", "replace"), shape=(1,))


def _layout(header: Header) -> Any:
    """Charts for the custom-scalars tab; TensorBoard matches each expression at the beginning of a tag."""
    from tensorboard.plugins.custom_scalar import layout_pb2

    charts = {}
    if 1 < len(header.groups) <= _CHARTED_GROUPS:
        for group in header.groups:
            charts[f"learning rate of group {group}: base and effective"] = [rf"lr(_base)?/{re.escape(group)}$"]
    else:
        charts["learning rate: base and effective"] = [r"lr(_base)?/"]
    charts["factor: of each controller, and in total"] = [r"lr_factor/"]
    charts["base, factors and effective learning rate (middle button: logarithmic)"] = [r"lr(_base|_factor)?/"]
    charts["loss"] = [r"loss/"]
    charts["gradient norm: measured and typical"] = [r"gradient/grad_(norm|typical)$"]
    charts["gradient score"] = [r"gradient/grad_score$"]
    charts["reflex: damping and skipped updates"] = [r"reflex/"]
    charts["momentum: base and effective"] = [r"momentum(_base)?/"]
    category = layout_pb2.Category(
        title="adaptive learning rate",
        chart=[
            layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))
            for title, tags in charts.items()
        ],
    )
    layout = layout_pb2.Layout(category=[category]).SerializeToString()
    return _summary("custom_scalars__config__", "custom_scalars", b"", layout, shape=())
