"""Which lag a control has, and when the reflex of its controllers can run on the device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adaptive_lr.controllers import GradientSpike, LossVariance, compose, guarded
from adaptive_lr.lag import ReadBack, read_back
from laws import Reflex


def on(*devices: str) -> Any:
    """What stands for an optimizer of parameters on these devices."""
    parameters = [SimpleNamespace(device=torch.device(device)) for device in devices]
    return SimpleNamespace(param_groups=[{"params": parameters}])


def asked(lag: int | None, device: str, *controllers: Any, shadow: bool = False) -> ReadBack:
    return read_back(lag, on(device), compose(controllers), shadow=shadow)


def test_the_lag_is_two_on_a_gpu_and_none_on_a_cpu() -> None:
    assert asked(None, "cuda", *guarded()) == ReadBack(2, GradientSpike().reflex, acts=True)
    assert asked(None, "cpu", *guarded()) == ReadBack(0, None, acts=False)


def test_on_a_cpu_and_with_lag_0_rows_are_read_at_once() -> None:
    assert asked(3, "cpu", GradientSpike()) == ReadBack(3, None, acts=False)
    assert asked(0, "cuda", GradientSpike()) == ReadBack(0, None, acts=False)
    assert read_back(None, on("cuda", "cpu"), guarded(), shadow=False) == ReadBack(0, None, acts=False)


@pytest.mark.parametrize("shadow", [False, True])
def test_without_a_law_that_acts_norms_are_only_scored(shadow: bool) -> None:
    laws = (Reflex(),) if shadow else (LossVariance(),)
    found = asked(4, "cuda", *laws, shadow=shadow)
    assert found.lag == 4
    assert found.reflex is not None
    assert not found.acts


@pytest.mark.parametrize("laws", [(Reflex(),), (GradientSpike(), Reflex()), (GradientSpike(), GradientSpike(clip=1.0))])
def test_a_law_that_only_the_host_knows_makes_the_lag_0_on_a_gpu(laws: Any) -> None:
    with pytest.warns(UserWarning, match=r"waits for the GPU at every step \(lag=0\): .* may damp or skip"):
        assert asked(None, "cuda", *laws) == ReadBack(0, None, acts=False)
    with pytest.raises(ValueError, match=r"lag must be 0 with these controllers on a GPU: .*; got 2"):
        asked(2, "cuda", *laws)
    assert asked(2, "cpu", *laws) == ReadBack(2, None, acts=False)


def test_a_subclass_that_judges_for_itself_has_no_reflex_of_its_parent() -> None:
    class Own(GradientSpike):
        def update(self, state: Any, statistics: Any) -> Any:
            return super().update(state, statistics)

    class Named(GradientSpike):
        pass

    assert Own().reflex is None
    assert Named(clip=3.0).reflex == GradientSpike(clip=3.0).reflex
