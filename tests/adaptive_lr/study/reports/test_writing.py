"""The seam: what is written, that it is the same bytes every time, and what the figures show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from adaptive_lr.study import RunResult
from adaptive_lr.study.figures import style
from adaptive_lr.study.reports import drawing, make_report, write_reports
from adaptive_lr.study.reports.writing import draw
from recorded import recorded, study

FIGURES = {
    "profile-error", "intervals-error", "improvement-error", "profile-loss", "intervals-loss", "improvement-loss",
    "targets-sgd", "budget", "learning-rates-digits", "learning-rates-digits-error", "learning-rates-plain",
    "trace-cosine-guarded", "trace-automatic",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one workload without accuracies: a figure of each kind."""
    path = tmp_path_factory.mktemp("reports")
    write_reports(plain(), path, title="A study")
    return path


def plain() -> list[RunResult]:
    return [result for result in study() if result.run.workload == "plain"]


def test_the_folder_holds_tables_and_figures_to_read_and_to_print(folder: Path) -> None:
    names = {name for name in FIGURES if not name.endswith("-error") and "digits" not in name}
    assert {path.stem for path in (folder / "figures").glob("*.pdf")} == names
    assert {path.stem for path in (folder / "figures").glob("*.png")} == names
    tables = {path.stem for path in (folder / "tables").glob("*.tex")}
    assert tables == {
        *(f"{kind}-loss-sgd" for kind in ("pooled", "tasks", "medians", "pairs")),
        *("targets-sgd", "sensitivity-sgd"),
    }
    text = (folder / "report.md").read_text()
    assert text.startswith("# A study\n")
    assert all(f"figures/{name}.png" in text for name in names)


def test_two_processes_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    """Whatever the order of the results and the seed of Python's hashes."""
    code = (
        "from pathlib import Path; from recorded import study; from adaptive_lr.study.reports import write_reports\n"
        "results = [result for result in reversed(study()) if result.run.workload == 'plain']\n"
        f"write_reports(results, Path({str(tmp_path)!r}), title='A study')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert [name for name in files if (folder / name).read_bytes() != (tmp_path / name).read_bytes()] == []


def test_pdfs_have_no_date_and_no_type_3_fonts(folder: Path) -> None:
    for path in (folder / "figures").glob("*.pdf"):
        data = path.read_bytes()
        assert b"CreationDate" not in data
        assert b"/Type3" not in data


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    """All figures of the whole study by name, laid out; none is written, since that takes most of the time."""
    figures: dict[str, Figure] = {}

    def keep(figure: Figure, path: Path, **settings: object) -> None:
        if path.suffix == ".pdf":
            figure.draw_without_rendering()
            figures[path.stem] = figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        files = draw(make_report(study()), tmp_path_factory.mktemp("drawn"))
    assert {path.stem for path in files} == figures.keys()
    return figures


@pytest.fixture
def budget_of_one_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The budget figure of the workload without accuracies alone."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(figure))
    report = make_report(plain())
    drawing.draw_budget(report.comparisons["loss"], report.names, tmp_path)
    return figures[0]


def test_all_figures_that_apply_are_drawn(drawn: dict[str, Figure]) -> None:
    """One for each measure, workload or recipe."""
    assert drawn.keys() == FIGURES


def test_the_trace_marks_every_decision_above_the_loss_and_on_the_learning_rate(drawn: dict[str, Figure]) -> None:
    """Three decisions, two of them at step 10: marks on the upper edge, where they hide no loss, above each other."""
    result = next(result for result in study() if result.run.recipe == "automatic" and result.run.peak_lr == 1.0)
    above, below = drawn["trace-automatic"].get_axes()
    marks = [line for line in above.get_lines() if line.get_linestyle() == "None"]
    assert sorted(line.get_xdata()[0] for line in marks) == [10, 10, 25]
    edge = above.get_window_extent().y1
    heights = sorted(float(line.get_transform().transform((line.get_xdata()[0], 1.0))[1]) - edge for line in marks)
    assert 0.0 < heights[0] < heights[2]
    assert heights[1] == pytest.approx(heights[0])
    on_rate = [line for line in below.get_lines() if line.get_linestyle() == "None"]
    assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in on_rate) == [
        (step, result.learning_rates[step]) for step in (10, 10, 25)
    ]
    title = drawn["trace-automatic"].legends[0].get_title().get_text()
    assert title.endswith(f"\npeak learning rate {result.run.peak_lr:g}, seed {result.run.seed}")
    assert {text.get_text() for text in drawn["trace-automatic"].legends[0].get_texts()} >= {
        "plateau: cut (2)",
        "plateau: restore",
    }


def test_the_profile_is_drawn_as_steps_from_the_numbers(drawn: dict[str, Figure]) -> None:
    """Cosine and guarded reach the target first everywhere, automatic nowhere."""
    profile, distribution = drawn["profile-loss"].get_axes()
    heights = {line.get_label(): set(line.get_ydata()) for line in profile.get_lines()}
    assert heights == {"cosine": {1.0}, "cosine+guarded": {1.0}, "automatic": {0.0}}
    assert all(line.get_drawstyle() == "steps-post" for line in profile.get_lines())
    automatic = next(line for line in distribution.get_lines() if line.get_label() == "automatic")
    assert (automatic.get_ydata()[0], automatic.get_ydata()[-1]) == (1.0, 0.0)


