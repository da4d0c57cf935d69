"""Which files count as a user's own, and what is hashed of this library."""

from __future__ import annotations

import abc
import ast
import codecs
import io
import tokenize
from pathlib import Path

import pytest
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


SOURCE = b'''"""What the file is for."""

import math  # for pi


def area(radius: float) -> float:
    """Of a circle."""
    text = """

# no comment"""
    # why
    return math.pi * radius**2 + len(text) + len(
        # inside
        "a string"  # of an argument
    )


HEIGHT = 3
"""In metres."""
'''

CODE = b'''import math
def area(radius: float) -> float:
    text = """

# no comment"""
    return math.pi * radius**2 + len(text) + len(
        "a string"
    )
HEIGHT = 3
'''


def test_words_are_left_out_of_the_code_and_nothing_else() -> None:
    assert sources.code(SOURCE) == CODE
    assert sources.code(CODE) == CODE


def test_every_token_of_this_library_but_its_words_is_left() -> None:
    """Where docstrings stand is read from the syntax tree, which `code` does not use."""
    for file in sorted(Path(adaptive_lr.__file__).parent.rglob("*.py")):
        whole = file.read_bytes()
        texts = {
            (node.value.lineno, node.value.col_offset)
            for node in ast.walk(ast.parse(whole))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        }
        wanted = [part.string for part in _tokens(whole) if part.start not in texts]
        assert [word for word in _words(sources.code(whole)) if word] == [word for word in wanted if word.strip()], file


def _tokens(source: bytes) -> list[tokenize.TokenInfo]:
    left_out = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return [part for part in tokenize.tokenize(io.BytesIO(source).readline) if part.type not in left_out]


def _words(source: bytes) -> list[str]:
    return [part.string for part in _tokens(source)]


@pytest.mark.parametrize("source", [b"", b"x = (", b"\xff\xfe\x00", b"{not python"])
def test_what_cannot_be_read_as_python_stays_as_it_is(source: bytes) -> None:
    assert sources.code(source) == source


def test_line_endings_and_words_on_one_line_make_no_difference() -> None:
    assert sources.code(b"x = 1  # one\r\n\r\ny = 2\r\n") == sources.code(b"x = 1\ny = 2\n")
    assert sources.code(b'class A:\n    """Words."""  # more\n    x = 1\n') == b"class A:\n    x = 1\n"


@pytest.mark.parametrize("prefix", ["f", "F", "rf", "fR"])
def test_an_f_string_of_its_own_computes_something_and_stays(prefix: str) -> None:
    source = f'def f():\n    {prefix}"{{g()}}"\n    r"words"\n'.encode()
    assert sources.code(source) == source.replace(b'    r"words"\n', b"")


def test_a_byte_order_mark_shifts_nothing() -> None:
    marked = [codecs.BOM_UTF8 + text for text in (b"x = 1#5\n", b"x = 2#5\n", b'"""Words."""\nx = 1\n')]
    assert [sources.code(source) for source in marked] == [b"x = 1\n", b"x = 2\n", b"x = 1\n"]


def test_the_digest_of_files_changes_with_code_and_not_with_words(tmp_path: Path) -> None:
    file = tmp_path / "workload.py"
    digests = []
    for text in ("RATE = 0.1\n", '"""Mended."""\n\nRATE = 0.1  # why\n', "RATE = 0.2\n"):
        file.write_text(text)
        digests.append(sources.code_digest([file]))
    assert digests[0] == digests[1] != digests[2]
