"""The README's code runs as it stands, and its figure and links exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is not beside the tests")


def blocks(language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.mark.parametrize("index", range(4))
def test_every_python_block_runs(index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks()[index]
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, f"README block {index}", "exec", dont_inherit=True), namespace)
    if "control" in namespace:
        assert namespace["loss"] < 12.0
        namespace["control"].detach()
        assert (tmp_path / "runs/mine/trace.jsonl").exists()
    if "HalveOnHighLoss" in namespace:
        factors = [a.factor for a in namespace["HalveOnHighLoss"]().simulate([{"loss": 3.0}, {"loss": 20.0}])]
        assert factors == [1.0, 0.5]


def test_no_block_is_left_out() -> None:
    assert (len(blocks()), len(blocks("toml"))) == (4, 1)


def test_a_model_of_ones_own_is_compared_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two files, with fewer seeds and points for the time of this test, by its command."""
    from click.testing import CliRunner

    from adaptive_lr.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_workload.py").write_text(next(block for block in blocks() if "class MyWorkload" in block))
    (tmp_path / "my_recipes.py").write_text(next(block for block in blocks() if "MINE = Recipe" in block))
    (declared,) = blocks("toml")
    declared = declared.replace('"wsd"]', '"wsd", "my_recipes.py:MINE"]')
    assert "my_recipes.py:MINE" in declared.partition("#")[0]
    small = declared.replace("grid-7", "grid-2").replace("seeds = 10", "seeds = 1").replace("seeds = 2", "seeds = 1")
    (tmp_path / "study.toml").write_text(small)
    result = CliRunner().invoke(main, ["study", "run", "study.toml", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    tables = "".join(path.read_text() for path in (tmp_path / "runs/study/reports").rglob("*.md"))
    assert all(f"| {word} |" in tables for word in ("cosine", "cosine+guarded", "wsd", "root", "50", "100"))


def test_every_table_is_whole() -> None:
    """Each row has as many cells as its heading; an edit that runs from one table into another does not go unseen."""
    tables = re.findall(r"(?:^\|.*\n)+", README.read_text(), re.MULTILINE)
    headings = [table.splitlines()[0] for table in tables]
    assert headings[:2] == ["| you want | write |", "| question | answer | record |"]
    for table in tables:
        heading, rule, *rows = (line.replace(r"\|", "").count("|") for line in table.splitlines())
        assert rows
        assert {heading, rule, *rows} == {heading}


def test_its_sections_are_there() -> None:
    sections = re.findall(r"^## (.*)$", re.sub(r"```.*?```", "", README.read_text(), flags=re.DOTALL), re.MULTILINE)
    for section in (
        "In your own loop",
        "How it behaves",
        "What was measured",
        "What the reflex does in the step itself",
    ):
        assert section in sections


def test_every_file_the_readme_names_exists() -> None:
    text = README.read_text()
    named = set(re.findall(r"\]\(([^)#:]+)\)", text)) | set(
        re.findall(r"`((?:adaptive_lr|kernels|tests|experiments)/[\w/.]*)`", text)
    )
    assert named
    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing == set()
