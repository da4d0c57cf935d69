"""Axes: every labelled tick says its number in a form that is read at a glance."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure

from adaptive_lr.study.figures.style import number_log_axis


def labels(low: float, high: float) -> dict[float, str]:
    """By value, of the ticks that are seen."""
    figure = Figure()
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    number_log_axis(axes)
    figure.canvas.draw()
    return {
        float(label.get_position()[1]): label.get_text()
        for label in axes.get_yticklabels()
        if low <= label.get_position()[1] <= high
    }


@pytest.mark.parametrize("ends", [(2e-4, 2e-3), (2e-5, 8e-5), (1e-5, 1e-2), (1e-6, 10.0), (3e4, 2e5), (2e-3, 0.5)])
def test_every_tick_of_a_logarithmic_axis_has_its_number_and_no_broken_power(ends: tuple[float, float]) -> None:
    found = labels(*ends)
    assert len(found) >= 2
    for value, text in found.items():
        if ends[0] >= 1e-3 and ends[1] <= 1e5:
            assert float(text) == pytest.approx(value)
            continue
        scientific = re.fullmatch(r"\$\\mathdefault\{(?:(\d)\\times)?10\^\{(-?\d+)\}\}\$", text)
        assert scientific is not None, text
        assert float(scientific[1] or 1) * 10.0 ** int(scientific[2]) == pytest.approx(value)
