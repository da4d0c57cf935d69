"""What the arguments of controllers must be: each check names the argument, the rule, and the value received."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def check_number(name: str, value: Any, interval: str, *, optional: bool = False) -> None:
    """Refuse what is no real number in an interval.

    Args:
        name: of the argument.
        value: what was given.
        interval: as it is written: "(0, 1]" leaves out 0 and includes 1; "(0, inf)" is finite, "(0, inf]" need not be.
        optional: whether None will do.

    Raises:
        TypeError: it is no real number (a truth value and a string are none).
        ValueError: it is NaN or outside the interval.
    """
    if optional and value is None:
        return
    low, high = map(float, interval[1:-1].split(","))
    open_low, open_high = interval[0] == "(", interval[-1] == ")"
    rule = f"in {interval}"
    if math.isinf(high):
        rule = f"{'finite and ' if open_high else ''}{'>' if open_low else '>='} {low:g}"
    alternative = " or None" if optional else ""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, {rule}{alternative}, got {value!r}")
    number: Any = value  # compared as it is: an integer may be beyond any float
    if not low <= number <= high or (open_low and number == low) or (open_high and number == high):
        raise ValueError(f"{name} must be {rule}{alternative}, got {value}")


def check_count(name: str, value: Any, least: int = 1, *, optional: bool = False) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        TypeError: it is no integer (a truth value is none, nor is 2.0).
        ValueError: it is less.
    """
    if optional and value is None:
        return
    alternative = " or None" if optional else ""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number >= {least}{alternative}, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}{alternative}, got {value}")


def check_flag(name: str, value: Any) -> None:
    """Refuse what is not True or False.

    Raises:
        TypeError: it is something else, 1 and "yes" included.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
