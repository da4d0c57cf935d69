"""What was measured of each tensor merges to what is measured of all of them."""

import pytest
import torch

from adaptive_lr_kernels import STATISTICS, measure
from adaptive_lr_kernels.merge import Segments
from adaptive_lr_kernels.parts import needed, parts_of


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    shapes = [(3, 4), (0,), (7,), (2, 2, 2), (5,)]
    gradients = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    gradients[3] = gradients[3].to(torch.complex128) + 1j
    gradients[4] = None
    parameters = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    parameters[3] = parameters[3].to(torch.complex128)
    momenta = [None if index in (2, 4) else torch.randn_like(p) for index, p in enumerate(parameters)]
    return gradients, parameters, momenta


@pytest.mark.parametrize("names", [STATISTICS, ("alignment",), ("grad_variance",), ("grad_max", "nonfinite")])
def test_parts_of_a_measurement_merge_to_its_overall_and_groups(tensors, names):
    gradients, parameters, momenta = tensors
    given = {"parameters": parameters, "momenta": momenta, "groups": [0, 1, 1, 0, 0]}
    alone = measure(gradients, statistics=needed(names), **given).per_tensor
    parts = parts_of(names, alone, gradients, [momentum is not None for momentum in momenta])
    whole = measure(gradients, statistics=names, **given)
    assert set(parts) == set(names)
    for name in names:
        overall = parts[name].merge(Segments(None, (5,))).value(name).squeeze(0)
        groups = parts[name].merge(Segments((0, 3, 4, 1, 2), (3, 2))).value(name)
        torch.testing.assert_close(overall, whole.overall[name], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(groups, whole.per_group[name], rtol=1e-12, atol=1e-12)


def test_a_value_that_is_not_finite_stays_in_the_merge(tensors):
    gradients, parameters, momenta = tensors
    gradients[0][0, 0] = torch.nan
    alone = measure(gradients, parameters=parameters, momenta=momenta).per_tensor
    parts = parts_of(STATISTICS, alone, gradients, [momentum is not None for momentum in momenta])
    for name in ("grad_norm", "grad_max", "grad_mean", "grad_variance", "alignment"):
        assert parts[name].merge(Segments(None, (5,))).value(name).isnan().all()


def test_what_merges_is_measured_once_for_both_of_its_names(tensors):
    gradients, _, _ = tensors
    alone = measure(gradients, statistics=("grad_mean", "grad_variance")).per_tensor
    parts = parts_of(("grad_mean", "grad_variance"), alone, gradients, [False] * 5)
    assert parts["grad_mean"] is parts["grad_variance"]
