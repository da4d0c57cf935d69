"""Schedules as a picture."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from adaptive_lr import schedules
from adaptive_lr.schedules import draw


def test_a_few_schedules_share_a_panel_that_shows_their_factors() -> None:
    figure = draw({"a": schedules.cosine(100), "b": schedules.step(30)}, 100)
    (panel,) = figure.axes
    assert [line.get_label() for line in panel.get_lines()] == ["a", "b"]
    np.testing.assert_array_equal(panel.get_lines()[0].get_xdata(), np.arange(101))
    np.testing.assert_array_equal(panel.get_lines()[0].get_ydata(), schedules.cosine(100)(np.arange(101)))
    assert len({line.get_color() for line in panel.get_lines()}) == 2


def test_momentum_is_below_in_the_colour_of_its_schedule() -> None:
    cycle = schedules.one_cycle(100)
    figure = draw({"cosine": schedules.cosine(100), "one-cycle": cycle}, 100)
    top, bottom = figure.axes
    (line,) = bottom.get_lines()
    np.testing.assert_array_equal(line.get_ydata(), cycle.momentum(np.arange(101)))
    assert line.get_color() == top.get_lines()[1].get_color()
    assert bottom.get_ylabel() == "momentum"


@pytest.mark.parametrize("count", [7, 9, 10, 13])
def test_many_schedules_get_a_panel_each(count: int) -> None:
    names = list(schedules.REGISTRY)[:count]
    figure = draw({name: schedules.from_text(name, total_steps=50) for name in names}, 50)
    titles = [panel.get_title(loc="left") for panel in figure.axes if panel.get_visible()]
    assert titles == names


def test_a_long_run_is_thinned_to_whole_steps() -> None:
    (panel,) = draw({"a": schedules.cosine(10**6)}, 10**6).axes
    steps = np.asarray(panel.get_lines()[0].get_xdata())
    assert len(steps) <= 2001
    assert (steps[0], steps[-1]) == (0, 10**6)
    assert (steps == steps.round()).all()


def test_it_saves_where_it_is_told_and_leaves_pyplot_alone(tmp_path: Path) -> None:
    loaded = "matplotlib.pyplot" in sys.modules
    draw({"a": schedules.cosine(10)}, 10, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_it_draws_into_given_axes() -> None:
    figure = Figure()
    ax = figure.subplots()
    assert draw({"a": schedules.one_cycle(10)}, 10, ax=ax) is figure
    assert len(ax.get_lines()) == 1
    assert len(figure.axes) == 1


def test_bad_arguments_are_refused() -> None:
    one = {"a": schedules.cosine(10)}
    with pytest.raises(ValueError, match="total_steps must"):
        draw(one, 0)
    with pytest.raises(ValueError, match="at least one schedule"):
        draw({}, 10)
    with pytest.raises(TypeError, match="must map labels to schedules"):
        draw({"a": np.cos}, 10)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="at most 6 for one ax, got 7"):
        draw(dict.fromkeys("abcdefg", schedules.cosine(10)), 10, ax=Figure().subplots())


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "adaptive-lr\[compare\]"'):
        draw({"a": schedules.cosine(10)}, 10)


def test_schedules_stand_alone() -> None:
    """In a fresh interpreter, the package loads nothing else of adaptive_lr, and no matplotlib."""
    code = (
        "import sys, adaptive_lr; before = set(sys.modules); import adaptive_lr.schedules; "
        "print(*sorted(m for m in set(sys.modules) - before if m.startswith(('adaptive_lr', 'matplotlib'))))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= {"adaptive_lr.schedules"} | {m for m in loaded if m.startswith("adaptive_lr.schedules.")}

    sources = Path(schedules.__file__).parent.glob("*.py")
    imports = {
        node.module
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert {m for m in imports if m.startswith("adaptive_lr") and not m.startswith("adaptive_lr.schedules")} == set()
