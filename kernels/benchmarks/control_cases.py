"""What control costs in use: alone, on an optimizer whose step does nothing, and in a whole training step."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import Composition, Rescue, guarded
from benchmarks import rivals
from benchmarks.cases import Row, rows_of
from benchmarks.gpt import GPT, Size
from benchmarks.tensors import Model, Shapes
from benchmarks.timing import Way, compare

WATCHED = 4
"""Updates that `Rescue` watches where the steady state is timed: the same laws at rest, without 200 updates before."""

FOREVER = 10**9


class Still(Optimizer):
    """An optimizer whose step does nothing."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 1e-3, "momentum": 0.9})

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Does nothing, but with its hooks."""


def watching(steps: int) -> Composition:
    """`guarded()` with another length of `Rescue`'s watch."""
    laws = guarded()
    return dataclasses.replace(
        laws,
        controllers=tuple(
            dataclasses.replace(law, watch_steps=steps) if isinstance(law, Rescue) else law for law in laws
        ),
    )


class Controlled:
    """A still optimizer under `guarded()` control, with the loss of a run that goes well."""

    def __init__(self, model: Model, watch_steps: int, update_ratios_every: int | None = None) -> None:
        self.optimizer = Still(model.parameters)
        self.control = AdaptiveLR(self.optimizer, watching(watch_steps), update_ratios_every=update_ratios_every)
        self.losses = (2.0 / (1.0 + 1e-3 * step) + 0.01 * (step % 7) for step in itertools.count())

    def step(self) -> None:
        """One update."""
        self.optimizer.step()
        self.control.step(next(self.losses))


def control_cases(name: str, shapes: Shapes, device: torch.device, *, bandwidth: float, turns: int) -> Iterator[Row]:
    """Control alone, at rest and while it watches, against one norm pass and against clipping.

    What the optimizer's own empty step costs is taken off, turn by turn.
    """
    model = Model.of(shapes, device, torch.float32, momenta=False)
    plain = Still(model.parameters)
    steady, watched, sampled = Controlled(model, WATCHED), Controlled(model, FOREVER), Controlled(model, WATCHED, 1)
    for _ in range(160):  # the window of norms is full
        steady.step()
        sampled.step()
    timings = compare(
        {
            "torch._foreach_norm": Way(lambda: torch._foreach_norm(model.gradients)),
            "clip_grad_norm_": Way(partial(rivals.clip, model)),
            "nothing": Way(plain.step),
            "guarded(), steady state": Way(steady.step),
            "guarded(), watching": Way(watched.step),
            "guarded(), every tensor's ratio sampled": Way(sampled.step),
        },
        device,
        turns=turns,
    )
    nothing = timings.pop("nothing")
    timings = {way: t.minus(nothing) if way.startswith("guarded") else t for way, t in timings.items()}
    yield from rows_of(
        f"control of {name}", timings, "torch._foreach_norm", model, read=model.bytes, bandwidth=bandwidth
    )


class Training:
    """A model in training: one call is one whole step."""

    def __init__(self, size: Size, device: torch.device, *, guard: bool, clip: bool) -> None:
        torch.manual_seed(0)
        self.model = GPT(size).to(device)
        self.clip = clip
        cuda = device.type == "cuda"
        self.precision = torch.autocast(device.type, torch.bfloat16, enabled=cuda)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4, fused=cuda)
        self.control = AdaptiveLR(self.optimizer, watching(WATCHED), model=self.model) if guard else None
        self.text = torch.randint(size.vocabulary, (size.sequences, size.context + 1), device=device)

    def step(self) -> None:
        """One update."""
        with self.precision:
            loss = self.model(self.text)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if self.control is not None:
            self.control.step(loss)


def training_cases(size: Size, device: torch.device, *, turns: int) -> Iterator[Row]:
    """Whole training steps without control, with it, and with the clipping that it replaces."""
    runs = {
        "no control": Training(size, device, guard=False, clip=False),
        "guarded()": Training(size, device, guard=True, clip=False),
        "clip_grad_norm_": Training(size, device, guard=False, clip=True),
    }
    for run in runs.values():
        for _ in range(WATCHED + 4):
            run.step()
    # Whole steps fill the queue by themselves; a reading of the loss by the host would be one of its waits.
    timings = compare({name: Way(run.step, waits=True) for name, run in runs.items()}, device, turns=turns)
    parameters = list(runs["no control"].model.parameters())
    case = f"training step of {size.name}, {size.tokens} tokens"
    yield from rows_of(case, timings, "no control", Model(parameters, []), read=0, bandwidth=None)
