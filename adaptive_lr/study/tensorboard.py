"""TensorBoard as a view of the results: single runs, and all seeds of a setting as one curve with a band."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adaptive_lr.study.curves import Band, learning_rate, training_loss, validation_accuracy, validation_loss
from adaptive_lr.study.reports.names import Names
from adaptive_lr.study.reports.tasks import Task, collect_tasks
from adaptive_lr.study.run import RunResult
from adaptive_lr.study.summary import Cell

TUNED = "tuned"
"""Folder of the aggregated runs at the learning rates chosen."""

EVERY_LR = "every-lr"
"""Folder of those at all learning rates."""

MOST_SELECTED = 40
"""TensorBoard opens a folder of more runs than this with none selected."""

_EVENTS = "events.out.tfevents.0000000000.aggregated"

_TITLES = {
    "loss/val_loss": "validation loss",
    "loss/train": "training loss",
    "metric/val_accuracy": "validation accuracy",
    "lr/0": "learning rate used",
}


def export(result: RunResult, directory: Path) -> None:
    """Write the curves of a run as TensorBoard scalars, under the tags that traces use.

    A folder that has events already (the trace that an adaptive run wrote while it ran, or an earlier export) is left
    as it is.

    Raises:
        OSError: the folder cannot be written to.
    """
    from torch.utils.tensorboard import SummaryWriter

    if directory.is_dir() and any(directory.glob("events.out.tfevents.*")):
        return
    with SummaryWriter(str(directory)) as writer:
        for step, (loss, rate) in enumerate(zip(result.train_losses, result.learning_rates, strict=True)):
            writer.add_scalar("loss/train", loss, step)
            writer.add_scalar("lr/0", rate, step)
        for step, loss, accuracy in result.evaluations:
            writer.add_scalar("loss/val_loss", loss, step)
            if accuracy is not None:
                writer.add_scalar("metric/val_accuracy", accuracy, step)
        configuration = json.dumps({**vars(result.run), "status": result.status, "key": result.key}, indent=2)
        writer.add_text("run", f"```json\n{configuration}\n```")


def aggregate(
    results: Iterable[RunResult],
    directory: Path,
    reported: Iterable[RunResult] | None = None,
    *,
    titles: Mapping[str, str] | None = None,
) -> dict[str, list[Path]]:
    """Write all seeds of each setting as one TensorBoard run: the interquartile mean, and the band of seeds.

    ``tuned/`` holds one run for each recipe, optimizer (and workload, where there are several), at the learning rate
    of least mean validation loss: few enough, as a rule, that TensorBoard opens with all of them selected.
    ``every-lr/<optimizer>/<recipe>/`` holds one for each learning rate. The middles have the tags that traces use, and
    the bounds of the bands are under ``band/``; in the custom-scalars tab both are one chart with a shaded margin.
    The files are a pure function of the results, and have no date in them.

    Args:
        results: of any workloads, recipes, learning rates and seeds; failed runs are left out.
        directory: where to.
        reported: runs at the settings that were chosen, of fresh seeds, which are then those of ``tuned/``; None: those
            of `results`.
        titles: workload reference -> how it is called.

    Returns:
        "tuned" and "every-lr" -> the folders of the runs.

    Raises:
        OSError: a folder cannot be written to.
    """
    tasks = collect_tasks(results, reported)
    names = Names(tasks, titles or {})
    several = len({names.task(task) for task in tasks}) > 1
    written: dict[str, list[Path]] = {TUNED: [], EVERY_LR: []}
    for task in tasks:
        place = Path(*([_folder(names.task(task))] if several else []), _folder(task.optimizer.rpartition(":")[2]))
        for recipe, chosen in task.reported.items():
            own = place / _folder(names.recipe(recipe))
            _write(chosen, directory / TUNED / own, task)
            written[TUNED].append(directory / TUNED / own)
            for cell in task.searched.get(recipe, ()):
                path = directory / EVERY_LR / own / _setting(cell)
                _write(cell, path, task)
                written[EVERY_LR].append(path)
    return written


def _setting(cell: Cell) -> str:
    settings = "".join(f",{name}={value:g}" for name, value in getattr(cell.results[0].run, "settings", ()))
    return _folder(f"lr={cell.peak_lr:g}{settings}")


def _folder(name: str) -> str:
    return name.replace("/", "-").replace(", ", "-").replace(" ", "-")


def _write(cell: Cell, directory: Path, task: Task) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    bands: dict[str, Band] = {
        "loss/train": training_loss(cell.results),
        "loss/val_loss": validation_loss(cell.results),
        "lr/0": learning_rate(cell.results),
    }
    accuracy = validation_accuracy(cell.results)
    if accuracy is not None:
        bands["metric/val_accuracy"] = accuracy
    by_step: dict[int, Any] = {}
    for tag, band in bands.items():
        for step, middle, low, high in zip(*band, strict=True):
            # Seconds since 1970 are steps: the relative axis then shows steps, and no date makes the bytes differ.
            event = by_step.setdefault(int(step), Event(step=int(step), wall_time=float(step)))
            for name, value in ((tag, middle), (_low(tag), low), (_high(tag), high)):
                event.summary.value.add(tag=name, simple_value=value)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _EVENTS).open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
        for summary in (_layout(bands), _about(cell, task)):
            writer.write(Event(wall_time=0.0, summary=summary).SerializeToString())
        for step in sorted(by_step):
            writer.write(by_step[step].SerializeToString())
        writer.flush()


def _low(tag: str) -> str:
    return f"band/{tag.replace('/', '_')}_low"


def _high(tag: str) -> str:
    return f"band/{tag.replace('/', '_')}_high"


def _layout(bands: Iterable[str]) -> Any:
    """Charts for the custom-scalars tab: a margin chart takes exact tags, a multiline chart expressions."""
    from torch.utils.tensorboard.summary import custom_scalars

    tags = [tag for tag in _TITLES if tag in set(bands)]
    layout = {
        "all seeds: interquartile mean, least and greatest": {
            _TITLES[tag]: ["Margin", [tag, _low(tag), _high(tag)]] for tag in tags
        },
        "side by side": {
            "training and validation loss": ["Multiline", [r"loss/train$", r"loss/val_loss$"]],
            "learning rate used (middle button: logarithmic)": ["Multiline", [r"lr/0$"]],
        },
    }
    return custom_scalars(layout)  # type: ignore[no-untyped-call]


def _about(cell: Cell, task: Task) -> Any:
    from torch.utils.tensorboard.summary import text

    seeds = ", ".join(str(result.run.seed) for result in cell.results)
    lines = [
        f"{cell.recipe} with {cell.optimizer}, learning rate given {cell.peak_lr:g}, {task.steps} steps",
        f"seeds {seeds}; {cell.diverged} diverged, which count as the loss at initialisation",
    ]
    return text("run", "\n\n".join(lines))  # type: ignore[no-untyped-call]
