"""`cosine+guarded` taken apart: recipes without one of its laws, and with one of them alone.

Whatever laws `controllers.guarded()` is made of, `experiments.guarded_parts:without_NAME` is the recipe that lacks the
law of that name (as traces call it), and `experiments.guarded_parts:only_NAME` the one that has no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from adaptive_lr.controllers import Composition, guarded
from adaptive_lr.study.recipe import RECIPES, Recipe

WITHOUT, ONLY = "without_", "only_"

LAWS = guarded().names
"""Names of the laws that the guarded set is made of."""


def part(keep: Callable[[str], bool]) -> Composition:
    """The guarded set, with those of its laws whose names are kept."""
    whole = guarded()
    return replace(whole, controllers=tuple(law for name, law in zip(whole.names, whole, strict=True) if keep(name)))


def variants() -> list[str]:
    """References to all recipes that are to be compared with the whole set; a part that is the whole is none."""
    names = [f"{WITHOUT}{law}" for law in LAWS] + [f"{ONLY}{law}" for law in LAWS if len(LAWS) > 2]
    return [f"{__name__}:{name}" for name in names] if len(LAWS) > 1 else []


def __getattr__(attribute: str) -> Recipe:
    """The recipe of that name; so a reference to it is found like any user's."""
    if attribute.startswith(WITHOUT) and attribute.removeprefix(WITHOUT) in LAWS:
        left_out = attribute.removeprefix(WITHOUT)
        return _recipe(attribute, f"without {left_out}", lambda name: name != left_out)
    if attribute.startswith(ONLY) and attribute.removeprefix(ONLY) in LAWS:
        alone = attribute.removeprefix(ONLY)
        return _recipe(attribute, f"by {alone} alone", lambda name: name == alone)
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")


def _recipe(attribute: str, how: str, keep: Callable[[str], bool]) -> Recipe:
    whole = RECIPES["cosine+guarded"]
    description = f"{RECIPES['cosine'].description}; guarded {how}"
    name = attribute.replace("_", " ")
    return replace(whole, name=name, description=description, controllers=lambda _: part(keep))
