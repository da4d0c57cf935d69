"""The project's own studies are tested where they are: beside the tests, in the repository, not in the wheel."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

collect_ignore_glob: list[str] = []

if (ROOT / "experiments").is_dir():
    sys.path.insert(0, str(ROOT))
else:  # the suite run against an installed wheel, from another folder
    collect_ignore_glob.append("test_*.py")
