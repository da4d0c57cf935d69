"""Recipes and optimizers as a user would write them, and some that are broken in one way each."""

from __future__ import annotations

from dataclasses import replace

import torch

from adaptive_lr import controllers
from adaptive_lr.study import RECIPES, BaseSchedule, OptimizerChoice, Recipe, Setting


def _constant(optimizer, total_steps):
    return BaseSchedule()


def _halved(optimizer, total_steps, share: float = 1.0):
    def update(loss):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad.mul_(share)
        optimizer.step()

    return update


def _never(optimizer, total_steps):
    return lambda loss: None


class Switched(torch.optim.SGD):
    """Keeps its weights aside and shows zeros in evaluations."""

    def eval(self):
        self.kept = [parameter.detach().clone() for group in self.param_groups for parameter in group["params"]]
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.zero_()

    def train(self):
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        with torch.no_grad():
            for parameter, value in zip(parameters, self.kept, strict=True):
                parameter.copy_(value)


class Told(torch.optim.SGD):
    """Is told when it is judged, and has one set of weights all the same."""

    def eval(self):
        pass

    def train(self):
        pass


class LossWatcher:
    """Halves the learning rate with every loss it is shown."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self, loss):
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.5


SCALED = Recipe(
    "scaled", "gradients times share", _constant, update=_halved, settings={"share": Setting(1.0, 0.1, 2.0)}
)
IDLE = Recipe("idle", "no update at all", _constant, update=_never)
SWITCHED = Recipe("switched", "judged elsewhere", _constant, optimizer=lambda c, p, lr, n: Switched(p, lr=lr))
TOLD = Recipe("told", "constant", _constant, optimizer=lambda c, p, lr, n: Told(p, lr=lr))
WATCHED = Recipe("watched", "halved each step", lambda o, n: BaseSchedule(per_loss=LossWatcher(o)))
FOR_ADAMW = Recipe("for AdamW", "constant", _constant, optimizers=("adamw",), default_lrs={"adamw": 0.01})
NEEDS_MORE = Recipe("needs", "constant", _constant, requires=("no_such_module", "adaptive-lr[peers]"))
RAISES = replace(RECIPES["cosine"], name="raises", schedule=lambda optimizer, total_steps, warmup_share=0.1: 1 / 0)
LION = OptimizerChoice("sign descent", lambda parameters, lr: torch.optim.Rprop(parameters, lr=lr), default_lr=0.01)
NOTHING = "no recipe"

ROOT = Recipe("root", "1/sqrt", lambda o, n: torch.optim.lr_scheduler.LambdaLR(o, lambda step: (1 + step) ** -0.5))
STEADY = Recipe("steady", "constant", lambda o, n: None)
ON_PLATEAU = Recipe(
    "on plateau",
    "a tenth after every evaluation",
    lambda o, n: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=1.0),
)
NO_SCHEDULE = Recipe("a factor", "what is no schedule", lambda o, n: 3)  # type: ignore[arg-type,return-value]


def _raise_for_laws(total_steps):
    raise RuntimeError("no laws today")


ONE_LAW = Recipe("law", "a law", _constant, lambda n: controllers.GradientSpike())
LAWS = replace(ONE_LAW, controllers=lambda n: [controllers.GradientSpike()])
COMPOSED = replace(ONE_LAW, controllers=lambda n: controllers.compose(controllers.GradientSpike()))
LAWS_RAISE = replace(ONE_LAW, name="LAWS_RAISE", controllers=_raise_for_laws)
NO_LAWS = replace(ONE_LAW, name="NO_LAWS", controllers=lambda n: 3)
