"""Checks of arguments, each failing with the name, the rule and the value received."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real


def real(value: object) -> float | None:
    """A real number as a float (infinite where it is too large for one); None for anything else, bools included."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def integer(name: str, value: object, *, at_least: int) -> None:
    """Check a whole number.

    Raises:
        TypeError: it is not an integer (a bool is not one here).
        ValueError: it is below `at_least`, or above 2**53, where float64 no longer tells integers apart.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer >= {at_least}, got {value!r}")
    if int(value) < at_least:
        raise ValueError(f"{name} must be an integer >= {at_least}, got {value!r}")
    if int(value) > 2**53:
        raise ValueError(f"{name} must be at most 2**53, got {value!r}")


def number(name: str, value: object, low: float = 0.0, high: float = math.inf, *, above_low: bool = False) -> None:
    """Check a finite number within low <= value <= high; with `above_low`, low < value.

    Raises:
        TypeError: it is not a real number (a bool is not one here).
        ValueError: it is not finite or out of range.
    """
    upper = f"{high:g}]" if math.isfinite(high) else "inf)"
    rule = f"{name} must be a finite number in {'(' if above_low else '['}{low:g}, {upper}, got {value!r}"
    as_float = real(value)
    if as_float is None:
        raise TypeError(rule)
    if not math.isfinite(as_float) or not low <= as_float <= high or (above_low and as_float == low):
        raise ValueError(rule)


def choice(name: str, value: object, options: Collection[str]) -> None:
    """Check one word of a list.

    Raises:
        ValueError: it is not one of the options.
    """
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")


def flag(name: str, value: object) -> None:
    """Check a bool.

    Raises:
        TypeError: it is not one.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