def test_shares_at_the_target_are_steps_and_a_bar_says_that_some_never_reach_it(drawn: dict[str, Figure]) -> None:
    """Cosine and guarded reach it with their last evaluation, automatic never: it is short of it at the horizon."""
    for panel in drawn["targets-sgd"].get_axes():
        curves = {line.get_label(): line for line in panel.get_lines() if line.get_drawstyle() == "steps-post"}
        assert {name: list(line.get_ydata()) for name, line in curves.items()} == {
            "cosine": [0.0, 1.0], "cosine+guarded": [0.0, 1.0], "automatic": [0.0, 0.0],
        }  # fmt: skip
        (bar,) = (line for line in panel.get_lines() if line.get_marker() == "|")
        assert (list(bar.get_xdata()), list(bar.get_ydata())) == ([40.0], [0.0])
        assert bar.get_color() == curves["automatic"].get_color()
        assert not panel.collections  # four seeds have no band
        assert panel.get_xlim() == (0.0, pytest.approx(41.2))  # a step at the horizon is not cut by the frame


def test_the_budget_figure_shows_the_expected_best(drawn: dict[str, Figure]) -> None:
    """Cosine: of 1.515, 0.515 and 2, one alone is on average 1.343, two 0.848; scaled, and equal on both tasks."""
    cosine = next(line for line in drawn["budget"].get_axes()[0].get_lines() if line.get_label() == "cosine")
    expected = [(2.0 - best) / (2.0 - 0.515) for best in (4.03 / 3, (0.515 * 2 + 1.515) / 3, 0.515)]
    assert list(cosine.get_ydata()) == pytest.approx(expected)
    assert list(cosine.get_xdata()) == [1, 2, 3]


def test_no_interval_runs_off_its_axis_and_every_legend_names_it(
    drawn: dict[str, Figure], budget_of_one_task: Figure
) -> None:
    """Of the budget figure the bands are the widest; every figure of estimates says that its intervals are 95 %."""
    figures = {**drawn, "budget": budget_of_one_task}
    for name in ("budget", "profile-loss"):
        for panel in figures[name].get_axes():
            low, high = panel.get_ylim()
            heights = [y for band in panel.collections for path in band.get_paths() for y in path.vertices[:, 1]]
            assert low <= min(heights) <= max(heights) <= high
    for name in ("budget", "profile-loss", "intervals-loss", "improvement-loss"):
        assert any("95 %" in text.get_text() for text in figures[name].legends[0].get_texts()), name
    assert any("0.75" in text.get_text() for text in drawn["improvement-loss"].legends[0].get_texts())


def test_the_mean_of_two_tasks_is_drawn_without_a_band(drawn: dict[str, Figure]) -> None:
    """Student's interval of two values is a dozen times as wide as they are apart, and would set the scale alone."""
    assert not any(panel.collections for panel in drawn["budget"].get_axes())
    assert not any("95 %" in text.get_text() for text in drawn["budget"].legends[0].get_texts())


def test_a_recipe_with_a_single_setting_is_a_level_to_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One automatic run against cosine tuned over three settings: a mark at one, and a line across."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: figures.append(figure))
    report = make_report([r for r in plain() if r.run.recipe == "cosine" or r.run.peak_lr == 0.1])
    drawing.draw_budget(report.comparisons["loss"], report.names, tmp_path)
    lines = [line for line in figures[0].get_axes()[0].get_lines() if line.get_color() == style.BLUE]
    assert [list(line.get_xdata()) for line in lines] == [[1, 3], [1]]
    assert {float(y) for line in lines for y in line.get_ydata()} == {lines[0].get_ydata()[0]}


def test_every_method_has_a_look_of_its_own_without_its_colour() -> None:
    """Nine methods in grey print: line style and marker together tell all apart."""
    methods = [f"m{number}" for number in range(9)]
    looks = style.looks(methods, "m0")
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks.values()}) == 9
    assert looks["m0"] is style.BASELINE


def test_no_text_lies_on_other_text(drawn: dict[str, Figure]) -> None:
    """Tick labels and axis labels of all figures, where they are drawn."""
    for figure in drawn.values():
        texts = [text for axes in figure.get_axes() for text in _visible(axes)]
        boxes = [text.get_window_extent() for text in texts]
        overlapping = [
            (i, j) for i in range(len(boxes)) for j in range(i) if _share(boxes[i].extents, boxes[j].extents) > 0.02
        ]
        assert [(texts[i].get_text(), texts[j].get_text()) for i, j in overlapping] == []
        width, height = figure.get_size_inches() * figure.dpi
        outside = [
            text.get_text()
            for text, box in zip(texts, boxes, strict=True)
            if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1
        ]
        assert outside == []


def test_the_most_telling_run_has_most_kinds_of_decisions() -> None:
    results = [("digits", result) for result in study() if result.run.recipe == "automatic"]
    plain = recorded("automatic", 0.1, 0, 0.6)
    assert drawing.most_telling([("digits", plain)]) is None
    chosen = drawing.most_telling([*results, ("digits", plain)])
    assert chosen is not None
    assert len(chosen[1].decisions) == 3


def _visible(axes: Axes) -> list[Text]:
    """Title and labels, and those of the ticks within the limits: others are not drawn."""
    texts = [axes.xaxis.label, axes.yaxis.label, axes.title]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        texts += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in texts if text.get_text() and text.get_visible()]


def _share(first: np.ndarray, second: np.ndarray) -> float:
    """Of the smaller box, how much the other covers."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    if (high <= low).any():
        return 0.0
    areas = [float(np.prod(box[2:] - box[:2])) for box in (first, second)]
    return float(np.prod(high - low)) / max(min(areas), 1e-9)
