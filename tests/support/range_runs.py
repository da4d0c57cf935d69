"""A training run with everything in it that a range test must leave alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from adaptive_lr import range_test

SHORT = {"start_lr": 1e-5, "end_lr": 1.0, "steps": 12}


class Net(nn.Module):
    """Dropout, batch normalisation, a frozen layer, an unused parameter, a buffer that is replaced, and own noise."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.frozen = nn.Linear(3, 3)
        self.frozen.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + 1.0
        hidden = F.dropout(torch.tanh(self.norm(self.first(x))), 0.2, training=self.training)
        return self.frozen(self.second(hidden + 0.01 * np.random.randn() + 0.01 * random.random()))  # noqa: NPY002


@dataclass
class Run:
    """A small training run with everything that could be left changed."""

    make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
    scaler: torch.amp.GradScaler | None = None
    autocast: bool = False
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        self.model = Net()
        biases = [p for p in self.model.parameters() if p.dim() < 2]
        matrices = [p for p in self.model.parameters() if p.dim() >= 2]
        self.optimizer = self.make([{"params": matrices, "lr": 0.02}, {"params": biases, "lr": 0.002}])
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 20)
        x = torch.randn(40, 6)
        data = TensorDataset(x, x[:, :3].argmax(1))
        sampler = RandomSampler(data, generator=torch.Generator().manual_seed(1))
        self.loader = DataLoader(data, 8, sampler=sampler, generator=torch.Generator().manual_seed(2))

    def train(self, epochs: int) -> None:
        self.model.train()
        for _ in range(epochs):
            for x, y in self.loader:
                with torch.autocast("cpu", enabled=self.autocast):
                    loss = F.cross_entropy(self.model(x), y)
                self.optimizer.zero_grad()
                if self.scaler is None:
                    loss.backward()
                    self.optimizer.step()
                else:
                    self.scaler.scale(loss).backward()
                    self.scaler.step(self.optimizer)
                    self.scaler.update()
                self.scheduler.step()
                self.losses.append(loss.item())

    def sweep(self, **arguments: Any) -> Any:
        autocast = torch.autocast("cpu") if self.autocast else None
        arguments = {"scaler": self.scaler, "autocast": autocast, **SHORT, **arguments}
        batches = arguments.pop("batches", self.loader)
        return range_test(self.model, self.optimizer, arguments.pop("loss_fn", F.cross_entropy), batches, **arguments)

    def everything(self) -> list[Any]:
        """All there is, bit by bit and object by object."""
        numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002
        seen: list[Any] = [numpy_state, random.getstate(), torch.get_rng_state().tolist()]
        seen += [self.loader.generator.get_state().tolist(), self.loader.sampler.generator.get_state().tolist()]
        seen += [(name, id(p), p.requires_grad, bits(p), bits(p.grad)) for name, p in self.model.named_parameters()]
        seen += [(name, id(b), bits(b)) for name, b in self.model.named_buffers()]
        seen += [module.training for module in self.model.modules()]
        seen += [plain(self.optimizer.state), plain(self.optimizer.param_groups), plain(vars(self.optimizer))]
        seen += [plain(self.scheduler.state_dict()), None if self.scaler is None else plain(vars(self.scaler))]
        seen += [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in self.model.modules()]
        return seen


def bits(tensor: torch.Tensor | None) -> tuple[int, bytes] | None:
    return None if tensor is None else (id(tensor), tensor.detach().cpu().numpy().tobytes())


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return bits(value)
    if isinstance(value, dict):
        return [(id(key) if isinstance(key, torch.Tensor) else key, plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, int | float | str | bool) else id(value)


def adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups)


OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "SGD": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "AdamW": adamw,
    "AdamW fused, amsgrad": lambda groups: torch.optim.AdamW(groups, fused=True, amsgrad=True),
    "Adam, one tensor for all": lambda groups: torch.optim.Adam(
        [{**group, "lr": shared} for shared in [torch.tensor(0.01)] for group in groups]
    ),
    "RMSprop, centred": lambda groups: torch.optim.RMSprop(groups, centered=True, momentum=0.9),
    **{
        name: lambda groups, name=name: getattr(torch.optim, name)(groups)
        for name in ("Adadelta", "Adafactor", "Adagrad", "Adamax", "ASGD", "NAdam", "RAdam", "Rprop")
    },
}
