"""What a `Measurer` keeps, when it writes it again, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adaptive_lr_kernels import plans
from adaptive_lr_kernels.addresses import Addresses, storage_order
from adaptive_lr_kernels.measurer import Measurer
from adaptive_lr_kernels.plan import Plan


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The addresses that really went to the device."""
    sent: list[list[int]] = []
    send = Addresses.send

    def watched(self: Addresses, addresses: list[int], *, capturing: bool = False) -> None:
        if not self.known(addresses):
            sent.append(addresses)
        send(self, addresses, capturing=capturing)

    monkeypatch.setattr(Addresses, "send", watched)
    return sent


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that were made."""
    made: list[Plan] = []
    init = Plan.__init__

    def watched(self: Plan, *args: object) -> None:
        made.append(self)
        init(self, *args)

    monkeypatch.setattr(Plan, "__init__", watched)
    return made


def test_addresses_are_sent_only_where_they_changed(sends: list[list[int]], made: list[Plan]) -> None:
    """And tables are made once, however the addresses change."""
    measurer = Measurer(("grad_norm",))
    first, second = [torch.ones(3), torch.ones(16)], [torch.full((3,), 2.0), torch.full((16,), 2.0)]
    norms = [float(measurer.measure(tensors).overall["grad_norm"]) for tensors in (first, first, second, first)]
    one = 19**0.5
    assert norms == [one, one, 2 * one, one]
    assert len(sends) == 3
    assert len(made) == 1


def test_new_values_at_old_addresses_are_read() -> None:
    measurer = Measurer(("grad_norm",))
    gradient = torch.ones(4)
    assert float(measurer.measure([gradient]).overall["grad_norm"]) == 2
    gradient.mul_(3)
    assert float(measurer.measure([gradient]).overall["grad_norm"]) == 6


def test_the_steady_state_allocates_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither results nor tables: no factory of torch is called."""
    measurer = Measurer(("grad_norm", "grad_mean"), groups=[0, 1])
    gradients = [torch.ones(4), torch.ones(5)]
    measurer.measure(gradients)
    for factory in ("empty", "zeros", "tensor", "from_numpy", "empty_like", "stack", "cat"):
        monkeypatch.setattr(torch, factory, lambda *_args, **_kwargs: pytest.fail("allocates"))
    measured = measurer.measure([gradient.view_as(gradient) for gradient in gradients])
    assert float(measured.overall["grad_norm"]) == 3


def test_a_result_stays_until_as_many_more_are_made_as_are_kept() -> None:
    measurer = Measurer(("grad_norm",), keep=2)
    results = [measurer.measure([torch.full((1,), float(value))]) for value in (1, 2)]
    assert [float(result.overall["grad_norm"]) for result in results] == [1, 2]
    measurer.measure([torch.full((1,), 3.0)])
    assert [float(result.overall["grad_norm"]) for result in results] == [3, 2]


def test_a_gradient_that_comes_and_goes_makes_two_plans(made: list[Plan]) -> None:
    measurer = Measurer(("grad_norm",), groups=[0, 1])
    for present in (True, False, True, False):
        measured = measurer.measure([torch.ones(4), torch.ones(9) if present else None])
        assert measured.per_group["grad_norm"].tolist() == [2, 3 if present else 0]
    assert len(made) == 2


def test_an_alignment_that_is_lost_makes_a_plan_of_its_own(made: list[Plan]) -> None:
    """A view at an odd offset must not be read by wide loads."""
    measurer = Measurer(("grad_norm",))
    room = torch.arange(33.0)
    for start in (0, 1, 0, 4):
        gradient = room[start : start + 28]
        assert float(measurer.measure([gradient]).overall["grad_norm"]) == pytest.approx(
            float(gradient.norm()), rel=1e-6
        )
    assert len(made) == 2
    assert [launch.aligned for plan in made for launch in plan.tables.launches] == [True, False]


def test_tensors_of_one_kind_are_read_in_one_launch(made: list[Plan]) -> None:
    """However they are mixed with others."""
    half, single = torch.ones(3, dtype=torch.bfloat16), torch.ones(3)
    Measurer().measure([half, single] * 10)
    assert len(made[0].tables.launches) == 2


def test_other_inputs_and_devices_make_new_memory() -> None:
    """`statistics=None` is whatever the inputs of the call allow."""
    measurer = Measurer()
    assert len(measurer.measure([torch.ones(3)]).overall) == 5
    assert len(measurer.measure([torch.ones(3)], [torch.ones(3)], [torch.ones(3)]).overall) == 8


def test_a_captured_measurer_belongs_to_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs a call before the capture, and refuses all after it."""
    gradients = [torch.ones(4)]
    measurer, unprepared = Measurer(), Measurer()
    measurer.measure(gradients)
    monkeypatch.setattr(plans, "is_capturing", lambda device: True)
    with pytest.raises(RuntimeError, match="before a CUDA graph is captured, call this once"):
        unprepared.measure(gradients)
    measurer.measure(gradients)
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="belongs to the CUDA graph captured with it"):
        measurer.measure(gradients)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="keep must be 1 or more; got 0"):
        Measurer(keep=0)
    with pytest.raises(ValueError, match="statistics must be names out of"):
        Measurer(("norm",))
    with pytest.raises(ValueError, match="groups must have one index per gradient, 1; got 2"):
        Measurer(groups=[0, 0]).measure([torch.ones(2)])


@pytest.mark.parametrize(
    ("tensor", "dense"),
    [
        (torch.zeros(3, 4), True),
        (torch.zeros(3, 4).t(), True),
        (torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last), True),
        (torch.zeros(3, 1, 4).transpose(0, 1), True),
        (torch.zeros(()), True),
        (torch.zeros(3, 4)[:, :3], False),
        (torch.zeros(3, 4)[::2], False),
        (torch.zeros(1, 4).expand(3, 4), False),
        (torch.zeros(6).as_strided((2, 3), (1, 1)), False),
    ],
)
def test_a_stretch_of_memory_without_gaps_or_overlaps_is_known(tensor: Tensor, dense: bool) -> None:
    assert (storage_order(tensor) is not None) == dense
