"""Gradients that were measured a moment ago are scaled by the tables of that measurement, and only those."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor

from adaptive_lr_kernels import Workspace, measure
from adaptive_lr_kernels.reflex import scale_gradients
from adaptive_lr_kernels.scaling import GradientScaling

NORM, FULL = ("grad_norm",), ("grad_norm", "param_norm", "alignment")
DTYPES = (torch.float32, torch.bfloat16, torch.float64)
DAMP = 0.5  # halves of all dtypes are exact


@pytest.fixture
def listed_anew() -> Iterator[mock.Mock]:
    """Whether gradients are listed and checked anew."""
    with mock.patch.object(GradientScaling, "scale", autospec=True, side_effect=GradientScaling.scale) as scale:
        yield scale


def drawn(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = [
        torch.randn(shape, generator=generator).to(DTYPES[index % 3])
        for index, shape in enumerate([(3, 5), (4099,), (), (0,), (130, 33), (17,)])
    ]
    made[4] = torch.cat([made[4].flatten()[:1], made[4].flatten()])[1:]  # at an odd offset
    return made


def measured(workspace: Workspace, gradients: list[Tensor | None], statistics: tuple[str, ...] = NORM) -> None:
    more = {}
    if statistics is FULL:
        others = [gradient if gradient is None else gradient.double() for gradient in gradients]  # other dtypes
        more = {"parameters": [torch.zeros(()) if other is None else other for other in others], "momenta": others}
    measure(gradients, statistics=statistics, backend="triton", workspace=workspace, **more)


def scaled(workspace: Workspace, gradients: list[Tensor], *, damp: float = DAMP, skip: float = 0.0) -> None:
    scalar = torch.tensor(damp, dtype=torch.float64)
    scale_gradients(gradients, scalar, torch.tensor(skip), backend="triton", workspace=workspace)


@pytest.mark.parametrize("statistics", [NORM, FULL], ids=["norm", "with parameters and momenta"])
@pytest.mark.parametrize(("damp", "skip"), [(1.0, 0.0), (DAMP, 0.0), (1.0, 1.0)])
def test_they_are_scaled_as_if_listed_anew(
    statistics: tuple[str, ...], damp: float, skip: float, listed_anew: mock.Mock
) -> None:
    workspace = Workspace()
    for seed in range(2):  # the second time the table of addresses is sent again
        gradients = drawn(seed)
        before = [gradient.clone() for gradient in gradients]
        measured(workspace, [None, *gradients, None], statistics)
        scaled(workspace, gradients, damp=damp, skip=skip)
        for gradient, old in zip(gradients, before, strict=True):
            assert torch.equal(gradient, old * (0.0 if skip else damp))
    assert not listed_anew.called


def test_other_gradients_than_those_measured_are_listed_anew(listed_anew: mock.Mock) -> None:
    workspace = Workspace()
    first, second = drawn(0), drawn(0)
    measured(workspace, list(first))
    scaled(workspace, second)
    scaled(workspace, first[:2])
    assert listed_anew.call_count == 2
    expected = drawn(0)
    assert all(torch.equal(gradient, old * DAMP) for gradient, old in zip(second, expected, strict=True))
    assert all(torch.equal(gradient, old * DAMP) for gradient, old in zip(first[:2], expected, strict=False))
    assert all(map(torch.equal, first[2:], expected[2:]))


def test_a_gradient_that_was_given_other_memory_is_found_there(listed_anew: mock.Mock) -> None:
    workspace, (gradient, moved) = Workspace(), (torch.ones(40), torch.ones(40))
    measured(workspace, [gradient])
    before = gradient.detach()
    gradient.data = moved
    scaled(workspace, [gradient])
    assert listed_anew.called
    assert (before == 1.0).all()
    assert (gradient == DAMP).all()


def test_what_is_measured_twice_or_from_a_copy_is_still_scaled_once_and_in_place(listed_anew: mock.Mock) -> None:
    workspace = Workspace()
    shared = torch.ones(40)
    measured(workspace, [shared, shared])
    scaled(workspace, [shared])
    assert (shared == DAMP).all()
    gaps = torch.ones(8, 10)[:, ::2]
    measured(workspace, [gaps])
    scaled(workspace, [gaps])
    assert (gaps == DAMP).all()
    assert listed_anew.call_count == 2


def test_a_measurement_that_fails_leaves_nothing_to_be_scaled_by(listed_anew: mock.Mock) -> None:
    workspace, gradient = Workspace(), torch.ones(40)
    measured(workspace, [gradient])
    with mock.patch("adaptive_lr_kernels.plan.Plan.launch", side_effect=RuntimeError), pytest.raises(RuntimeError):
        measured(workspace, [torch.ones(40)])
    scaled(workspace, [gradient])
    assert listed_anew.called
    assert (gradient == DAMP).all()


def test_gradients_are_not_kept_alive() -> None:
    import weakref

    workspace, gradient = Workspace(), torch.ones(40)
    alive = weakref.ref(gradient)
    measured(workspace, [gradient])
    del gradient
    assert alive() is None
