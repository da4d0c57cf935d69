"""Words for numbers, lists and actions, with which a trace is told."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 100
"""Columns."""

REFLEXES = {"damp", "clip", "skip"}  # of one update; the value that decided is that update's own

_DONE = {  # action -> what was done once, and several times
    "damp": ("damped the gradient", "damped {} updates"),
    "clip": ("clipped the gradient", "clipped {} updates"),
    "skip": ("skipped the update", "skipped {} updates"),
    "back off": ("backed off", "backed off {}"),
    "change": ("made a change", "made a change {}"),
    "brake": ("braked", "braked {}"),
    "cut": ("cut the factor", "cut the factor {}"),
    "recover": ("recovered", "recovered {}"),
    "rewind": ("rewound the run", "rewound the run {}"),
    "rescue": ("took the run back and cut the factor", "took the run back and cut the factor {}"),
    "hold": ("held the learning rate", "adjusted the held learning rate {}"),
    "sweep": ("began a sweep", "began a sweep {}"),
    "trial": ("made a trial update", "made a trial update {}"),
    "peak": ("set the peak", "set the peak {}"),
    "rehearse": ("began rehearsals", "began rehearsals {}"),
    "rehearsed": ("rehearsed", "rehearsed {}"),
    "confirm": ("chose among rehearsals", "chose among rehearsals {}"),
    "probe": ("tried ten times the peak", "tried higher peaks {}"),
    "suspect": ("suspected the learning rate", "suspected the learning rate {}"),
    "compare": ("took it back to compare", "took it back to compare {}"),
    "raise": ("raised the peak", "raised the peak {}"),
    "clear": ("lifted the cut", "lifted the cut {}"),
    "release": ("let the learning rate go", "let the learning rate go {}"),
    "stop": ("asked to stop", "asked to stop {}"),
}


def done(action: str, count: int) -> str:
    """What was done, once or several times."""
    once, several = _DONE.get(action, (f'did "{action}"', f'did "{action}" {{}}'))
    if count == 1:
        return once
    if action in REFLEXES:
        return several.format(f"{count:,}")
    return several.format(times(count))


def times(count: int) -> str:
    """Such as "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def plural(count: int, noun: str) -> str:
    """Such as "1 update", "2 updates"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def steps_in_words(steps: Sequence[int], noun: str) -> str:
    """Such as "update 3", "updates 3 and 5"."""
    return f"{noun}{'' if len(steps) == 1 else 's'} {listed([f'{step:,}' for step in steps])}"


def listed(items: Sequence[str]) -> str:
    """Such as "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def number(value: float) -> str:
    """A number to four digits."""
    return f"{value:.4g}"


def fill(text: str, *, indent: int = 0) -> str:
    """A paragraph, `WIDTH` columns wide."""
    space = " " * indent
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=space,
        subsequent_indent=space,
        break_long_words=False,
        break_on_hyphens=False,
    )
