"""What others cite is what is published: one name, one version, one title."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "CITATION.cff").is_file(), reason="the sources are not here")


def field(name: str) -> str:
    """Of the citation file, a value on the line of its name."""
    found = re.search(rf"^\s*(?:- )?{name}: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert found is not None, f"CITATION.cff has no {name}"
    return found[1].strip('"')


def test_the_citation_is_of_this_version_and_license() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (field("version"), field("license")) == (project["version"], project["license"])


def test_the_authors_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name = field("name")
    assert [author["name"] for author in project["authors"]] == [name]
    assert rf"\author{{{name}}}" in (ROOT / "paper" / "main.tex").read_text()
    assert name in (ROOT / "LICENSE").read_text()


def test_the_paper_has_the_title_that_is_cited() -> None:
    title = re.search(r"\\title\{(.+)\}", (ROOT / "paper" / "main.tex").read_text())
    assert title is not None
    assert field("title").lower().endswith(title[1].lower())
