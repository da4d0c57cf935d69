"""What is trained: the protocol that a model and its data follow to be compared, and how one is found by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol, cast, runtime_checkable

from torch import Tensor, nn

from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.references import describe, is_reference, load, own_file
from adaptive_lr.study.sources import code, digest, own_files

Split = Literal["validation", "test"]

BUILT_IN = {"digits": "adaptive_lr.study.digits:Digits"}
"""Workloads that have a name of their own."""


class Evaluation(NamedTuple):
    """A model judged on one split.

    Attributes:
        loss: mean loss over the split.
        accuracy: share of right answers in [0, 1], or None where the task has no such thing.
    """

    loss: float
    accuracy: float | None = None


@runtime_checkable
class Workload(Protocol):
    """A model, its data and its horizon.

    A run builds the model, takes `total_steps` batches, evaluates on the validation split every
    `evaluation_interval` steps and at the end, and on the test split once, at the end. Everything must follow from the
    seed alone: the same seed gives the same initial weights and the same batches to every recipe.

    A workload may have more, where it needs it:

    - ``parameter_groups(model, lr) -> list[dict]``: the optimizer's parameter groups, each with an `lr` of its own
      where it differs; `lr` is what the recipe gives. Without it, all parameters form one group.
    - ``title``: a string that tables and figures show instead of the name, for workloads that share a name on purpose
      (a disturbed one and the clean one, so that they share seeds).
    - ``identity``: a string that stands for what the source does not say, such as the hash of a file of data; when it
      changes, runs are done again.
    - ``workload`` or ``inner``: the workload that this one wraps. Its source and identity count as well.

    Attributes:
        name: what the workload is called; part of the seed of every run.
        total_steps: optimizer updates of one run, unless the study says otherwise; >= 1.
        evaluation_interval: updates between two evaluations, usually one epoch; >= 1.
    """

    name: str
    total_steps: int
    evaluation_interval: int

    def build_model(self, seed: int) -> nn.Module:
        """A new model. torch's global generator is already seeded with `seed` when this is called."""
        ...

    def batches(self, seed: int) -> Iterator[Any]:
        """An endless stream of training batches, in an order that depends on `seed` alone."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The training loss on one batch: a 0-d tensor to call `backward` on."""
        ...

    def evaluate(self, model: nn.Module, split: Split) -> Evaluation:
        """Judge a model (already in evaluation mode, without gradients) on one split."""
        ...


_PROTOCOL = ("name", "total_steps", "evaluation_interval", "build_model", "batches", "loss", "evaluate")


@lru_cache(maxsize=32)
def load_workload(reference: str) -> Workload:
    """Find a workload by name.

    Args:
        reference: a built-in name (`digits`), ``package.module:attribute``, or ``path/to/file.py:attribute``. The
            attribute is a workload, or a class or function that makes one without arguments.

    Raises:
        StudyError: there is no such workload, it cannot be imported, or it does not follow the protocol.
    """
    target = BUILT_IN.get(reference, reference)
    if not is_reference(target):
        raise StudyError(
            f"unknown workload {reference!r}; known: {', '.join(sorted(BUILT_IN))}, "
            "or your own as `file.py:attribute` or `module:attribute`"
        )
    found = load(target, "workload")
    if isinstance(found, Workload) and not isinstance(found, type):
        return _checked(reference, found)
    if not callable(found):
        raise StudyError(f"workload {reference!r} is a {type(found).__name__}, no workload and nothing that makes one")
    try:
        workload = found()
    except StudyError:
        raise
    except Exception as error:
        raise StudyError(f"workload {reference!r} cannot be loaded: {describe(error)}") from error
    return _checked(reference, workload)


def title_of(workload: Workload) -> str:
    """How a workload is called in tables and figures: its `title`, or its name."""
    return str(getattr(workload, "title", workload.name))


