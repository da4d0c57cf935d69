"""Facts that hold for every schedule, over drawn settings and steps."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr import schedules
from adaptive_lr.schedules import Schedule
from adaptive_lr.schedules.shapes import SHAPES

COUNTS = st.integers(1, 10**6)
SHARES = st.floats(0.0, 1.0)
POSITIVE_SHARES = st.floats(1e-6, 1.0)
MOMENTA = st.tuples(st.floats(0.0, 0.8), st.floats(0.8, 0.999)).map(
    lambda m: {"base_momentum": m[0], "max_momentum": m[1]}
)

SIMPLE: st.SearchStrategy[Schedule] = st.one_of(
    st.builds(schedules.constant, st.floats(0.0, 10.0), st.none() | COUNTS),
    st.builds(schedules.step, COUNTS, SHARES),
    st.builds(schedules.multi_step, st.lists(COUNTS, max_size=5).map(tuple), SHARES),
    st.builds(schedules.exponential, SHARES, decay_steps=COUNTS, staircase=st.booleans()),
    st.builds(schedules.polynomial, COUNTS, st.floats(0.01, 10.0), end_factor=SHARES),
    st.builds(schedules.linear, COUNTS, start_factor=SHARES, end_factor=SHARES),
    st.builds(schedules.cosine, COUNTS, SHARES),
    st.builds(schedules.cosine_decay, COUNTS, alpha=SHARES, warmup_steps=COUNTS, warmup_start=SHARES),
    st.builds(schedules.cosine_warm_restarts, COUNTS, st.integers(1, 5), eta_min=SHARES, cycle_decay=POSITIVE_SHARES),
    st.builds(schedules.inverse_sqrt, COUNTS),
    st.builds(schedules.warmup, COUNTS, start_factor=POSITIVE_SHARES, shape=st.sampled_from(SHAPES)),
    st.builds(
        lambda warmup, stable, decay, shape, start, end: schedules.warmup_stable_decay(
            warmup + stable + decay,
            warmup_steps=warmup,
            decay_steps=decay,
            decay_shape=shape,
            start_factor=start,
            end_factor=end,
        ),
        *(COUNTS, COUNTS, st.integers(0, 10**6)),
        *(st.sampled_from(SHAPES), SHARES, POSITIVE_SHARES),
    ),
    st.builds(schedules.constant_with_decay, COUNTS, decay_fraction=POSITIVE_SHARES, end_factor=SHARES),
    st.builds(
        lambda up, down, base, mode, gamma, momenta: schedules.cyclic(
            up, down, base_factor=base, mode=mode, gamma=gamma, **momenta
        ),
        *(COUNTS, st.none() | COUNTS, SHARES),
        *(st.sampled_from(("triangular", "triangular2", "exp_range")), SHARES, MOMENTA),
    ),
    st.builds(
        lambda total, start, strategy, momenta, three: schedules.one_cycle(
            total, pct_start=start, anneal_strategy=strategy, three_phase=three, **momenta
        ),
        *(st.integers(20, 10**6), st.floats(0.1, 0.5), st.sampled_from(("cos", "linear")), MOMENTA, st.booleans()),
    ),
)
ANY = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(lambda a, b, n: a.then(b, after=n), inner, inner, COUNTS),
        st.builds(lambda a, b: a * b, inner, inner | st.floats(0.0, 10.0)),
        st.builds(lambda a, t: a.temperature(t), inner, st.floats(0.1, 10.0)),
    ),
    max_leaves=4,
)
STEPS = st.lists(st.integers(0, 3 * 10**6) | st.integers(0, 2**53) | st.floats(0.0, 1e7), min_size=1, max_size=40)


@settings(deadline=None, max_examples=300)
@given(ANY, STEPS)
def test_factors_are_finite_and_not_negative_and_momenta_within_0_and_1(schedule: Schedule, steps: list[float]) -> None:
    factors = schedule(np.array(steps, dtype=np.float64))
    assert np.isfinite(factors).all()
    assert (factors >= 0.0).all()
    momenta = schedule.momentum(np.array(steps, dtype=np.float64))
    assert momenta is None or ((momenta >= 0.0).all() and (momenta < 1.0).all())


@settings(deadline=None, max_examples=200)
@given(SIMPLE.filter(lambda s: not isinstance(s, schedules.constant)), STEPS)
def test_no_schedule_exceeds_the_peak(schedule: Schedule, steps: list[float]) -> None:
    """But for a constant, which is what it is told to be; to a rounding error of two additions."""
    assert schedule(np.array(steps, dtype=np.float64)).max() <= 1.0 + 2 * np.finfo(float).eps


@settings(deadline=None, max_examples=300)
@given(ANY, STEPS)
def test_an_array_gives_bit_for_bit_what_its_steps_give_one_by_one(schedule: Schedule, steps: list[float]) -> None:
    array = np.array(steps, dtype=np.float64)
    factors = [schedule(step) for step in steps]
    assert all(type(factor) is float for factor in factors)
    assert schedule(array).tolist() == factors
    momenta = schedule.momentum(array)
    single = [schedule.momentum(step) for step in steps]
    assert single == ([None] * len(steps) if momenta is None else momenta.tolist())


@settings(deadline=None, max_examples=100)
@given(ANY)
def test_a_pickle_a_copy_and_the_text_of_a_schedule_are_that_schedule(schedule: Schedule) -> None:
    for twin in (
        pickle.loads(pickle.dumps(schedule)),
        copy.deepcopy(schedule),
        schedules.from_text(repr(schedule), total_steps=1),
    ):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert np.array_equal(twin(np.arange(100)), schedule(np.arange(100)))


@settings(deadline=None, max_examples=100)
@given(ANY)
def test_a_call_leaves_no_trace(schedule: Schedule) -> None:
    """Pure: calls in any order change neither the schedule nor the array of steps."""
    steps = np.arange(50.0)
    before = pickle.dumps(schedule)
    first = schedule(steps)
    schedule(7), schedule.momentum(steps)
    assert np.array_equal(schedule(steps), first)
    assert np.array_equal(steps, np.arange(50.0))
    assert pickle.dumps(schedule) == before


@settings(deadline=None, max_examples=50)
@given(ANY, st.integers(1, 10))
def test_long_arrays_are_bit_for_bit_their_parts(schedule: Schedule, part: int) -> None:
    """Vector instructions treat the ends of an array apart; that must not show."""
    steps = np.arange(1000)
    whole = schedule(steps)
    assert np.array_equal(np.concatenate([schedule(piece) for piece in np.array_split(steps, 37 * part)]), whole)


def test_arrays_of_any_shape_type_and_layout() -> None:
    schedule = schedules.cosine(100)
    grid = np.arange(60, dtype=np.int32).reshape(6, 10)
    assert schedule(grid).shape == (6, 10)
    assert np.array_equal(schedule(grid.T), schedule(grid).T)
    assert np.array_equal(schedule(grid[::2, ::-3]), schedule(grid)[::2, ::-3])
    assert schedule(np.array(50)).shape == ()
    assert schedule(np.array([])).shape == (0,)
    assert schedule(np.arange(5, dtype=np.uint8)).dtype == np.float64
    assert type(schedule(np.int64(50))) is float
    assert type(schedule(np.float32(50))) is float


@pytest.mark.parametrize("step", [-1, -0.5, np.nan, np.inf, 2**53 + 2, 10**400, np.array([3, -2]), np.array([np.nan])])
def test_a_step_out_of_range_is_a_value_error(step: object) -> None:
    with pytest.raises(ValueError, match="step must be in"):
        schedules.cosine(10)(step)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="step must be in"):
        schedules.one_cycle(10).momentum(step)  # type: ignore[call-overload]


@pytest.mark.parametrize("step", ["3", None, True, [1, 2], 1j, np.array([True]), np.array(["a"]), np.array([1j])])
def test_a_step_that_is_no_number_is_a_type_error(step: object) -> None:
    with pytest.raises(TypeError, match="step must be a number or a numpy array"):
        schedules.cosine(10)(step)  # type: ignore[call-overload]
