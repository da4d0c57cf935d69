"""Schedules put together."""

from __future__ import annotations

import numpy as np

from adaptive_lr import schedules


def test_the_clock_of_what_follows_starts_at_0_after_the_warm_up() -> None:
    schedule = schedules.warmup(10).then(schedules.step(5, 0.5))
    assert [schedule(step) for step in (0, 5, 9, 10, 14, 15, 20)] == [0.0, 0.5, 0.9, 1.0, 1.0, 0.5, 0.25]


def test_three_in_a_row_start_each_at_its_own_0() -> None:
    chain = schedules.warmup(10).then(schedules.constant(), after=10).then(schedules.cosine(20), after=50)
    steps = np.arange(20)
    assert np.array_equal(chain(steps + 50), schedules.cosine(20)(steps))
    assert chain.length == 70
    assert schedules.warmup(10).then(schedules.constant()).length is None


def test_warm_up_stable_decay_is_the_chain_of_its_phases() -> None:
    chain = (
        schedules.warmup(100)
        .then(schedules.constant())
        .then(schedules.linear(200, start_factor=1.0, end_factor=0.0), after=800)
    )
    whole = schedules.warmup_stable_decay(1000, warmup_steps=100, decay_steps=200, decay_shape="linear")
    np.testing.assert_allclose(chain(np.arange(1100)), whole(np.arange(1100)), atol=1e-15)


def test_a_number_scales_from_either_side() -> None:
    schedule = schedules.cosine(100)
    steps = np.arange(100)
    assert schedule * 0.5 == 0.5 * schedule == schedule.times(0.5)
    assert np.array_equal((0.5 * schedule)(steps), 0.5 * schedule(steps))
    product = schedule * schedules.warmup(10)
    assert np.array_equal(product(steps), schedule(steps) * schedules.warmup(10)(steps))
    assert product.length == 100
    assert (schedule * schedules.constant()).length is None


def test_momentum_passes_through_compositions() -> None:
    """A part without momentum holds its neighbour's at the join; scaling and temperature leave it alone."""
    cycle = schedules.one_cycle(100)
    steps = np.arange(100)
    late = schedules.warmup(10).then(cycle)
    assert set(late.momentum(np.arange(11))) == {0.95}
    assert np.array_equal(late.momentum(steps + 10), cycle.momentum(steps))
    early = cycle.then(schedules.cosine(10), after=30)
    assert np.array_equal(early.momentum(steps[:30]), cycle.momentum(steps[:30]))
    assert set(early.momentum(np.arange(30, 60))) == {cycle.momentum(30)}
    both = cycle.then(schedules.cyclic(10), after=30)
    assert both.momentum(30) == 0.9
    assert both.momentum(29) == cycle.momentum(29)
    for same in (cycle * 0.5, 0.5 * cycle, schedules.cosine(10) * cycle, cycle.temperature(2.0)):
        assert np.array_equal(same.momentum(steps), cycle.momentum(steps))
    assert (schedules.cosine(10) * 0.5).momentum(3) is None
    assert schedules.warmup(10).then(schedules.cosine(10)).momentum(3) is None
