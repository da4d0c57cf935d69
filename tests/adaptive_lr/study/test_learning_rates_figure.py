"""The figure: every recipe in its panel, the same bytes from the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from adaptive_lr.study import COMPARED, OPTIMIZERS, Evaluation, Run, RunResult, summarise
from adaptive_lr.study.figures.learning_rates import ERROR, draw


def results(seeds: int = 3) -> list[RunResult]:
    return [
        RunResult(
            run := Run("digits", optimizer, recipe, peak, seed, 10),
            str(run),
            "completed",
            initial=Evaluation(2.3, 0.1),
            validation=Evaluation(min(3.0, 0.1 + 0.01 * seed + peak), 0.9),
            test=Evaluation(0.3, 0.9),
        )
        for optimizer in OPTIMIZERS
        for recipe in COMPARED
        for peak in (0.01, 0.1, 10.0)
        for seed in range(seeds)
    ]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))
    return figures


def test_a_row_for_each_optimizer_and_a_panel_for_each_base_with_its_recipes(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    """Titles name the bases; a line for the fixed recipe, one for each that belongs to it, one for initialisation."""
    draw(summarise(results()), tmp_path / "figure", workload="digits")
    panels = drawn[0].get_axes()
    assert len(panels) == 2 * 4
    assert [panel.get_title() for panel in panels[:4]] == ["cosine", "one-cycle", "step", "plateau"]
    for index, panel in enumerate(panels):
        fixed, *adaptive, initial = panel.get_lines()
        assert len(adaptive) == (2 if index % 4 == 0 else 1)  # automatic is in the panel of cosine
        assert len({line.get_color() for line in panel.get_lines()}) == len(adaptive) + 2
        for line in adaptive:
            assert fixed.get_linestyle() != line.get_linestyle() == "-"
            assert list(line.get_ydata()) == pytest.approx([0.12, 0.21, 2.3])  # clipped at initialisation
        assert set(initial.get_ydata()) == {2.3}
        assert len(panel.collections) == len(adaptive) + 1  # a band for each


def test_the_optimizer_is_in_the_title_and_the_axis_has_the_quantity_alone(tmp_path: Path, drawn: list[Figure]) -> None:
    """The first panel of each row; numbers on the axis are plain, and more than the decades."""
    draw(summarise(results()), tmp_path / "figure", workload="digits")
    figure = drawn[0]
    first = figure.get_axes()[0], figure.get_axes()[4]
    for panel, optimizer in zip(first, OPTIMIZERS.values(), strict=True):
        assert panel.get_title(loc="left").strip() == optimizer.label
        assert panel.get_ylabel() == "final validation loss"
    low, high = first[0].get_ylim()
    numbers = [label.get_text() for label in first[0].get_yticklabels() if low <= label.get_position()[1] <= high]
    assert {"0.2", "0.5", "1", "2"} <= set(numbers)


def test_a_band_reaches_from_the_best_to_the_worst_seed(tmp_path: Path, drawn: list[Figure]) -> None:
    """0.11, 0.12 and 0.13 at the first learning rate."""
    draw(summarise(results()), tmp_path / "figure", workload="digits")
    corners = drawn[0].get_axes()[0].collections[0].get_paths()[0].vertices
    assert sorted({round(float(y), 6) for x, y in corners if x == 0.01}) == [0.11, 0.13]


def test_errors_are_drawn_in_per_cent(tmp_path: Path, drawn: list[Figure]) -> None:
    """Test accuracies of 90 %, 10 % at the start."""
    draw(summarise(results()), tmp_path / "figure", workload="digits", measure=ERROR)
    fixed, *_, initial = drawn[0].get_axes()[0].get_lines()
    assert list(fixed.get_ydata()) == pytest.approx([10.0, 10.0, 10.0])
    assert list(initial.get_ydata()) == pytest.approx([90.0, 90.0])


def test_the_files_are_there_and_the_pdf_is_reproducible(tmp_path: Path) -> None:
    summaries = summarise(results())
    first = draw(summaries, tmp_path / "one", workload="digits")
    second = draw(summaries, tmp_path / "two", workload="digits")
    assert [path.name for path in first] == ["one.pdf", "one.png"]
    assert first[0].read_bytes() == second[0].read_bytes()
    assert first[0].read_bytes().startswith(b"%PDF")
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_one_seed_and_one_recipe_are_drawn_without_bands(tmp_path: Path) -> None:
    chosen = [result for result in results(seeds=1) if result.run.recipe == "step" and result.run.optimizer == "sgd"]
    assert all(path.stat().st_size > 1000 for path in draw(summarise(chosen), tmp_path / "f", workload="digits"))
