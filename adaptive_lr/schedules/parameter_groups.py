"""Parameter groups with a learning rate for each layer, for any torch optimizer.

    layers = [model.embeddings, *model.blocks, model.head]        # from the input to the output
    optimizer = AdamW(layerwise_decay(model, layers, lr=1e-3, decay=0.75))

A schedule or a controller multiplies the rates of all groups, so their ratios stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from torch import nn

from adaptive_lr.schedules import checks

Layer: TypeAlias = nn.Module | Iterable[nn.Parameter]


def layerwise_decay(
    model: nn.Module,
    layers: Sequence[Layer],
    *,
    lr: float,
    decay: float,
    weight_decay: float | None = None,
    exempt_vectors: bool = False,
) -> list[dict[str, Any]]:
    """Groups whose learning rate falls by `decay` a layer from the output to the input.

    Howard & Ruder (2018, ULMFiT, arXiv:1801.06146, section 3.2) divide by 2.6 a layer; ELECTRA (Clark et al. 2020,
    arXiv:2003.10555) uses a decay of 0.8 to 0.9.

    Args:
        model: whose trainable parameters the layers must be.
        layers: modules or lists of parameters, from the input to the output.
        lr: the learning rate of the last layer, > 0.
        decay: the ratio of a layer's learning rate to the next one's, within (0, 1].
        weight_decay: of all groups, >= 0; None: the optimizer's default.
        exempt_vectors: weight decay 0 for parameters of fewer than two dimensions (biases, gains of
            normalisations), which then have groups of their own.

    Returns:
        Group dicts with `params`, `lr`, `name` (`layer_0` is nearest to the input, `layer_0_vectors` its vectors)
        and where said `weight_decay`, from the input to the output. Frozen parameters are left out, and layers
        without trainable ones have no group.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument is out of range, or a trainable parameter of the model is in no layer or in two, or a
            layer has one that is not the model's.
    """
    checks.number("lr", lr, above_low=True)
    checks.number("decay", decay, high=1.0, above_low=True)
    rates = [lr * decay ** (len(layers) - 1 - depth) for depth in range(len(layers))]
    return _groups(model, layers, rates, weight_decay, exempt_vectors)


def discriminative_rates(
    model: nn.Module,
    layers: Sequence[Layer],
    *,
    lr: slice,
    weight_decay: float | None = None,
    exempt_vectors: bool = False,
) -> list[dict[str, Any]]:
    """Groups whose learning rates are evenly spaced in the logarithm, as fastai's `slice` gives them.

    Args:
        model: whose trainable parameters the layers must be.
        layers: modules or lists of parameters, from the input to the output.
        lr: `slice(low, high)`: from `low` for the first layer to `high` for the last, a geometric sequence;
            `slice(high)`: `high` for the last layer and high / 10 for all others.
        weight_decay: see `layerwise_decay`.
        exempt_vectors: see `layerwise_decay`.

    Returns:
        Group dicts as of `layerwise_decay`.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: as for `layerwise_decay`.
    """
    if not isinstance(lr, slice) or lr.step is not None:
        raise TypeError(f"lr must be slice(low, high) or slice(high), got {lr!r}")
    checks.number("the high end of lr", lr.stop, above_low=True)
    last = len(layers) - 1
    if lr.start is None:
        rates = [lr.stop / 10] * last + [lr.stop]
    else:
        checks.number("the low end of lr", lr.start, above_low=True)
        ratio = lr.stop / lr.start
        rates = [lr.stop * ratio ** ((depth - last) / max(last, 1)) for depth in range(len(layers))]
    return _groups(model, layers, rates, weight_decay, exempt_vectors)


def _groups(
    model: nn.Module,
    layers: Sequence[Layer],
    rates: Sequence[float],
    weight_decay: float | None,
    exempt_vectors: bool,
) -> list[dict[str, Any]]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if len(layers) == 0:
        raise ValueError("layers must have at least one layer, got none")
    if weight_decay is not None:
        checks.number("weight_decay", weight_decay)
    checks.flag("exempt_vectors", exempt_vectors)
    contents = [_parameters(depth, layer) for depth, layer in enumerate(layers)]
    _check_each_once(model, contents)

    groups: list[dict[str, Any]] = []
    for depth, (parameters, rate) in enumerate(zip(contents, rates, strict=True)):
        name = f"layer_{depth}"
        common = {"lr": rate} if weight_decay is None else {"lr": rate, "weight_decay": weight_decay}
        vectors = [p for p in parameters if exempt_vectors and p.dim() < 2]
        matrices = [p for p in parameters if not exempt_vectors or p.dim() >= 2]
        if matrices:
            groups.append({"params": matrices, "name": name, **common})
        if vectors:
            groups.append({"params": vectors, "name": f"{name}_vectors", **common, "weight_decay": 0.0})
    return groups


def _parameters(depth: int, layer: Layer) -> list[nn.Parameter]:
    """The trainable parameters of one layer."""
    if isinstance(layer, nn.Parameter):
        raise TypeError(
            f"layers[{depth}] must be a module or a list of parameters, got a single parameter: put it in []"
        )
    parameters = list(layer.parameters() if isinstance(layer, nn.Module) else layer)
    for parameter in parameters:
        if not isinstance(parameter, nn.Parameter):
            raise TypeError(f"layers[{depth}] must hold parameters, got {type(parameter).__name__}")
    return [p for p in parameters if p.requires_grad]


def _check_each_once(model: nn.Module, contents: Sequence[Sequence[nn.Parameter]]) -> None:
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    seen: dict[int, int] = {}
    for depth, parameters in enumerate(contents):
        for parameter in parameters:
            name = names.get(id(parameter))
            if name is None:
                raise ValueError(
                    f"layers must hold parameters of the model, got one of shape {tuple(parameter.shape)} "
                    f"in layers[{depth}] that is not"
                )
            if id(parameter) in seen:
                raise ValueError(
                    f"each parameter must be in one layer only, got {name} in layers[{seen[id(parameter)]}] and "
                    f"layers[{depth}]; for tied weights give lists of parameters instead of modules"
                )
            seen[id(parameter)] = depth
    missing = [name for key, name in names.items() if key not in seen]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ValueError(f"layers must hold every trainable parameter of the model, got none of: {shown}")
