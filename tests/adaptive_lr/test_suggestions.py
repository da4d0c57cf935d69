"""What curves suggest: every classic rule against a restatement of what was published, and the interval."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr import suggestions
from adaptive_lr.series import LARGEST_VALUE

RULES = (suggestions.steepest, suggestions.valley, suggestions.slide, suggestions.minimum)


def ladder(steps: int = 100, start: float = 1e-7, end: float = 10.0) -> list[float]:
    return np.geomspace(start, end, steps).tolist()


def curve(
    *, steps: int = 100, seen: int = 90, noise: float = 0.05, seed: int = 0, offset: float = 0.0
) -> tuple[list[float], list[float]]:
    """A sweep as one looks: flat, a fall from 2.3 to 0.3 over 1e-3..1e-1, divergence from 0.3 on."""
    lrs = np.array(ladder(steps)[:seen])
    losses = 2.3 - 2.0 * np.clip(np.log10(lrs / 1e-3) / 2.0, 0.0, 1.0) + np.where(lrs > 0.3, (10.0 * lrs) ** 2, 0.0)
    losses += np.random.default_rng(seed).normal(0.0, noise, seen) + offset
    return lrs.tolist(), losses.tolist()


# ---------------------------------------------------------------- the rules, said again in plain Python


def published_valley(lrs: list[float], losses: list[float]) -> float:
    """fastai: dynamic programming over all pairs, the start updated whenever the longest grows."""
    lengths, longest, begin = [1] * len(losses), 0, 0
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[longest] < lengths[i]:
                longest, begin = i, i - lengths[i]
    section = (longest - begin) / 3
    return lrs[begin + int(section) + int(section / 2)]


def slopes(losses: list[float]) -> list[float]:
    """Central differences by index, one-sided at both ends."""
    inner = [(after - before) / 2 for before, after in zip(losses, losses[2:], strict=False)]
    return [losses[1] - losses[0], *inner, losses[-1] - losses[-2]]


def published_slide(lrs: list[float], losses: list[float]) -> float:
    """fastai: negative indices from the end, until they leave the list or the slopes agree."""
    slope, right, left = slopes(losses), -1, -16
    found = lrs[left]
    while left >= -len(losses) and abs(slope[right] - slope[left]) > 0.005:
        found = lrs[left]
        right, left = right - 1, left - 1
    return found


def published_minimum(lrs: list[float], losses: list[float]) -> float:
    return lrs[losses.index(min(losses))] / 10


def published_steepest(lrs: list[float], losses: list[float]) -> float:
    """pytorch-lr-finder: the least central difference by index."""
    slope = slopes(losses)
    return lrs[slope.index(min(slope))]


PUBLISHED = dict(zip(RULES, (published_steepest, published_valley, published_slide, published_minimum), strict=True))
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)

# Thousandths, so that no two slopes are equal but for rounding or exactly.
curves = st.lists(st.integers(-3000, 3000).map(lambda n: n / 1000), min_size=16, max_size=60)


@each_rule
@given(losses=curves)
@settings(deadline=None, max_examples=150)
def test_each_rule_is_what_was_published(rule, losses) -> None:
    """On every curve that falls somewhere; where it never does, there is nothing to suggest."""
    lrs = ladder(len(losses))
    falls = any(after < before for before, after in pairwise(losses))
    found = rule(lrs, losses)
    if not falls:
        assert found is None
    elif rule is suggestions.steepest:  # two slopes may be equal: any of the least is right
        slope = slopes(losses)
        assert slope[lrs.index(found)] == pytest.approx(min(slope), abs=1e-9)
    else:
        assert found == PUBLISHED[rule](lrs, losses)


@pytest.mark.parametrize("seed", range(5))
def test_the_four_together_smooth_and_trim_as_published(seed: int) -> None:
    """By plain loops over the same curves.

    fastai: mean with memory 0.98 corrected for its start, first tenth of the plan and last 5 left out.
    pytorch-lr-finder: 0.05 of each loss, the first as it is, first 10 and last 5 left out.
    """
    steps = 120
    lrs, losses = curve(steps=steps, seen=107, seed=seed)
    fastai, mean = [], 0.0
    for number, loss in enumerate(losses, start=1):
        mean = 0.98 * mean + 0.02 * loss
        fastai.append(mean / (1 - 0.98**number))
    finder = [losses[0]]
    for loss in losses[1:]:
        finder.append(0.05 * loss + 0.95 * finder[-1])
    assert suggestions.classic(lrs, losses, steps=steps) == {
        "steepest": published_steepest(lrs[10:-5], finder[10:-5]),
        "valley": published_valley(lrs[12:-5], fastai[12:-5]),
        "slide": published_slide(lrs[12:-5], fastai[12:-5]),
        "minimum": published_minimum(lrs[12:-5], fastai[12:-5]),
    }


def test_the_steepest_of_torch_lr_finder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself, given the same losses, suggests the same learning rate."""
    pytest.importorskip("matplotlib").use("Agg")
    finder_class = pytest.importorskip("torch_lr_finder").LRFinder
    from matplotlib import pyplot

    for seed in range(10):
        lrs, losses = curve(seed=seed)
        finder = object.__new__(finder_class)
        smoothed = suggestions.plain_mean(losses, suggestions.LR_FINDER_MEMORY)
        finder.history = {"lr": lrs, "loss": smoothed.tolist()}
        figure, ax = pyplot.subplots()
        _, theirs = finder.plot(ax=ax)
        pyplot.close(figure)
        assert suggestions.classic(lrs, losses, steps=100)["steepest"] == theirs


