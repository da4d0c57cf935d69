"""Running summaries against numpy and scipy on the whole series."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.series import MOST_BLOCKS, Blocks, Line, Moments, growing_fits, is_usable

FINITE = st.floats(-1e6, 1e6, allow_nan=False)
# Mean far above the deviation: raw sums of squares in float64 would have no correct digit left.
OFFSETS = [(0.0, 1.0), (3.0, 0.1), (1e8, 1e-3), (-1e8, 1e-3)]


def line_of(values):
    line = Line()
    for value in values:
        line = line.add(float(value))
    return line


def moments_of(values):
    moments = Moments()
    for value in values:
        moments = moments.add(float(value))
    return moments


def exact_variance(values):
    """Unbiased variance of floats in exact arithmetic."""
    exact = [Fraction(float(value)) for value in values]
    mean = sum(exact) / len(exact)
    return float(sum((value - mean) ** 2 for value in exact) / (len(exact) - 1))


@pytest.mark.parametrize(("mean", "deviation"), OFFSETS)
def test_moments_are_those_of_exact_arithmetic(mean, deviation):
    """Welford's mean and variance, also at a mean eleven orders of magnitude above the deviation."""
    values = mean + deviation * np.random.default_rng(0).standard_normal(500)
    moments = moments_of(values)
    assert moments.size == 500
    assert moments.mean == pytest.approx(float(np.mean(values)), rel=1e-15, abs=1e-12)
    # The running mean is rounded to the spacing of floats at the mean; relative to the deviation that is 1.5e-5 here.
    spacing = float(np.spacing(abs(mean))) / deviation
    assert moments.variance == pytest.approx(exact_variance(values), rel=1e-12 + spacing)


@given(left=st.lists(FINITE, min_size=1, max_size=30), right=st.lists(FINITE, min_size=1, max_size=30))
@settings(deadline=None, max_examples=50)
def test_merged_moments_are_those_of_all_values(left, right):
    """Chan's merge of two summaries is the summary of the concatenation."""
    merged, whole = moments_of(left).merge(moments_of(right)), moments_of(left + right)
    scale = max(1.0, max(map(abs, left + right)))
    assert merged.size == whole.size
    assert merged.mean == pytest.approx(whole.mean, abs=1e-13 * scale)
    assert merged.squares == pytest.approx(whole.squares, rel=1e-11, abs=1e-11 * scale * scale)


def test_the_variance_of_one_value_is_unknown():
    """A sample variance needs two values."""
    assert math.isnan(Moments().add(3.0).variance)


@pytest.mark.parametrize(("mean", "deviation"), OFFSETS)
@pytest.mark.parametrize("slope", [0.0, 0.01, -0.3])
def test_the_line_is_scipys(mean, deviation, slope):
    """Slope, standard error, t and residual deviation of the streaming fit are those of a regression."""
    positions = np.arange(200)
    noise = deviation * (slope * positions + np.random.default_rng(1).standard_normal(200))
    values = mean + noise
    fit = line_of(values).fit()
    # The oracle is given the same values with the mean taken off, which float64 does exactly.
    expected = scipy.stats.linregress(positions, values - mean)
    # Each of n additions rounds the running mean by up to half a spacing of floats, with a lever of up to n / 2,
    # against a sum of squared positions of n³ / 12: this much in t, and relative to the deviation.
    tolerance = 1e-9 + math.sqrt(12 * 200) / 4 * float(np.spacing(abs(mean))) / deviation
    assert fit.slope == pytest.approx(expected.slope, abs=tolerance * expected.stderr, rel=1e-9)
    assert fit.error == pytest.approx(expected.stderr, rel=tolerance)
    assert fit.t == pytest.approx(expected.slope / expected.stderr, rel=tolerance, abs=tolerance)
    residuals = values - mean - np.polyval(np.polyfit(positions, values - mean, 1), positions)
    assert fit.deviation == pytest.approx(math.sqrt(float(residuals @ residuals) / 198), rel=tolerance)


@given(values=st.lists(FINITE, min_size=6, max_size=40), cuts=st.tuples(st.integers(0, 40), st.integers(0, 40)))
@settings(deadline=None, max_examples=50)
def test_joined_lines_are_the_line_through_all_values(values, cuts):
    """Joining summaries of consecutive stretches, empty ones too, gives the summary of the whole."""
    first, second = sorted(min(cut, len(values)) for cut in cuts)
    joined = line_of(values[:first]).join(line_of(values[first:second])).join(line_of(values[second:]))
    whole = line_of(values)
    scale = max(1.0, max(map(abs, values)))
    assert joined.size == whole.size
    assert joined.mean == pytest.approx(whole.mean, abs=1e-13 * scale)
    assert joined.squares == pytest.approx(whole.squares, rel=1e-11, abs=1e-11 * scale * scale)
    assert joined.products == pytest.approx(whole.products, rel=1e-11, abs=1e-10 * scale)


def test_a_constant_has_no_trend_and_a_perfect_line_an_infinite_t():
    """The two cases without residuals have a defined t."""
    assert line_of([5.0] * 10).fit() == (0.0, 0.0, 0.0, 0.0)
    assert line_of([0.0, 1.0, 2.0, 3.0]).fit().t == math.inf
    assert line_of([3.0, 2.0, 1.0, 0.0]).fit().t == -math.inf


def test_a_line_needs_three_values():
    """Two points leave no residual to judge the slope by; the message says how many there were."""
    with pytest.raises(ValueError, match="at least 3 values, got 2"):
        line_of([1.0, 2.0]).fit()


def test_growing_fits_are_fits_of_the_leading_values():
    """One pass gives the fit of every asked length that the series has."""
    values = np.random.default_rng(2).standard_normal(20).tolist()
    fits = list(growing_fits(values, [3, 7, 20, 21]))
    assert [line.size for line, _ in fits] == [3, 7, 20]
    for line, fit in fits:
        assert fit.slope == pytest.approx(np.polyfit(np.arange(line.size), values[: line.size], 1)[0])


@pytest.mark.parametrize("count", [99, 250, 10 * MOST_BLOCKS - 1, 10 * MOST_BLOCKS, 25 * MOST_BLOCKS + 7])
def test_block_means_cover_the_whole_series_in_bounded_space(count):
    """Every value is in exactly one block, however often blocks were merged."""
    values = 5.0 + np.random.default_rng(3).standard_normal(count)
    blocks = Blocks(10)
    for value in values:
        blocks = blocks.add(float(value))
    assert len(blocks.means) < MOST_BLOCKS
    assert blocks.size in (10, 20, 40)
    full = values[: len(blocks.means) * blocks.size].reshape(-1, blocks.size)
    assert blocks.current.size == count - full.size
    np.testing.assert_allclose(blocks.means, full.mean(axis=1), rtol=1e-13)
    np.testing.assert_allclose(blocks.squares, full.var(axis=1) * blocks.size, rtol=1e-10)


def test_values_whose_square_could_overflow_are_not_usable():
    """NaN, infinities and magnitudes beyond any float32 loss are kept out of summaries."""
    assert is_usable(0.0)
    assert is_usable(-3.4e38)
    assert not any(map(is_usable, (math.nan, math.inf, -math.inf, 1e200)))
