"""A small run, written through the public API of `Trace` as a training loop would."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from adaptive_lr.controllers import Composition, Decision, compose
from adaptive_lr.controllers.composition import CompositionState
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.trace import Header, Trace, Update, describe_controllers


class Run:
    """A loop without a model: invented gradients and losses, real laws, a real trace."""

    def __init__(self, trace: Trace, controllers: Any = (), *, groups: tuple[str, ...] = ("0",), begin: bool = True):
        self.composition: Composition = compose(controllers)
        self.trace = trace
        self.groups = groups
        self.step = 0
        self.seen = 0
        self.rows: list[Statistics] = []
        self.updates: list[Update] = []
        self.decisions: list[Decision] = []
        self.state = self.composition.init()
        if begin:
            trace.begin(Header("SGD", groups, describe_controllers(self.composition)))
            self.consider(Statistics(0, Phase.START))

    def consider(self, row: Statistics) -> Any:
        self.trace.record(row)
        self.state, outcome = self.composition.update(self.state, row)
        self.trace.record_decisions(outcome.decisions)
        self.seen += 1
        self.rows.append(row)
        self.decisions += outcome.decisions
        return outcome

    def train(self, steps: int) -> Run:
        for _ in range(steps):
            noise = random.Random(self.step)
            measured = {"grad_norm": math.exp(noise.gauss(0.0, 0.5)), "grad_score": noise.gauss(0.0, 1.0)}
            groups = tuple({"grad_norm": noise.random()} for _ in self.groups)
            outcome = self.consider(Statistics(self.step, Phase.BEFORE, measured, groups))
            factor, base = self.composition.factor(self.state), 0.1 / (self.step + 3)
            count = len(self.groups)
            update = Update(
                step=self.step,
                lr=(base * factor,) * count,
                base_lr=(base,) * count,
                momentum=(0.9,) * count,
                base_momentum=(0.9,) * count,
                factor=factor,
                factors=self.state.factors,
                damp=outcome.damp,
                skipped=outcome.skip,
            )
            self.trace.record_update(update)
            self.updates.append(update)
            self.consider(Statistics(self.step, Phase.AFTER, {**measured, "loss": noise.random()}, groups))
            self.step += 1
        return self

    def observe(self, **metrics: float) -> None:
        self.consider(Statistics(self.step, Phase.OBSERVATION, metrics))

    def save(self) -> tuple[int, int, CompositionState]:
        return self.step, self.seen, self.state

    def load(self, saved: tuple[int, int, CompositionState], *, count_rows: bool = True) -> None:
        self.step, self.seen, self.state = saved
        self.trace.resume(self.step, rows=self.seen if count_rows else None)


@pytest.fixture
def run() -> Callable[..., Run]:
    return Run
