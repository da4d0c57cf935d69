"""Words for actions: there are some for every action that a law of this package takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adaptive_lr import controllers
from adaptive_lr.trace.wording import done

SOURCES = sorted(Path(controllers.__file__).parent.glob("*.py"))
ACTIONS = sorted({action for source in SOURCES
                  for action in re.findall(r'[Rr]eason\(\s*"([a-z ]+)"', source.read_text())})  # fmt: skip


def test_actions_are_found_in_the_laws() -> None:
    assert {"back off", "clear", "rescue", "suspect"} <= set(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_of_a_law_is_told_in_words(action: str) -> None:
    for count in (1, 2, 5):
        assert not done(action, count).startswith("did ")


def test_an_action_of_a_law_of_ones_own_is_told_by_its_name() -> None:
    assert done("stretch", 1) == 'did "stretch"'
    assert done("stretch", 3) == 'did "stretch" 3 times'
