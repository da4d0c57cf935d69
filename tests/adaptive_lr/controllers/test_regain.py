"""`Regain`: a lifted cut comes back in equal parts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers.regain import Regain


@given(st.floats(1e-8, 1.0), st.floats(1e-8, 1.0), st.integers(1, 20))
def test_it_reaches_its_goal_exactly_in_equal_parts_each_with_its_reason(factor: float, goal: float, left: int) -> None:
    regain, factors = Regain(goal, left), [factor]
    for _ in range(left):
        factor, regain, reasons = regain.next(factor)
        factors.append(factor)
        assert len(reasons) == 1
        assert reasons[0].value == factors[-2]
    steps = [b - a for a, b in pairwise(factors)]
    assert steps == pytest.approx([(goal - factors[0]) / left] * left, rel=1e-6, abs=1e-12)
    assert factors[-1] == goal
    assert regain.next(factor) == (goal, regain, ())
