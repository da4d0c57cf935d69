"""Parameter groups with a learning rate for each layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from adaptive_lr.schedules import cosine
from adaptive_lr.schedules.parameter_groups import discriminative_rates, layerwise_decay


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), nn.Linear(8, 2, bias=False))


def assert_each_once(model: nn.Module, groups: list[dict[str, Any]]) -> None:
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_layerwise_decay_falls_by_the_decay_a_layer_from_the_output() -> None:
    model = network()
    groups = layerwise_decay(model, list(model), lr=0.1, decay=0.5)
    assert [group["lr"] for group in groups] == [0.025, 0.05, 0.1]
    assert [group["name"] for group in groups] == ["layer_0", "layer_1", "layer_2"]
    assert all("weight_decay" not in group for group in groups)
    assert_each_once(model, groups)


def test_vectors_can_be_exempt_from_weight_decay() -> None:
    """Biases and gains get groups of their own, same rate, weight decay 0; matrices keep theirs."""
    model = network()
    groups = layerwise_decay(model, list(model), lr=0.1, decay=0.5, weight_decay=0.2, exempt_vectors=True)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in groups] == [
        ("layer_0", 0.025, 0.2),
        ("layer_0_vectors", 0.025, 0.0),
        ("layer_1", 0.05, 0.2),
        ("layer_1_vectors", 0.05, 0.0),
        ("layer_2", 0.1, 0.2),
    ]
    for group in groups:
        assert {p.dim() for p in group["params"]} == ({1} if "vectors" in group["name"] else {2})
    assert_each_once(model, groups)


def test_an_unsaid_weight_decay_is_the_optimizers() -> None:
    model = network()
    groups = layerwise_decay(model, list(model), lr=0.1, decay=0.5, exempt_vectors=True)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.3)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.0, 0.3, 0.0, 0.3]


def test_discriminative_rates_are_fastais_even_multiples() -> None:
    """In fastai slice(1e-5, 1e-3) over three layers is 1e-5, 1e-4, 1e-3; slice(1e-3) a tenth for all but the last."""
    model = network()
    rates = [g["lr"] for g in discriminative_rates(model, list(model), lr=slice(1e-5, 1e-3))]
    assert rates == pytest.approx([1e-5, 1e-4, 1e-3], rel=1e-14)
    rates = [g["lr"] for g in discriminative_rates(model, list(model), lr=slice(1e-3))]
    assert rates == [1e-4, 1e-4, 1e-3]
    assert [g["lr"] for g in discriminative_rates(model, [model], lr=slice(1e-5, 1e-3))] == [1e-3]


def test_a_schedule_keeps_the_ratios_of_the_layers() -> None:
    model = network()
    optimizer = torch.optim.SGD(layerwise_decay(model, list(model), lr=0.1, decay=0.5))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine(10))
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [rate * cosine(10)(5) for rate in (0.025, 0.05, 0.1)]


def test_frozen_parameters_are_left_out_and_layers_may_be_lists() -> None:
    model = network()
    model[0].requires_grad_(False)
    weight, bias = model[1][0].weight, model[1][0].bias  # type: ignore[index]
    rest = [*model[1][1].parameters(), *model[2].parameters()]  # type: ignore[index]
    groups = layerwise_decay(model, [model[0], [weight], iter([bias]), rest], lr=0.1, decay=0.5)
    assert [g["name"] for g in groups] == ["layer_1", "layer_2", "layer_3"], "depth counts layers, frozen ones too"
    assert groups[0]["lr"] == 0.025
    assert_each_once(model, groups)


def test_tied_weights_go_where_the_lists_put_them() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "body": nn.Linear(3, 3), "head": nn.Linear(3, 5)})
    model["head"].weight = model["embedding"].weight
    with pytest.raises(ValueError, match=r"embedding\.weight in layers\[0\] and layers\[2\]; for tied weights"):
        layerwise_decay(model, list(model.values()), lr=0.1, decay=0.5)
    groups = layerwise_decay(model, [model["embedding"], model["body"], [model["head"].bias]], lr=0.1, decay=0.5)  # type: ignore[list-item]
    assert_each_once(model, groups)


def test_a_parameter_in_no_layer_is_an_error_that_names_it() -> None:
    model = network()
    with pytest.raises(ValueError, match=r"every trainable parameter .*2\.weight"):
        layerwise_decay(model, list(model)[:2], lr=0.1, decay=0.5)
    deep = nn.ModuleList(nn.Linear(2, 2) for _ in range(5))
    with pytest.raises(ValueError, match="and 3 more"):
        layerwise_decay(deep, [deep[0]], lr=0.1, decay=0.5)


def test_a_parameter_of_another_model_is_an_error() -> None:
    model = network()
    with pytest.raises(ValueError, match=r"parameters of the model, got one of shape \(2, 2\) in layers\[3\]"):
        layerwise_decay(model, [*model, nn.Linear(2, 2)], lr=0.1, decay=0.5)


def test_bad_arguments_are_refused() -> None:
    model = network()
    layers = list(model)
    for wrong, message in [
        ({"lr": 0.0}, "lr must"),
        ({"decay": 1.1}, "decay must"),
        ({"decay": 0.0}, "decay must"),
        ({"weight_decay": -1.0}, "weight_decay must"),
    ]:
        with pytest.raises(ValueError, match=message):
            layerwise_decay(model, layers, **{"lr": 0.1, "decay": 0.5, **wrong})
    with pytest.raises(ValueError, match="at least one layer"):
        layerwise_decay(model, [], lr=0.1, decay=0.5)
    with pytest.raises(TypeError, match="exempt_vectors must"):
        layerwise_decay(model, layers, lr=0.1, decay=0.5, exempt_vectors=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        layerwise_decay([model], layers, lr=0.1, decay=0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"layers\[0\] must hold parameters, got Linear"):
        layerwise_decay(model, [layers], lr=0.1, decay=0.5)  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"layers\[0\] must be a module or a list of parameters"):
        layerwise_decay(model, [model[0].weight], lr=0.1, decay=0.5)
    for lr in (1e-3, slice(1e-5, 1e-3, 2), slice(None)):
        with pytest.raises(TypeError, match="lr must"):
            discriminative_rates(model, layers, lr=lr)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="low end of lr must"):
        discriminative_rates(model, layers, lr=slice(0.0, 1e-3))
