"""`adaptive-lr study new`: the files that a study of one's own begins with. They are those of this folder."""

from __future__ import annotations

from pathlib import Path

from adaptive_lr.study.errors import StudyError
from adaptive_lr.study.study import check_name

TEMPLATES = Path(__file__).parent

FILES = {
    "study.toml": "study.toml",
    "workload.py": "workload.py",
    "recipes.py": "recipes.py",
    "README.md": "README.md",
    "main.tex": "paper/main.tex",
}
"""What is copied, and where to."""


def make_skeleton(folder: Path) -> Path:
    """Make a folder with a study and a paper that can be carried out and written as they are.

    Args:
        folder: must not exist, or be empty; its name is that of the study.

    Returns:
        The folder.

    Raises:
        StudyError: there is something in it, its name cannot be a study's, or it cannot be written to.
    """
    name = folder.resolve().name
    check_name(name)
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise StudyError(f"folder {str(folder)!r} is not empty: give the name of a new one")
        for template, place in FILES.items():
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text((TEMPLATES / template).read_text(encoding="utf-8").replace("NAME", name), "utf-8")
    except OSError as error:
        raise StudyError(f"cannot make {str(folder)!r}: {error.strerror}") from error
    return folder
