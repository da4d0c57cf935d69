"""Addresses on their way to a GPU: the ring of pinned rows, on a GPU that is made up."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from adaptive_lr_kernels.addresses import SLOTS, Addresses


class Device:
    """Stands for a GPU, which is done with a copy or is not.

    Attributes:
        done: whether.
        waits: how often the host waited for one.
    """

    def __init__(self) -> None:
        self.done = True
        self.waits = 0

    def query(self) -> bool:
        return self.done

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        self.waits += 1


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(torch.cuda, "Event", lambda: device)
    return device


@pytest.fixture
def addresses() -> Addresses:
    """A table whose rows are copied as on a GPU, into a list of what arrived."""
    made = Addresses(2, torch.device("cpu"))
    made._rows = torch.empty((SLOTS + 1, 2), dtype=torch.int64)
    made._arrays = [row.numpy() for row in made._rows]
    made.table = mock.Mock(device=torch.device("cuda"), arrived=[])
    made.table.copy_ = lambda row, *, non_blocking: made.table.arrived.append(row.tolist())  # type: ignore[attr-defined]
    return made


def test_the_host_waits_for_a_row_only_while_it_is_being_copied(addresses: Addresses, gpu: Device) -> None:
    sent = [[number, number + 1] for number in range(3 * SLOTS)]
    for row in sent[: 2 * SLOTS]:
        addresses.send(row)
    assert gpu.waits == 0
    gpu.done = False
    for row in sent[2 * SLOTS :]:
        addresses.send(row)
    assert gpu.waits == SLOTS
    assert addresses.table.arrived == sent  # type: ignore[attr-defined]


def test_what_the_device_has_is_not_sent_again(addresses: Addresses, gpu: Device) -> None:
    for _ in range(3):
        addresses.send([1, 2])
    assert addresses.table.arrived == [[1, 2]]  # type: ignore[attr-defined]
