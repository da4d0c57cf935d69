"""The schedules that torch does not have, against the formulas they were published with."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adaptive_lr import schedules

STEPS = np.arange(400)


@pytest.mark.parametrize("staircase", [False, True])
def test_exponential_is_keras_exponential_decay(staircase: bool) -> None:
    """Keras: initial_learning_rate * decay_rate ^ (step / decay_steps), rounded down with `staircase`."""
    schedule = schedules.exponential(0.96, decay_steps=30, staircase=staircase)
    published = [0.96 ** (step // 30 if staircase else step / 30) for step in range(400)]
    np.testing.assert_allclose(schedule(STEPS), published, rtol=1e-14)


def keras_cosine_decay(
    step: int, initial: float, decay_steps: int, alpha: float, target: float | None, warmup: int
) -> float:
    """`keras.optimizers.schedules.CosineDecay` as its documentation gives it."""

    def decayed(step: int, start: float) -> float:
        step = min(step, decay_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * step / decay_steps))
        return start * ((1 - alpha) * cosine + alpha)

    if target is None:
        return decayed(step, initial)
    if step < warmup:
        return initial + step / warmup * (target - initial)
    return decayed(step - warmup, target)


@pytest.mark.parametrize(
    ("initial", "decay_steps", "alpha", "target", "warmup"),
    [(0.0, 300, 0.0, 0.1, 50), (0.02, 120, 0.1, 0.1, 30), (0.1, 250, 0.3, None, 0), (0.05, 10, 1.0, 0.2, 1)],
)
def test_cosine_decay_is_keras_with_floor_and_warm_up(
    initial: float, decay_steps: int, alpha: float, target: float | None, warmup: int
) -> None:
    """Factor × peak is Keras's learning rate, the peak being `warmup_target` (without one, the initial rate)."""
    peak = initial if target is None else target
    schedule = schedules.cosine_decay(decay_steps, alpha=alpha, warmup_steps=warmup, warmup_start=initial / peak)
    published = [keras_cosine_decay(step, initial, decay_steps, alpha, target, warmup) for step in range(400)]
    np.testing.assert_allclose(peak * schedule(STEPS), published, rtol=1e-13, atol=1e-15)


def test_warm_restarts_grow_and_decay_like_sgdr() -> None:
    """Cycles of 10, 20, 40, ... steps restart at 1, 0.5, 0.25 (Keras's CosineDecayRestarts: t_mul 2, m_mul 0.5)."""
    schedule = schedules.cosine_warm_restarts(10, 2, cycle_decay=0.5)
    assert [schedule(step) for step in (0, 10, 30, 70, 150)] == [1.0, 0.5, 0.25, 0.125, 0.0625]
    start, size, height, published = 0, 10, 1.0, []
    for step in range(400):
        if step == start + size:
            start, size, height = step, 2 * size, height / 2
        published.append(height * (1 + math.cos(math.pi * (step - start) / size)) / 2)
    np.testing.assert_allclose(schedule(STEPS), published, atol=1e-15)


def test_warm_restarts_never_go_below_the_floor_and_end_each_cycle_near_it() -> None:
    schedule = schedules.cosine_warm_restarts(100, eta_min=0.2, cycle_decay=0.9)
    factors = schedule(np.arange(1000))
    assert factors.min() >= 0.2
    assert factors[99::100].max() < 0.2 + 0.8 * math.sin(math.pi / 200) ** 2 + 1e-12
    np.testing.assert_allclose(factors[::100], 0.2 + 0.8 * 0.9 ** np.arange(10), rtol=1e-14)


def test_warm_up_then_inverse_sqrt_is_the_transformers() -> None:
    """Vaswani et al. (2017), equation 3: min(step^-0.5, step warmup^-1.5), here divided by its peak warmup^-0.5."""
    warmup = 40
    schedule = schedules.warmup(warmup).then(schedules.inverse_sqrt(warmup))
    published = [min(step**-0.5, step * warmup**-1.5) / warmup**-0.5 for step in range(1, 400)]
    np.testing.assert_allclose(schedule(np.arange(1, 400)), published, rtol=1e-14)


def test_constant_then_inverse_sqrt_is_t5s() -> None:
    """Raffel et al. (2020): 1 / sqrt(max(step, k)), here divided by its peak."""
    schedule = schedules.constant().then(schedules.inverse_sqrt(100), after=100)
    published = [math.sqrt(100 / max(step, 100)) for step in range(400)]
    np.testing.assert_allclose(schedule(STEPS), published, rtol=1e-14)