def trainable(workload: Workload, model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """The parameter groups to build an optimizer from: the workload's own, or all parameters at one learning rate."""
    groups: Callable[[nn.Module, float], list[dict[str, Any]]] | None = getattr(workload, "parameter_groups", None)
    return [{"params": list(model.parameters()), "lr": lr}] if groups is None else groups(model, lr)


@lru_cache(maxsize=32)
def fingerprint(reference: str) -> str:
    """SHA-256 of the source that defines a workload, and of its `identity`: an edited workload is another workload.

    The file that the reference names, and those of the workload's class and of all that it inherits from; those of the
    workload that it wraps as well. The standard library, installed packages and this library do not count (the version
    of this library is recorded beside), nor does a module that is merely imported: give such a workload an `identity`.

    Raises:
        StudyError: see `load_workload`.
    """
    layers = [load_workload(reference)]
    while (inner := _wrapped(layers[-1])) is not None and inner not in layers:
        layers.append(inner)
    files = own_file(BUILT_IN.get(reference, reference)) + [file for layer in layers for file in own_files(type(layer))]
    identities = [str(getattr(layer, "identity", "")).encode() for layer in layers]
    return digest([*(code(file.read_bytes()) for file in dict.fromkeys(files)), *identities])


def check_start(workload: Workload, evaluation: Evaluation) -> None:
    """Refuse a workload that is broken before the first update.

    Raises:
        StudyError: the loss at initialisation is not finite, or the accuracy is no share of right answers.
    """
    if not math.isfinite(evaluation.loss):
        raise StudyError(
            f"workload {workload.name!r} has a validation loss of {evaluation.loss} at initialisation; "
            "it must be finite"
        )
    if evaluation.accuracy is not None and not 0.0 <= evaluation.accuracy <= 1.0:
        raise StudyError(
            f"workload {workload.name!r} has an accuracy of {evaluation.accuracy} at initialisation; it must be a "
            "share of right answers, from 0 to 1, or None"
        )


def as_evaluation(workload: Workload, judged: object) -> Evaluation:
    """What `evaluate` returned, as numbers.

    Raises:
        StudyError: it is no pair of a loss and an accuracy or None.
    """
    try:
        loss, accuracy = cast(tuple[Any, Any], judged)
        return Evaluation(float(loss), None if accuracy is None else float(accuracy))
    except (TypeError, ValueError):
        raise StudyError(
            f"workload {workload.name!r} must return an Evaluation(loss, accuracy or None) from evaluate, "
            f"got {judged!r}"
        ) from None


def check_first_loss(workload: Workload, losses: Sequence[object]) -> None:
    """Refuse a workload without a batch, or whose training loss is no finite number before any update.

    Args:
        workload: whose.
        losses: what `loss` returned for the first batch; empty if there is none.

    Raises:
        StudyError: it is to be refused.
    """
    if not losses:
        raise StudyError(f"workload {workload.name!r} gives no batch; batches must not end")
    (loss,) = losses
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        what = f"one of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r}"
        raise StudyError(f"workload {workload.name!r} must return a 0-d tensor from loss, got {what}")
    if not math.isfinite(loss.item()):
        raise StudyError(
            f"workload {workload.name!r} has a training loss of {loss.item()} on its first batch, before any update; "
            "it must be finite"
        )


def _wrapped(workload: Workload) -> Workload | None:
    candidates = (getattr(workload, name, None) for name in ("workload", "inner"))
    return next((candidate for candidate in candidates if isinstance(candidate, Workload)), None)


def _checked(reference: str, workload: object) -> Workload:
    missing = [name for name in _PROTOCOL if not hasattr(workload, name)]
    if missing:
        raise StudyError(f"workload {reference!r} lacks {', '.join(missing)} (see adaptive_lr.study.Workload)")
    assert isinstance(workload, Workload)
    if not isinstance(workload.name, str) or not workload.name:
        raise StudyError(f"workload {reference!r} must have a name, a non-empty string; got {workload.name!r}")
    for name in ("total_steps", "evaluation_interval"):
        value = getattr(workload, name)
        if not isinstance(value, int) or value < 1:
            raise StudyError(f"workload {reference!r} must have {name} >= 1, an integer; got {value!r}")
    for name in ("title", "identity"):
        value = getattr(workload, name, "none given")
        if not isinstance(value, str) or not value:
            raise StudyError(f"workload {reference!r} must have as {name} a non-empty string or none; got {value!r}")
    return workload