# ---------------------------------------------------------------- where there is nothing to suggest


@given(
    losses=st.lists(st.one_of(st.floats(), st.floats(-3.0, 3.0)), max_size=40),
    steps=st.integers(1, 400),
)
@settings(deadline=None, max_examples=200)
def test_no_curve_raises(losses, steps) -> None:
    """None instead of an exception, a learning rate of the ladder (or a tenth of one) otherwise; same for the rest."""
    lrs = ladder(100)[: len(losses)]
    for found in suggestions.classic(lrs, losses, steps=steps).values():
        assert found is None or found > 0.0
    found = suggestions.interval(lrs, losses)
    assert found is None or lrs[0] <= found[0] < found[1] <= lrs[-1]
    smoothed = suggestions.centred_mean(lrs, losses)
    assert np.array_equal(np.isfinite(smoothed), np.abs(losses) < LARGEST_VALUE)


@pytest.mark.parametrize("losses", [[1.0] * 90, np.linspace(1.0, 9.0, 90).tolist()], ids=["constant", "rising"])
def test_a_curve_that_never_falls_suggests_nothing(losses: list[float]) -> None:
    lrs = ladder()[:90]
    assert set(suggestions.classic(lrs, losses, steps=100).values()) == {None}
    assert suggestions.interval(lrs, losses) is None


def test_a_short_curve_suggests_what_its_rules_allow() -> None:
    """pytorch-lr-finder wants 17 losses, slide 16 after trimming; the other two live with two."""
    lrs, losses = ladder(10), np.linspace(2.0, 1.0, 10).tolist()
    found = suggestions.classic(lrs, losses, steps=10)
    assert (found["steepest"], found["slide"]) == (None, None)
    assert found["minimum"] == lrs[4] / 10
    assert found["valley"] in lrs


def test_what_follows_a_loss_that_is_not_finite_does_not_count() -> None:
    """Without the last five, which are left out anyway, the same curve ends where the first is not finite."""
    lrs, losses = curve(seen=80)
    broken = [*losses[:60], math.nan, *losses[61:]]
    smoothed = suggestions.bias_corrected_mean(losses, suggestions.FASTAI_MEMORY)
    assert suggestions.classic(lrs, broken, steps=100)["valley"] == suggestions.valley(lrs[10:60], smoothed[10:60])


@each_rule
def test_bad_curves_are_refused_with_a_sentence(rule) -> None:
    with pytest.raises(ValueError, match="one length, got shapes"):
        rule([1.0, 2.0], [1.0])
    for lrs in ([2.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, math.inf]):
        with pytest.raises(ValueError, match="ascending"):
            rule(lrs, [1.0, 0.5])


# ---------------------------------------------------------------- smoothing and the interval


def test_the_centred_mean_keeps_a_line_and_does_not_lag() -> None:
    """Away from the ends a straight line comes back, and a valley's lowest point stays where it is."""
    lrs = ladder()
    line = np.linspace(3.0, 1.0, 100)
    np.testing.assert_allclose(suggestions.centred_mean(lrs, line)[6:-6], line[6:-6], rtol=1e-12)
    valley = np.abs(np.arange(100) - 40.0)
    assert np.argmin(suggestions.centred_mean(lrs, valley)) == 40


def test_the_interval_runs_from_a_tenth_of_the_fall_to_its_end() -> None:
    """On a noiseless fall over 1e-3..1e-1: a tenth of two decades above its begin, and not beyond divergence at 0.3."""
    lrs, losses = curve(noise=0.0)
    low, high = suggestions.interval(lrs, losses)
    step = lrs[1] / lrs[0]
    assert 10**-2.8 / step < low < 10**-2.8 * step
    assert 0.1 / step < high < 0.3


@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=50)
def test_the_interval_is_the_same_for_a_loss_that_is_scaled_or_shifted(scale, offset) -> None:
    """Negative losses included."""
    lrs, losses = curve()
    shifted = [scale * loss + offset for loss in losses]
    np.testing.assert_allclose(suggestions.interval(lrs, shifted), suggestions.interval(lrs, losses), rtol=1e-6)


def test_flat_noise_has_no_interval() -> None:
    """At most 1 of 100 curves of pure noise is taken for a fall."""
    lrs = ladder()
    noise = np.random.default_rng(0).normal(2.3, 0.05, (300, 100))
    assert sum(suggestions.interval(lrs, losses) is not None for losses in noise) <= 3


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_fall_has_nearly_the_interval_of_the_noiseless_one(seed: int) -> None:
    """With noise of a fortieth of the fall, both ends lie within a quarter of a decade."""
    lrs, losses = curve(seed=seed)
    np.testing.assert_allclose(
        np.log10(suggestions.interval(lrs, losses)), np.log10(suggestions.interval(*curve(noise=0.0))), atol=0.25
    )
