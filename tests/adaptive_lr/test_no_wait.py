"""Between two rows that are due, nothing that the layer does needs a value of the device on the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import GradientSpike, LossVariance, Rescue, guarded
from adaptive_lr.deferred import DeviceMeter
from adaptive_lr.pending import Pending
from adaptive_lr.readback import Ring, Slot
from adaptive_lr.statistics import MEASURED_STATISTICS, RATIO_STATISTICS
from adaptive_lr.update_ratio import Ratios
from adaptive_lr_kernels.reference import Pieces
from deferral import Make, Run, deferred
from laws import Watch

WAITING = (
    "aten::_local_scalar_dense",  # item, float, int, bool of a tensor
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",  # the size of the result is a value
    "aten::masked_select",
    "aten::unique",
)
"""Operations that wait for an accelerator."""

FROM_THE_HOST = "aten::lift_fresh"
"""torch.tensor(numbers): on an accelerator, a copy from memory that is not page-locked."""

METHODS = ("item", "tolist", "numpy", "cpu", "__float__", "__int__", "__bool__", "__index__", "__array__")


def has_mask(indices: Any) -> bool:
    """Whether tensors of truth values are among indices: how many elements they take is a value."""
    return any(index is not None and index.dtype is torch.bool for index in indices)


class Watched(TorchDispatchMode):
    """Raises where the host would have to wait."""

    def __init__(self, *forbidden: str) -> None:
        super().__init__()
        self.forbidden = forbidden
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        self.seen.add(name)
        if name in self.forbidden or (name in ("aten::index", "aten::index_put_") and has_mask(args[1])):
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def watched(*, from_the_host: bool = False) -> Iterator[Watched]:
    """Nothing inside may wait for the device, but the reading of rows that are due."""
    read, reading = Slot.read, []

    def allowed(slot: Slot) -> list[float]:
        reading.append(slot)
        try:
            return read(slot)
        finally:
            reading.pop()

    def guarded_method(name: str) -> Any:
        method = getattr(torch.Tensor, name)

        def call(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            assert reading, f"Tensor.{name} waits for the device"
            return method(self, *args, **kwargs)

        return call

    patches = [mock.patch.object(torch.Tensor, name, guarded_method(name)) for name in METHODS]
    patches.append(mock.patch.object(Pieces, "on_host", False))  # on a CPU values may be looked at, and are
    with (
        mock.patch.object(Slot, "read", allowed),
        Watched(*WAITING, *([] if from_the_host else [FROM_THE_HOST])) as mode,
    ):
        for patch in patches:
            patch.start()
        try:
            yield mode
        finally:
            for patch in patches:
                patch.stop()


OPTIMIZERS: dict[str, Make] = {
    "fused AdamW": lambda p: torch.optim.AdamW([{"params": p[:1]}, {"params": p[1:]}], lr=0.05, fused=True),
    "fused SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "tensor learning rate": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.05), fused=True),
}


def steps(run: Run, count: int, **arguments: Any) -> Watched:
    """Steps of a run that has settled, watched from `optimizer.step` to the end of `control.step`."""
    for step in range(30):
        run.step(step)
    optimizer_step, control_step = run.optimizer.step, run.control.step
    losses = []

    def kept() -> None:
        with watched(**arguments):
            optimizer_step()

    with mock.patch.object(run.optimizer, "step", kept):
        for step in range(30, 30 + count):
            losses.append(run.update(step))
            with watched(**arguments) as mode:
                control_step({"loss": losses[-1], "accuracy": losses[-1] * 0.5, "host": 0.25})
    return mode


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_steady_step_waits_for_nothing(name: str) -> None:
    def laws() -> Any:
        return GradientSpike(clip=1.0), LossVariance(), Watch(("loss_score",))

    run = Run(OPTIMIZERS[name], True, 2, laws, {40: 1e3, 41: float("nan"), 45: 1e2})
    mode = steps(run, 30)
    assert "aten::cat" in mode.seen  # the watch sees what is done
    run.control.detach()
    assert {"skip", "clip"} <= {decision.action for decision in run.control.decisions}
    assert run.control.stalls <= 1  # the first step of fused SGD makes its momentum on the host


def test_the_watch_over_the_weights_waits_for_nothing(tmp_path: Any) -> None:
    """The ratio of update to weight, snapshots and the record stay on the device too."""
    run = Run(OPTIMIZERS["fused AdamW"], True, 2, guarded, options={"trace": tmp_path})
    steps(run, 20, from_the_host=True)  # on a CPU the least norms of weights are made anew at each step
    run.control.detach()
    assert run.control.stalls == 0


@pytest.mark.parametrize("watched", [True, False])
def test_the_ratio_of_each_tensor_waits_for_nothing(watched: bool, tmp_path: Any) -> None:
    """Neither while a law has whole weights compared nor where samples are."""

    def laws() -> Any:
        return guarded() if watched else GradientSpike()

    run = Run(OPTIMIZERS["fused AdamW"], True, 2, laws, options={"trace": tmp_path, "update_ratios_every": 2})
    steps(run, 20, from_the_host=True)  # a GPU gets the sizes of tensors from page-locked memory
    run.control.detach()
    assert run.control.stalls == 0
    found = run.control.update_ratios
    assert found is not None
    assert found.step == 48
    assert bool(found.errors) is not watched


def test_the_watch_notices_a_read() -> None:
    with pytest.raises(AssertionError, match="waits for the device"), watched():
        float(torch.ones(()))
    with pytest.raises(AssertionError, match="waits for the device"), watched():
        torch.ones(3)[torch.ones(3) > 0]
    with pytest.raises(AssertionError, match="waits for the device"), watched():
        torch.tensor([1.0])


def test_a_row_is_read_once_and_slots_are_used_again() -> None:
    ring = Ring(3)
    for round_ in range(4):
        rows = [torch.arange(4, dtype=torch.float64) + 10 * round_ + index for index in range(3)]
        slots = [ring.send(row) for row in rows]
        with pytest.raises(RuntimeError, match="all 3 slots are under way: read one first"):
            ring.send(rows[0])
        assert [slot.read() for slot in slots] == [row.tolist() for row in rows]
    assert len(ring.free) == 3


def test_a_longer_row_makes_longer_slots_and_those_under_way_are_still_read() -> None:
    ring = Ring(2)
    first = ring.send(torch.ones(2, dtype=torch.float64))
    second = ring.send(torch.arange(100, dtype=torch.float64))
    assert second.read() == list(range(100))
    assert first.read() == [1.0, 1.0]
    assert len(ring.free) == 2
    assert ring.waits == 0


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_no_step_mixes_devices_or_reads_a_tensor_without_data(fused: bool, sampled: bool) -> None:
    """On a device whose tensors hold nothing, any read and any stray tensor of the CPU is an error."""

    def fill(slot: Slot, row: torch.Tensor) -> None:
        assert row.device.type == "meta"
        slot._size = row.numel()
        slot._buffer.fill_(1.0)

    parameters = [
        torch.zeros(4, 3, device="meta", requires_grad=True),
        torch.zeros(4, device="meta", requires_grad=True),
    ]
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.02}]
    optimizer = (torch.optim.Adadelta if fused else torch.optim.SGD)(groups, lr=0.1)
    statistics = Watch(tuple(sorted(MEASURED_STATISTICS - (set(RATIO_STATISTICS) if sampled else set()))))
    laws = (GradientSpike(clip=1.0), statistics, *([] if sampled else [Rescue(snapshots=False)]))
    with deferred():
        control = AdaptiveLR(optimizer, laws, lag=2, update_ratios_every=2)
    fused_here = mock.patch("adaptive_lr.actuation.is_fused", return_value=fused)
    taken: list[Ratios] = []
    take = mock.patch.object(Pending, "take_ratios", lambda pending, ratios: taken.append(ratios))
    with mock.patch.object(Slot, "fill", fill), mock.patch.object(DeviceMeter, "check"), fused_here, take:
        for _ in range(8):
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            if fused:  # what a GradScaler gives, and nobody reads
                optimizer.found_inf = torch.zeros((), device="meta")  # type: ignore[attr-defined]
                optimizer.grad_scale = torch.ones((), device="meta")  # type: ignore[attr-defined]
            optimizer.step()
            control.step({"loss": torch.ones((), device="meta"), "other": torch.ones(1, device="meta")})
    assert control.stalls == 0
    assert [ratios.errors is not None for ratios in taken] == [sampled] * 4