@pytest.mark.parametrize(
    ("shape", "share_left"),
    [
        ("linear", lambda p: 1 - p),
        ("cosine", lambda p: (1 + math.cos(math.pi * p)) / 2),
        ("1-sqrt", lambda p: 1 - math.sqrt(p)),
        ("1-square", lambda p: 1 - p * p),
    ],
)
def test_warmup_stable_decay_has_three_phases(shape: str, share_left: object) -> None:
    """Hägele et al. (2024): linear warm-up, the peak, and a decay of the given shape at the end."""
    schedule = schedules.warmup_stable_decay(
        400, warmup_steps=50, decay_steps=80, decay_shape=shape, start_factor=0.1, end_factor=0.05
    )
    published = []
    for step in range(450):
        if step < 50:
            published.append(0.1 + 0.9 * step / 50)
        elif step <= 320:
            published.append(1.0)
        else:
            published.append(0.05 + 0.95 * share_left(min((step - 320) / 80, 1.0)))  # type: ignore[operator]
    np.testing.assert_allclose(schedule(np.arange(450)), published, rtol=1e-13)


def test_exponential_decay_of_warmup_stable_decay_is_straight_in_the_logarithm() -> None:
    schedule = schedules.warmup_stable_decay(100, decay_steps=40, decay_shape="exponential", end_factor=0.01)
    np.testing.assert_allclose(np.diff(np.log(schedule(np.arange(60, 101)))), math.log(0.01) / 40, rtol=1e-9)
    assert schedule(100) == 0.01


def test_warmup_stable_decay_decays_over_a_fifth_by_default() -> None:
    assert schedules.warmup_stable_decay(1000) == schedules.warmup_stable_decay(1000, decay_steps=200)


def test_constant_with_decay_falls_in_the_last_tenth_only() -> None:
    """1 up to nine tenths, then a straight line to 0 at the end."""
    schedule = schedules.constant_with_decay(1000)
    assert set(schedule(np.arange(901))) == {1.0}
    np.testing.assert_allclose(schedule(np.arange(900, 1001)), 1 - np.arange(101) / 100, atol=1e-15)
    assert schedules.constant_with_decay(15)(13) == 1.0, "a tenth of 15 steps is rounded up to 2"
    assert schedules.constant_with_decay(15)(14) == 0.5


def test_warm_up_rises_from_its_start_to_exactly_the_peak() -> None:
    assert schedules.warmup(10)(np.arange(12)).tolist() == pytest.approx([*(np.arange(11) / 10), 1.0])
    for shape in ("linear", "cosine", "1-sqrt", "1-square", "exponential"):
        schedule = schedules.warmup(10, start_factor=0.01, shape=shape)
        factors = schedule(np.arange(11))
        assert (factors[0], factors[-1]) == (0.01, 1.0)
        assert (np.diff(factors) > 0).all(), shape
    assert schedules.warmup(0)(0) == 1.0


def test_temperature_scales_powers_and_rates() -> None:
    """At temperature T a polynomial of power p is one of power p / T, an exponential of rate g one of g^(1/T)."""
    hot = schedules.polynomial(100, 2.0).temperature(4.0)
    np.testing.assert_allclose(hot(STEPS), schedules.polynomial(100, 0.5)(STEPS), rtol=1e-13)
    cold = schedules.exponential(0.9).temperature(0.5)
    np.testing.assert_allclose(cold(STEPS), schedules.exponential(0.81)(STEPS), rtol=1e-12)
    cosine = schedules.cosine(100)
    assert np.array_equal(cosine.temperature(1.0)(STEPS), cosine(STEPS))
    inside = np.arange(1, 100)
    assert (cosine.temperature(2.0)(inside) > cosine(inside)).all()
    assert (cosine.temperature(0.5)(inside) < cosine(inside)).all()
    np.testing.assert_allclose(cosine.temperature(1e9)(np.arange(100)), 1.0, rtol=1e-7)


@pytest.mark.parametrize(
    ("schedule", "end", "last"),
    [
        (schedules.cosine(100, 0.1), 100, 0.1),
        (schedules.linear(100, start_factor=1.0, end_factor=0.3), 100, 0.3),
        (schedules.polynomial(100, 2.0, end_factor=0.2), 100, 0.2),
        (schedules.one_cycle(100), 99, 1 / 25 / 1e4),
        (schedules.one_cycle(100, three_phase=True), 99, 1 / 25 / 1e4),
        (schedules.warmup_stable_decay(100, end_factor=0.1), 100, 0.1),
        (schedules.constant_with_decay(100, end_factor=0.1), 100, 0.1),
        (schedules.warmup(100), 100, 1.0),
        (schedules.multi_step((30, 60), 0.5), 60, 0.25),
        (schedules.constant(0.3, 10), 10, 1.0),
    ],
    ids=repr,
)
def test_past_its_end_a_schedule_holds_exactly_its_last_value(
    schedule: schedules.Schedule, end: int, last: float
) -> None:
    assert set(schedule(np.array([end, end + 1, 2 * end, 10**9]))) == {last}
    momenta = schedule.momentum(np.array([end, 10**9]))
    assert momenta is None or len(set(momenta)) == 1
