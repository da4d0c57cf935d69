"""What `measure` runs and gives, and that it is no more than was asked for."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adaptive_lr_kernels import STATISTICS, measure


class Operations(TorchDispatchMode):
    """Records the name of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


TELLTALE = {
    "grad_norm": {"_foreach_norm"},
    "grad_max": {"aminmax"},
    "grad_mean": {"mean", "_foreach_norm"},
    "grad_variance": {"mean", "_foreach_norm"},
    "nonfinite": {"count_nonzero", "_foreach_norm"},
    "param_norm": {"_foreach_norm"},
    "momentum_norm": {"_foreach_norm"},
    "alignment": {"dot", "_foreach_norm"},
}


@pytest.mark.parametrize("name", STATISTICS)
def test_what_is_not_asked_for_is_not_computed(name: str) -> None:
    """Each statistic runs its own passes over the gradients, and no other's."""
    gradient = torch.tensor([1.0, -2.0, math.inf])
    with Operations() as operations:
        measured = measure([gradient], parameters=[gradient], momenta=[gradient], statistics=(name,))
        assert tuple(measured.overall) == (name,)
        float(measured.overall[name])
    passes = set().union(*TELLTALE.values()) & set(operations.names)
    assert passes == TELLTALE[name]
    with pytest.raises(KeyError, match="was not measured"):
        measured.overall["grad_norm" if name != "grad_norm" else "grad_max"]


def test_nothing_asked_for_reads_nothing() -> None:
    with Operations() as operations:
        assert dict(measure([torch.ones(3)], statistics=()).overall) == {}
    assert set(operations.names) <= {"ones"}


def test_the_norm_costs_as_many_operations_for_any_number_of_tensors() -> None:
    """One foreach operation, not one operation per tensor (but each norm is read: `_local_scalar_dense`)."""
    counts = []
    for number in (6, 60):
        gradients = [torch.ones(3)] * number
        with Operations() as operations:
            measured = measure(
                gradients, groups=[index * 2 // number for index in range(number)], statistics=("grad_norm",)
            )
            measured.overall["grad_norm"], measured.per_group["grad_norm"]
        counts.append(len([name for name in operations.names if name != "_local_scalar_dense"]))
    assert counts[0] == counts[1]


def test_statistics_are_listed_in_one_order_and_once() -> None:
    measured = measure([torch.ones(3)], statistics=["nonfinite", "grad_norm", "nonfinite"])
    assert list(measured.overall) == ["grad_norm", "nonfinite"]
    assert len(measured.overall) == 2
    assert "grad_max" not in measured.overall
    assert "nonfinite" in repr(measured)


def test_without_parameters_and_momenta_all_means_the_gradient_statistics() -> None:
    assert tuple(measure([torch.ones(3)]).overall) == STATISTICS[:5]
    assert tuple(measure([torch.ones(3)], parameters=[torch.ones(3)]).overall) == STATISTICS[:6]
