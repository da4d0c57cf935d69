"""One update of the usual training loop, for those who have none of their own at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer


class TrainingUpdate:
    """A loop's model, optimizer, loss and batches, one update at a time; its arguments are those of `range_test`."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss_fn: Callable[[Any, Any], torch.Tensor],
        batches: Iterable[tuple[Any, Any]],
        accumulate: int,
        autocast: AbstractContextManager[Any],
        scaler: GradScaler | None,
    ) -> None:
        self._model, self._optimizer, self._loss_fn = model, optimizer, loss_fn
        self._accumulate, self._autocast, self._scaler = accumulate, autocast, scaler
        parameter = next(model.parameters(), None)
        self._device = None if parameter is None else parameter.device
        self._batches = _endless(batches)

    def __call__(self) -> tuple[float, bool]:
        """Make the next update.

        Returns:
            Its loss, the mean over the accumulated batches, and whether the update happened (a `GradScaler` leaves out
            one that overflows).

        Raises:
            TypeError: the batches are no pairs, or the loss is no tensor of one element.
            ValueError: there are no batches.
        """
        self._optimizer.zero_grad()
        total = 0.0
        for _ in range(self._accumulate):
            x, y = _moved(_pair(next(self._batches)), self._device)
            with self._autocast:
                loss = self._loss_fn(self._model(x), y)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                got = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
                raise TypeError(f"loss_fn must give a tensor of one element, got {got}")
            share = loss / self._accumulate
            (share if self._scaler is None else self._scaler.scale(share)).backward()  # type: ignore[no-untyped-call]
            total += float(share.detach())
        if self._scaler is None:
            self._optimizer.step()
            return total, True
        before = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return total, self._scaler.get_scale() >= before  # only an overflow lowers the scale


def _endless(batches: Iterable[Any]) -> Iterator[Any]:
    """All batches, again and again; of an iterator, which can be gone through once, what it gave is kept."""
    once = iter(batches) is batches
    given: list[Any] = []
    while True:
        count = 0
        for batch in batches:
            if once:
                given.append(batch)
            count += 1
            yield batch
        if not count:
            raise ValueError("batches must give at least one pair (x, y) each time it is gone through, got none")
        if once:
            batches, once = given, False


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        got = f"{len(batch)} values" if isinstance(batch, tuple | list) else type(batch).__name__
        raise TypeError(f"batches must give pairs (x, y), got {got}")
    return batch[0], batch[1]


def _moved(value: Any, device: torch.device | None) -> Any:
    """The same with all its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value if device is None else value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(item, device) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(_moved(item, device) for item in value)
    return value
