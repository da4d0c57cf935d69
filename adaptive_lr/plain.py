"""States as plain values: numbers, strings, None, dicts and lists, which is what `torch.load` accepts by default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def to_plain(value: Any) -> Any:
    """A state as dicts, lists and numbers: what `torch.load` accepts by default."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: to_plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(template: Any, plain: Any) -> Any:
    """The inverse of `to_plain`, for a state shaped like `template`.

    Raises:
        ValueError: the plain value has other fields than the template, or fields where the template has none.
    """
    if isinstance(template, tuple) and hasattr(template, "_fields"):
        if not isinstance(plain, dict) or set(plain) != set(template._fields):
            found = sorted(plain) if isinstance(plain, dict) else plain
            raise ValueError(f"a {type(template).__name__} must have the fields {list(template._fields)}, got {found}")
        return type(template)(**{name: from_plain(getattr(template, name), plain[name]) for name in template._fields})
    if isinstance(plain, list):
        return tuple(from_plain(None, item) for item in plain)
    if isinstance(plain, dict):
        raise ValueError(f"a NamedTuple within a state must be there from `init` on, got {plain} where it has none")
    return plain


def check_keys(name: str, given: Any, expected: Iterable[str]) -> None:
    """Refuse a saved state with other keys than expected.

    Raises:
        ValueError: `given` is no dict with exactly these keys.
    """
    keys = set(expected)
    if not isinstance(given, dict) or set(given) != keys:
        found = sorted(map(str, given)) if isinstance(given, dict) else repr(given)
        raise ValueError(f"the {name} part of a saved state must have the keys {sorted(keys)}, got {found}")
