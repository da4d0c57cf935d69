"""What is shipped."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The file names in a freshly built wheel."""
    if not (ROOT / "kernels").is_dir():
        pytest.skip("the sources are not here: this is the suite run against an installed wheel")
    out = tmp_path_factory.mktemp("dist")
    # A copy is built, so that two workers and the working tree do not share setuptools' build folder.
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for package in ("adaptive_lr", "kernels/adaptive_lr_kernels"):
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                target = source / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_the_wheel_has_exactly_the_two_packages_at_its_top_level(wheel: list[str]) -> None:
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"adaptive_lr", "adaptive_lr_kernels"}


def test_the_wheel_is_typed_and_holds_every_module(wheel: list[str]) -> None:
    assert {"adaptive_lr/py.typed", "adaptive_lr_kernels/py.typed"} <= set(wheel)
    sources = {str(f.relative_to(ROOT)) for f in (ROOT / "adaptive_lr").rglob("*.py")}
    sources |= {str(f.relative_to(ROOT / "kernels")) for f in (ROOT / "kernels/adaptive_lr_kernels").rglob("*.py")}
    assert {name for name in wheel if name.endswith(".py")} == sources
