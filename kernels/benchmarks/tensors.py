"""The tensors that are measured: synthetic sets of any size, and the shapes of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Shapes = tuple[tuple[int, ...], ...]

MLP: Shapes = ((256, 64), (256,), (32, 256), (32,), (32, 32), (32,))
"""A small perceptron: 25,920 parameters in 6 tensors, where only fixed costs count."""


def gpt2_blocks(width: int = 768, layers: int = 12) -> Shapes:
    """The blocks of GPT-2, 12 tensors each, and 28 vectors: 172 tensors in all, 85M parameters at full width."""
    norms: Shapes = ((width,), (width,))
    attention: Shapes = ((3 * width, width), (3 * width,), (width, width), (width,))
    perceptron: Shapes = ((4 * width, width), (4 * width,), (width, 4 * width), (width,))
    return (*(norms + attention + norms + perceptron) * layers, *((width,),) * 28)


def even(parameters: int, tensors: int) -> Shapes:
    """`tensors` vectors of the same size, `parameters` elements in all."""
    return ((parameters // tensors,),) * tensors


@dataclass(frozen=True)
class Model:
    """Parameters with gradients and momentum buffers, of no use but to be measured."""

    parameters: list[nn.Parameter]
    momenta: list[Tensor]

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, ...]], device: torch.device, dtype: torch.dtype, *, momenta: bool) -> Model:
        """Normally distributed gradients (and momentum buffers, where asked for) of these shapes; parameters are 1."""
        generator = torch.Generator(device).manual_seed(0)
        parameters = [nn.Parameter(torch.ones(shape, device=device, dtype=dtype)) for shape in shapes]

        def drawn(parameter: Tensor) -> Tensor:
            return torch.randn(parameter.shape, device=device, dtype=dtype, generator=generator)

        for parameter in parameters:
            parameter.grad = drawn(parameter)
        return cls(parameters, [drawn(parameter) for parameter in parameters] if momenta else [])

    @property
    def gradients(self) -> list[Tensor]:
        """Their gradients, asked of the parameters as an optimizer does."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    @property
    def numel(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def bytes(self) -> int:
        """Bytes of the gradients."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self.parameters)
