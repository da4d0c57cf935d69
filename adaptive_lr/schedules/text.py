"""Schedules from text, for the command line: names, calls with literal values, and chains of them.

    from_text("cosine", total_steps=1000)
    from_text("step(step_size=300, gamma=0.5)", total_steps=1000)
    from_text("warmup(steps=100).then(cosine)", total_steps=1000)      # the cosine takes the 900 steps that are left

Nothing is evaluated: the text is parsed, names are looked up in one table, values are literals.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from adaptive_lr.schedules import checks
from adaptive_lr.schedules.base import Schedule
from adaptive_lr.schedules.cycles import CosineWarmRestarts, Cyclic, OneCycle
from adaptive_lr.schedules.decays import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    MultiStep,
    Polynomial,
    Step,
)
from adaptive_lr.schedules.phases import Warmup, WarmupStableDecay, constant_with_decay, cosine_decay


class Entry(NamedTuple):
    """A schedule in the table: what builds it, and the arguments that suit a run of so many steps."""

    build: Callable[..., Schedule]
    arguments: Callable[[int], Mapping[str, Any]]


REGISTRY: Mapping[str, Entry] = {
    "constant": Entry(Constant, lambda _: {}),
    "step": Entry(Step, lambda n: {"step_size": math.ceil(n / 3)}),
    "multi_step": Entry(MultiStep, lambda n: {"milestones": (n // 2, n * 3 // 4)}),
    "exponential": Entry(Exponential, lambda n: {"gamma": 0.01, "decay_steps": n}),
    "polynomial": Entry(Polynomial, lambda n: {"total_iters": n, "power": 2.0}),
    "linear": Entry(Linear, lambda n: {"total_iters": n, "start_factor": 1.0, "end_factor": 0.0}),
    "cosine": Entry(Cosine, lambda n: {"T_max": n}),
    "cosine_decay": Entry(cosine_decay, lambda n: {"decay_steps": max(n - n // 10, 1), "warmup_steps": n // 10}),
    # 1 + 2 + 4 = 7 parts; rounded up, so that no new cycle starts at the very end
    "cosine_warm_restarts": Entry(CosineWarmRestarts, lambda n: {"T_0": math.ceil(n / 7), "T_mult": 2}),
    "cyclic": Entry(Cyclic, lambda n: {"step_size_up": math.ceil(n / 6)}),
    "one_cycle": Entry(OneCycle, lambda n: {"total_steps": n}),
    "inverse_sqrt": Entry(InverseSqrt, lambda n: {"timescale": max(n // 10, 1)}),
    "warmup": Entry(Warmup, lambda n: {"steps": n // 10}),
    "warmup_stable_decay": Entry(WarmupStableDecay, lambda n: {"total_steps": n, "warmup_steps": n // 10}),
    "constant_with_decay": Entry(constant_with_decay, lambda n: {"total_steps": n}),
}
"""Name -> how to build it. The keys are the names in `adaptive_lr.schedules`."""

METHODS = ("then", "times", "temperature")
"""What may follow a schedule in a chain."""


def from_text(text: str, *, total_steps: int) -> Schedule:
    """Build a schedule from text.

    Args:
        text: a name, a call `name(argument=value, ...)` with literal values, or a chain with `.then(...)`,
            `.times(...)` and `.temperature(...)`. For every schedule, `from_text(repr(schedule), ...) == schedule`.
        total_steps: the length of the run, >= 1; arguments that are not given are made to suit it.

    Raises:
        ValueError: the text is not of that form, has an unknown name or argument, or a value is out of range.
        TypeError: a value is of the wrong type.
    """
    checks.integer("total_steps", total_steps, at_least=1)
    try:
        expression = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise ValueError(f"text must be like 'cosine' or 'step(step_size=300)', got {text!r}") from None
    return _build(expression, total_steps)


def _build(node: ast.expr, total_steps: int) -> Schedule:
    """Build the schedule of one expression, which has `total_steps` steps left to it."""
    if isinstance(node, ast.Name):
        return _call(node.id, [], {}, total_steps)
    if isinstance(node, ast.Call) and all(keyword.arg for keyword in node.keywords):
        if isinstance(node.func, ast.Name):
            positional = [_literal(argument) for argument in node.args]
            named = {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
            return _call(node.func.id, positional, named, total_steps)
        if isinstance(node.func, ast.Attribute):
            return _chain(node.func, node, total_steps)
    raise ValueError(f"a schedule must be a name or a call like 'step(step_size=300)', got {ast.unparse(node)!r}")


def _call(name: str, positional: list[Any], named: dict[str, Any], total_steps: int) -> Schedule:
    if name not in REGISTRY:
        raise ValueError(f"the schedule must be one of {', '.join(sorted(REGISTRY))}, got {name!r}")
    entry = REGISTRY[name]
    parameters = inspect.signature(entry.build).parameters
    accepted = [key for key, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    if len(positional) > len(accepted):
        raise ValueError(f"{name} must have at most {len(accepted)} arguments without a name, got {len(positional)}")
    given = dict(zip(accepted, positional, strict=False))
    for key in named:
        if key not in parameters:
            raise ValueError(f"the arguments of {name} must be among {', '.join(parameters)}, got {key!r}")
        if key in given:
            raise ValueError(f"each argument of {name} must be given once, got {key!r} twice")
    given |= named
    return entry.build(**(dict(entry.arguments(total_steps)) | given))


def _chain(function: ast.Attribute, call: ast.Call, total_steps: int) -> Schedule:
    """Build `schedule.method(argument)`."""
    first = _build(function.value, total_steps)
    method = function.attr
    named = {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    if method not in METHODS:
        raise ValueError(f"what follows a schedule must be one of {', '.join(METHODS)}, got {method!r}")
    if len(call.args) != 1 or set(named) - ({"after"} if method == "then" else set()):
        raise ValueError(f"{method} must have one argument (then: also after=), got {ast.unparse(call)!r}")
    argument = call.args[0]
    if method == "then":
        # The join is needed before what follows it, whose arguments are to suit the steps that are left.
        after = first.then(Constant(), **named).after
        return first.then(_build(argument, max(total_steps - after, 1)), after=after)
    if method == "temperature":
        return first.temperature(_literal(argument))
    return first.times(_literal(argument) if _is_literal(argument) else _build(argument, total_steps))


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _literal(node: ast.expr) -> Any:
    if not _is_literal(node):
        raise ValueError(f"a value must be a literal such as 0.1, 'cos' or (30, 60), got {ast.unparse(node)!r}")
    return ast.literal_eval(node)
