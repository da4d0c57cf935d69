"""The shape of the whole: imports go down, and the public names are the documented ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import adaptive_lr
import adaptive_lr_kernels

LAYERS = [
    {"cli"},
    {"study"},
    {"lr_range_test", "range_figure"},
    {"adaptive"},
    {"attachment", "layer", "base_schedule"},
    {"rows"},
    {"deferred"},
    {"pending"},
    {"steps", "lag"},
    {"actuation", "changes", "deliberation", "meter", "metrics", "readback"},
    {"trace"},
    {"controllers"},
    {
        "statistics",
        "series",
        "optimizers",
        "plain",
        "ranks",
        "buffers",
        "restoring",
        "scores",
        "snapshot",
        "suggestions",
        "training_update",
        "update_ratio",
    },
]
"""From the top down: a module imports from its own row and the rows below."""

STANDALONE = {"schedules"}
PACKAGE = Path(adaptive_lr.__file__).parent


def imported(file: Path) -> set[str]:
    """First-level modules of this library that a file imports, type-checking imports and late ones included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        found: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            found = [
                f"{node.module}.{alias.name}" if node.module == "adaptive_lr" else node.module for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        names |= {name.split(".")[1] for name in found if name.startswith("adaptive_lr.")}
        names |= {name.split(".")[0] for name in found if name.startswith("adaptive_lr_kernels")}
    return names


def modules() -> dict[str, set[str]]:
    """First-level module -> the first-level modules it imports."""
    graph: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name != "__init__":
            graph.setdefault(name, set()).update(imported(file) - {name})
    return graph


def test_imports_go_down() -> None:
    rank = {name: row for row, names in enumerate(LAYERS) for name in names}
    graph = modules()
    assert graph.keys() <= rank.keys() | STANDALONE
    upward = {
        (module, target)
        for module, targets in graph.items()
        for target in targets & rank.keys()
        if module in rank and rank[target] < rank[module]
    }
    assert upward == set()


def test_schedules_stand_alone() -> None:
    assert modules()["schedules"] == set()


def test_the_kernels_import_nothing_of_the_library() -> None:
    kernels = Path(adaptive_lr_kernels.__file__).parent
    assert all(imported(file) <= {"adaptive_lr_kernels"} for file in kernels.rglob("*.py"))


def test_the_public_names_are_the_documented_ones() -> None:
    assert {"AdaptiveLR", "controllers", "read_trace", "schedules"} <= set(adaptive_lr.__all__)
    assert {
        "Adjustment", "Composition", "Controller", "GradientSpike", "LossVariance", "Plateau", "guarded",
    } <= set(vars(adaptive_lr.controllers))  # fmt: skip


def test_importing_the_library_brings_no_optional_or_slow_package() -> None:
    code = (
        "import sys, adaptive_lr; "
        "print(sorted({'matplotlib', 'sklearn', 'rich', 'joblib', 'tensorboard'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"
