"""TensorBoard as a view of the results: what a run without a trace of its own shows there."""

from __future__ import annotations

import json
from pathlib import Path

from adaptive_lr.study.run import RunResult


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
