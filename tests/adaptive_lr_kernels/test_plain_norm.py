"""`plain_norm`: the norm that `measure` finds, or None where it leaves the question to `measure`."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptive_lr_kernels import measure, reference
from adaptive_lr_kernels.plain_norm import plain_norm


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def overall(gradients: list[Tensor | None]) -> float:
    return float(measure(gradients, statistics=("grad_norm",), backend="torch").overall["grad_norm"])


@st.composite
def gradients(draw: st.DrawFn) -> list[Tensor | None]:
    """Tensors of several shapes and layouts, some empty, some None, some with values that are not finite."""
    found: list[Tensor | None] = []
    for _ in range(draw(st.integers(0, 6))):
        shape = draw(st.lists(st.integers(0, 7), max_size=3))
        tensor = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
        tensor *= draw(st.sampled_from([1.0, 1e-12, 1e12]))
        if draw(st.booleans()):
            tensor = tensor.T if tensor.ndim == 2 else tensor[..., ::2] if tensor.ndim else tensor
        if tensor.numel() and draw(st.integers(0, 5)) == 0:
            tensor = tensor.clone(memory_format=draw(st.sampled_from([torch.preserve_format, torch.contiguous_format])))
            tensor[(-1,) * tensor.ndim] = draw(st.sampled_from([math.inf, -math.inf, math.nan]))
        found.append(draw(st.sampled_from([tensor, tensor, tensor, None])))
    return found


@given(gradients(), st.sampled_from([1, 5, reference.PIECE]))
def test_it_is_the_norm_that_measure_finds(tensors: list[Tensor | None], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "PIECE", piece)
        patch.setattr("adaptive_lr_kernels.plain_norm.PIECE", piece)
        found = plain_norm(tensors)
        if found is None:
            assert not all(tensor is None or reference.is_dense(tensor) for tensor in tensors)
        else:
            assert found == pytest.approx(overall(tensors), rel=1e-14, nan_ok=True)


def test_a_large_tensor_is_read_in_pieces() -> None:
    gradient = normal(2**21)
    exact = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
    assert plain_norm([gradient]) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("pair", [(math.inf, math.nan), (math.nan, math.inf)])
def test_an_infinity_beside_a_nan_is_a_nan(pair: tuple[float, float]) -> None:
    tensors: list[Tensor | None] = [torch.tensor([value]) for value in pair]
    assert math.isnan(plain_norm(tensors) or 0.0)
    assert math.isnan(overall(tensors))


@pytest.mark.parametrize(
    "other",
    [
        normal(3).double(),
        normal(3).half(),
        torch.ones(3, dtype=torch.int64),
        torch.ones(3, dtype=torch.complex64),
        normal(3).to_sparse(),
        normal(3).requires_grad_(),
        nn.Parameter(normal(3)),
        torch.empty(3, device="meta"),
        normal(3, 2)[:, 0],
        normal(1, 3).expand(2, 3),
    ],
    ids=[
        "float64",
        "float16",
        "integers",
        "complex",
        "sparse",
        "with a graph",
        "a subclass",
        "elsewhere",
        "with gaps",
        "expanded",
    ],
)
def test_what_is_not_plain_is_left_to_measure(other: Tensor) -> None:
    assert plain_norm([normal(4), other]) is None
