"""Which files count as a user's own, and what is hashed of this library."""

from __future__ import annotations

import abc
from pathlib import Path

import torch
from torch.utils.data import Dataset

import adaptive_lr
from adaptive_lr.study import sources
from adaptive_lr.study.digits import Digits
from adaptive_lr.study.recipe import recipe_identity


class Own(Digits, Dataset[int], abc.ABC):
    """A class of this file that inherits from this library, an installed package and the standard library."""


class Heir(Own):
    pass


def test_only_files_of_the_user_count_and_each_once() -> None:
    assert sources.own_files(Heir) == [Path(__file__).resolve()]
    assert sources.own_files(Digits) == []
    assert sources.own_files(torch.nn.Linear) == []


def test_contents_do_not_run_into_each_other() -> None:
    assert len({sources.digest(parts) for parts in ([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""])}) == 4


def test_all_that_decides_an_adaptive_run_is_hashed() -> None:
    """Each name is there, and so is every module that `AdaptiveLR` imports from this library, but the trace."""
    package = Path(adaptive_lr.__file__).parent
    assert all((package / name).exists() for name in sources.CONTROL)
    hashed = {name.removesuffix(".py") for name in sources.CONTROL}
    reached, waiting = set(), ["adaptive"]
    while waiting:
        name = waiting.pop()
        if name in reached | {"trace", "plain"}:  # `plain` turns state into plain values, and changes none
            continue
        reached.add(name)
        place = package / f"{name}.py"
        for file in [place] if place.exists() else (package / name).glob("*.py"):
            for line in file.read_text().splitlines():
                words = line.split()
                if line.startswith("from adaptive_lr."):
                    waiting.append(words[1].split(".")[1])
                elif line.startswith("from adaptive_lr import"):
                    waiting += [word.strip(",") for word in words[3:]]
    assert reached == hashed


def test_every_file_that_states_a_peer_is_there_and_part_of_its_identity() -> None:
    assert all(file.is_file() for file in sources.peer_files())
    assert recipe_identity("zclip", 100)["source"] == recipe_identity("prodigy", 100)["source"]
    assert "source" not in recipe_identity("cosine", 100)
