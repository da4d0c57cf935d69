"""Paired tests against scipy, hand-made values and definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adaptive_lr.study.statistics import holm, paired_difference, sign_flip_test, win_rate


def test_sign_flip_by_hand() -> None:
    """All five differences positive: only the pattern itself and its negative are as extreme, 2/32."""
    assert sign_flip_test([1.0, 2.0, 3.0, 4.0, 5.0]) == 2 / 32
    assert sign_flip_test([0.0, 0.0, 0.0]) == 1.0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=8))
def test_sign_flip_equals_scipys_exact_permutation_test(differences: list[int]) -> None:
    expected = stats.permutation_test(
        (np.array(differences, dtype=float),),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    # scipy doubles the smaller tail and clips at 1; by symmetry that is the two-sided share unless ties at 0.
    assert sign_flip_test(differences) == pytest.approx(min(expected, 1.0))


def test_sign_flip_of_many_pairs_is_drawn_and_close_to_exact() -> None:
    """20 pairs: the drawn p-value agrees with the t-test's to within what 100,000 draws and normality allow."""
    differences = np.random.default_rng(1).normal(0.3, 1.0, 20)
    expected = stats.ttest_1samp(differences, 0.0).pvalue
    assert sign_flip_test(differences) == pytest.approx(expected, abs=0.02)


def test_paired_difference_equals_scipys_paired_t_interval() -> None:
    first, second = [3.0, 4.0, 6.0, 5.5], [2.0, 4.5, 5.0, 5.0]
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    difference = paired_difference(first, second)
    assert difference.mean == pytest.approx(0.5)
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert difference.p_value == sign_flip_test([1.0, -0.5, 1.0, 0.5])


def test_paired_difference_refuses_what_is_not_paired() -> None:
    with pytest.raises(ValueError, match="must be pairs"):
        paired_difference([1.0, 2.0], [1.0])


def test_holm_by_hand() -> None:
    """The textbook example of Holm's step-down: 0.01 × 4, 0.005 × 4 first, 0.03 × 2, 0.04 raised to that."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], level: float) -> None:
    """Holm 1979: from the smallest p on, reject while p(i) <= α / (m − i + 1); what follows a failure is kept."""
    rejected = set()
    for position, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - position) > level:
            break
        rejected.add(index)
    assert {index for index, adjusted in enumerate(holm(p_values)) if adjusted <= level} == rejected


@pytest.mark.parametrize("bad", [[1.1], [-0.1], [float("nan")], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="p_values must be"):
        holm(bad)


def test_a_tie_is_half_a_win() -> None:
    assert win_rate([3.0, 1.0, 2.0, 5.0], [2.0, 1.0, 3.0, 4.0]) == 2.5 / 4


def test_sign_flip_rejects_a_true_hypothesis_no_more_often_than_its_level() -> None:
    """8 symmetric differences, 2000 samples: at most 5 % below 0.05, within 4 standard errors."""
    samples = np.random.default_rng(3).standard_t(3, size=(2000, 8))
    assert np.mean([sign_flip_test(sample) <= 0.05 for sample in samples]) < 0.05 + 4 * (0.05 * 0.95 / 2000) ** 0.5
