"""Draws the curve of a range test: losses, the interval in which they fall, and what every rule suggests."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from adaptive_lr.lr_range_test import RangeTestResult

COLOURS = {
    "valley": "#0072B2",
    "slide": "#009E73",
    "steepest": "#CC79A7",
    "minimum": "#E69F00",
    "suggestion": "#D55E00",
}
"""One for each rule (Okabe & Ito's colours for colour-blind readers); `suggestion` is the library's own."""

LABELS = {
    "valley": "valley",
    "slide": "slide",
    "steepest": "steepest",
    "minimum": "minimum/10",
    "suggestion": "adaptive-lr",
}

RAW, SMOOTHED, INTERVAL = "0.72", "0.1", "#56B4E9"

HEADROOM = 0.6
"""How far above the start the drawing goes, as a share of the fall: what diverges leaves it."""

LABEL_WIDTH, LABEL_HEIGHT, LEADER = 0.78, 0.34, 0.2
"""Inches that the label of a suggestion takes, and from the axes up to the first row of labels."""


def draw(result: RangeTestResult, ax: Axes | None = None) -> Axes:
    """Draw one range test.

    Raw losses are light, the smoothed ones dark; the interval is shaded; every suggestion is a dot on the smoothed
    curve, with a line up to its label. Losses that diverge leave at the top.

    Args:
        result: what to draw.
        ax: where; None: a new figure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'matplotlib is not installed, and plot needs it: run `pip install "adaptive-lr[compare]"`', name=error.name
        ) from error
    if ax is None:
        _, ax = pyplot.subplots(figsize=(5.2, 3.4), layout="constrained")
    lrs, losses, smoothed = (np.asarray(values) for values in (result.lrs, result.losses, result.smoothed))
    found = {name: lr for name, lr in {**result.suggestions, "suggestion": result.suggestion}.items() if lr is not None}
    left, right = _limits(lrs, found)
    low, high = loss_limits(losses, smoothed)
    ax.set_xscale("log")
    ax.set_xlim(left, right)
    ax.set_ylim(low, high)
    if result.interval is not None:
        ax.axvspan(*result.interval, color=INTERVAL, alpha=0.18, linewidth=0.0, label="interval")
    ax.plot(lrs, losses, color=RAW, linewidth=0.9, label="loss of each batch")
    ax.plot(lrs, smoothed, color=SMOOTHED, linewidth=1.8, label="smoothed")
    _mark(ax, found, lrs, smoothed)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("training loss")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower left", frameon=False, fontsize=8)
    return ax


def loss_limits(*curves: np.ndarray) -> tuple[float, float]:
    """Limits of a loss axis that shows the fall and the noise of these curves, and cuts what diverges."""
    starts, lows = [], []
    for curve in curves:
        usable = curve[np.isfinite(curve)]
        if usable.size:
            starts += list(usable[:5])
            lows.append(usable.min())
    if not lows:
        return 0.0, 1.0
    low, start = min(lows), max(starts)
    height = start - low or abs(low) or 1.0
    return float(low - 0.06 * height), float(start + HEADROOM * height)


def magnitude(value: float) -> str:
    """A learning rate with two digits, as it is printed: 0.14, 1.2 × 10⁻³."""
    if 0.01 <= value < 100.0:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"${mantissa}\times10^{{{int(exponent)}}}$"


def spread(places: list[float], width: float) -> list[float]:
    """Ascending places in [0, 1], moved as little as need be to lie `width` apart."""
    if not places:
        return []
    width = min(width, 1.0 / len(places))
    moved = list(places)
    for index in range(len(moved)):
        least = width / 2 if index == 0 else moved[index - 1] + width
        moved[index] = max(moved[index], least)
    most = 1.0 - width / 2
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], most)
        most = moved[index] - width
    return moved


def _limits(lrs: np.ndarray, found: dict[str, float]) -> tuple[float, float]:
    rates = [*lrs, *found.values()]
    low, high = math.log10(min(rates)), math.log10(max(rates))
    margin = 0.02 * (high - low) or 0.1
    return 10.0 ** (low - margin), 10.0 ** (high + margin)


def _mark(ax: Axes, found: dict[str, float], lrs: np.ndarray, smoothed: np.ndarray) -> None:
    """Dots on the curve, and above the axes their labels, side by side in the order of the learning rates."""
    width, height = ax.bbox.width / ax.figure.dpi, ax.bbox.height / ax.figure.dpi
    left, right = (math.log10(limit) for limit in ax.get_xlim())
    ordered = sorted(found, key=found.__getitem__)
    places = [(math.log10(found[name]) - left) / (right - left) for name in ordered]
    low, high = ax.get_ylim()
    usable = np.isfinite(smoothed)
    num_rows = 1 if len(ordered) * LABEL_WIDTH <= width else 2
    for number, (name, place, moved) in enumerate(
        zip(ordered, places, spread(places, LABEL_WIDTH / num_rows / width), strict=True)
    ):
        colour = COLOURS[name]
        bend = 1.0 + LEADER / height
        lift = bend + number % num_rows * LABEL_HEIGHT / height
        loss = high
        if usable.any():
            loss = float(np.interp(math.log(found[name]), np.log(lrs[usable]), smoothed[usable]))
        dot = min(1.0, (loss - low) / (high - low))
        ax.plot(
            [place, place, moved, moved], [dot, 1.0, bend, lift], transform=ax.transAxes,
            color=colour, linewidth=0.9, alpha=0.9, clip_on=False, zorder=1.5,
        )  # fmt: skip
        ax.plot(
            [place], [dot], transform=ax.transAxes, marker="o", markersize=5.5, color=colour,
            markeredgecolor="white", markeredgewidth=0.7, clip_on=False, zorder=4,
        )  # fmt: skip
        ax.text(
            moved, lift, f"{LABELS[name]}\n{magnitude(found[name])}", transform=ax.transAxes, color=colour,
            ha="center", va="bottom", fontsize=7.5, fontweight="bold" if name == "suggestion" else "normal",
            linespacing=1.15,
        )  # fmt: skip
