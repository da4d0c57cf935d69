"""`Buffers`: what the forward pass of an update that was left out did to a model's buffers is taken back."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from adaptive_lr_kernels.shards import local


@dataclass(slots=True)
class _Buffer:
    """One buffer of a module, as it was after the last update."""

    owner: dict[str, Tensor | None]  # the module's own, so that a buffer that is assigned anew is found
    name: str
    tensor: Tensor
    version: int
    uncounted: bool  # torch's normalisations write running statistics without counting a version
    moving: bool = True  # else a constant, as far as is known

    def now(self) -> Tensor:
        """The buffer as it is."""
        now = self.owner.get(self.name)
        return self.tensor if now is None else now


@dataclass(slots=True)
class _Group:
    """Buffers of one dtype on one device, and their contents after the last update, one after the other."""

    buffers: list[_Buffer]
    flat: list[Tensor]  # 1-d views of them
    kept: Tensor

    def keep(self) -> None:
        torch.cat(self.flat, out=self.kept)

    def put_back(self, skip: Tensor | None) -> None:
        targets = [_target(buffer, view) for buffer, view in zip(self.buffers, self.flat, strict=True)]
        kept = self.kept
        if skip is not None:  # by selection, since 0 x NaN is NaN
            kept = torch.where(skip.to(kept.device, non_blocking=True) != 0, kept, torch.cat(targets))
        torch._foreach_copy_(targets, torch.split(kept, [view.numel() for view in self.flat]))


def _target(buffer: _Buffer, view: Tensor) -> Tensor:
    """Where the content of a buffer goes back to: the buffer as it is now, if it still has the same form."""
    now, before = buffer.now(), buffer.tensor
    if now is before:
        return view
    like = (now.shape, now.dtype, now.device) == (before.shape, before.dtype, before.device)
    return _flat(now) if like and _can_be_kept(now) else torch.empty_like(view)


class Buffers:
    """The buffers of a model as they were after the last update: running statistics of batch normalisation, counters.

    A forward pass changes them whatever becomes of its gradient. Where the update is left out (by a law, or because a
    fused optimizer is told of an overflow) they go back in place, so that the run goes on as if the batch had never
    been. Everything that happened to them since the last update goes back with them: all forward passes of accumulated
    gradients, and what the user wrote. `load_state_dict` of the model is no such change.

    Those of torch's normalisations are copied after every update. What else changes is told by the version counter of
    each tensor, so constants (masks, tables of positions) cost a comparison an update and, after the first update, no
    memory; and what a replayed CUDA graph did to them, which counts no versions, stays.

    Args:
        model: whose buffers; held weakly. Buffers that are registered later, and those that are not contiguous, are not
            followed.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [
            _Buffer(module._buffers, name, tensor, tensor._version, isinstance(module, _NormBase))
            for module in model.modules()
            for name, tensor in module._buffers.items()
            if tensor is not None and _can_be_kept(tensor)
        ]
        self._groups: list[_Group] = []
        self._first = True
        this = weakref.ref(self)

        def loaded(*_: Any) -> None:
            if (buffers := this()) is not None:
                buffers.keep(loaded=True)

        self._hook = model.register_load_state_dict_post_hook(loaded)  # type: ignore[no-untyped-call]
        self._regroup()

    def forget(self) -> None:
        """End it: copies are given up, the model has no hook of ours."""
        self._hook.remove()
        self._buffers, self._groups = [], []

    def keep(self, *, loaded: bool = False) -> None:
        """Take the buffers as they are for those to go back to.

        Args:
            loaded: they changed by no update, so it does not tell yet which are constants.
        """
        first, self._first = self._first and not loaded, self._first and loaded
        other = first
        for buffer in self._buffers:
            now = buffer.now()
            if now is not buffer.tensor:
                if not _can_be_kept(now):
                    continue
                buffer.tensor, changed, other = now, True, True
            else:
                changed = buffer.uncounted or now._version != buffer.version
            buffer.version = now._version
            if first:
                buffer.moving = changed
            elif changed and not buffer.moving:
                buffer.moving = other = True
        with torch.no_grad():
            if other:
                self._regroup()
            else:
                for group in self._groups:
                    group.keep()

    def put_back(self, skip: Tensor | None = None) -> None:
        """Bring back what changed since the last update.

        Args:
            skip: 0-d: only where it is not 0, without waiting for it; None: in any case.
        """
        with torch.no_grad():
            for group in self._groups:
                group.put_back(skip)

    def _regroup(self) -> None:
        """New memory for the buffers that are no constants, with their contents."""
        alike: dict[tuple[torch.dtype, torch.device], list[_Buffer]] = {}
        for buffer in self._buffers:
            if buffer.moving:
                alike.setdefault((buffer.tensor.dtype, buffer.tensor.device), []).append(buffer)
        self._groups = []
        for buffers in alike.values():
            flat = [_flat(buffer.tensor) for buffer in buffers]
            self._groups.append(_Group(buffers, flat, torch.cat(flat)))


def _can_be_kept(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.is_contiguous() and not tensor.is_inference()


def _flat(tensor: Tensor) -> Tensor:
    """A 1-d view that counts no versions: a graph that is yet to be gone backwards through may hold the buffer."""
    return local(tensor.data).view(-1)
