"""The benchmark is tested where it is: beside the tests, in the repository, not in the wheel."""

from __future__ import annotations

import sys
from pathlib import Path

KERNELS = Path(__file__).parents[2] / "kernels"

collect_ignore_glob: list[str] = []

if (KERNELS / "benchmarks").is_dir():
    sys.path.insert(0, str(KERNELS))
else:  # the suite run against an installed wheel, from another folder
    collect_ignore_glob.append("test_*.py")
