"""The law `RangeTest` on rows: how it sweeps, where it stops, what it rehearses, and what peak it sets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.controllers import Adjustment, RangeTest
from adaptive_lr.controllers.range_sweep import START_SHARE
from adaptive_lr.statistics import Phase, Statistics

START = Statistics(0, Phase.START)
SIZE = RangeTest().size
"""Of the update at the peak of a run of 300."""


def rows(losses: Any, ratios: Any = 1e-4) -> list[Statistics]:
    """The START row and one AFTER row for each loss."""
    ratios = np.broadcast_to(ratios, np.shape(losses)).tolist()
    values = zip(np.asarray(losses, dtype=float).tolist(), ratios, strict=True)
    return [
        START,
        *(
            Statistics(step, Phase.AFTER, {"loss": loss, "update_ratio": ratio})
            for step, (loss, ratio) in enumerate(values)
        ),
    ]


def levels(adjustments: list[Adjustment]) -> list[float]:
    return [adjustment.level for adjustment in adjustments if adjustment.level is not None]


def actions(adjustments: list[Adjustment]) -> list[str]:
    return [reason.action for adjustment in adjustments for reason in adjustment.reasons]


def peak(adjustments: list[Adjustment]) -> float:
    """The factor at the end; the law has let go."""
    assert adjustments[-1].level is None
    return adjustments[-1].factor


def test_the_sweep_is_geometric() -> None:
    """From `start`, `steps_per_decade` levels a decade, whatever the loss does, up to and including `end`."""
    law = RangeTest(start=1e-3, end=1.0, steps_per_decade=8, to_divergence=True)
    swept = levels(law.simulate(rows(np.full(30, 2.0))))[:25]
    np.testing.assert_allclose(swept, 1e-3 * 10 ** (np.arange(25) / 8), rtol=1e-12)


def test_two_trials_are_taken_back_and_the_sweep_starts_where_updates_are_small() -> None:
    """At a small share of the bar: the first trial says about where, the second exactly where."""
    target = START_SHARE * SIZE
    first, trial, again, second = RangeTest().simulate(rows([2.0, 2.0, 2.0], [0.05, 0.0015, 1e-3]))
    assert (first.level, first.snapshot) == (1.0, True)
    near = nearest_rung(target / 0.05)
    assert trial.level == pytest.approx(near)
    assert again.level == pytest.approx(nearest_rung(near * target / 0.0015))
    assert all((a.rewind, a.reasons[0].action) == (True, "trial") for a in (trial, again))
    assert second.level == pytest.approx(again.level * 10 ** (1 / 12))


def nearest_rung(level: float) -> float:
    return float(10.0 ** (round(12 * math.log10(level)) / 12))


@given(
    lr=st.floats(1e-9, 1e6),
    ratio_of_lr=st.floats(1e-3, 1e3),
    rounding=st.floats(0.5, 2.0),
    steps_per_decade=st.sampled_from([4.0, 8.0, 12.0]),
)
def test_every_learning_rate_given_leads_to_the_same_ladder(
    lr: float, ratio_of_lr: float, rounding: float, steps_per_decade: float
) -> None:
    """The first trial may be off by a factor of two; the second puts the start on the rung nearest to the target."""
    law = RangeTest(steps_per_decade=steps_per_decade)
    state, _ = law.update(law.init(), Statistics(0, Phase.START, {"reference_lr": lr}))
    state, tried = law.update(
        state, Statistics(0, Phase.AFTER, {"loss": 2.0, "update_ratio": ratio_of_lr * lr * rounding})
    )
    assert tried.level is not None
    exact = ratio_of_lr * lr * tried.level
    state, started = law.update(state, Statistics(1, Phase.AFTER, {"loss": 2.0, "update_ratio": exact}))
    assert started.level is not None
    rungs = steps_per_decade * math.log10(started.level * lr)
    assert rungs == pytest.approx(round(rungs), abs=1e-6)
    ideal = steps_per_decade * math.log10(law.bar * START_SHARE / ratio_of_lr)
    assert abs(rungs - ideal) <= 0.5 + 1e-6


def test_a_network_of_several_matrices_is_swept_from_the_same_rung_whatever_learning_rate_is_given() -> None:
    """Bit-equal: a large first update, whose size is not in proportion to its learning rate, shifts nothing."""
    shares = np.array([0.7, 1.3, 2.9, 0.4, 5.3])  # ‖update‖ / ‖weight‖ of each matrix over the learning rate

    def row(step: int, lr: float) -> Statistics:
        ratios = shares * lr
        values = {"update_ratio": float(ratios.max()), "compound_ratio": float(np.expm1(np.log1p(ratios).sum()))}
        return Statistics(step, Phase.AFTER, {"loss": 2.0, **values})

    starts = set()
    for lr in 10.0 ** np.arange(-7, 4).astype(float):
        law = RangeTest()
        state, _ = law.update(law.init(), Statistics(0, Phase.START, {"reference_lr": lr}))
        state, tried = law.update(state, row(0, lr))
        assert tried.level is not None
        state, started = law.update(state, row(1, lr * tried.level))
        assert started.level is not None
        starts.add((round(tried.level * lr, 12), round(started.level * lr, 12)))
    assert len(starts) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_trial_that_is_not_finite_goes_down_not_up(bad: float) -> None:
    """By a factor of 1,000 each time, until an update tells something; each is taken back."""
    first, *after = RangeTest().simulate(rows([bad, bad, 2.0], [bad, bad, SIZE]))
    assert first.level == 1.0
    np.testing.assert_allclose(levels(after), [1e-3, 1e-6, nearest_rung(1e-6 * START_SHARE)], rtol=1e-12)
    assert all(adjustment.rewind for adjustment in after)


def test_a_trial_that_changes_nothing_goes_up() -> None:
    """A learning rate so small that its update drowns in the rounding of the weights."""
    first, *after = RangeTest().simulate(rows([2.0, 2.0, 2.0], [0.0, 0.0, SIZE]))
    assert first.level == 1.0
    np.testing.assert_allclose(levels(after), [1e3, 1e6, nearest_rung(1e6 * START_SHARE)], rtol=1e-12)


@pytest.mark.parametrize("ratio", [math.nan, 0.0])
def test_trials_that_never_tell_anything_end(ratio: float) -> None:
    """A dead model does not hold the run up for ever."""
    adjustments = RangeTest(total_steps=500).simulate(rows(np.full(80, 2.0), ratio))
    assert adjustments[-1].level is None
    assert adjustments[-1].factor > 0.0


def test_the_peak_is_where_the_size_meets_its_bar() -> None:
    """Size proportional to the level, nothing known of the optimizer: the very level of that size."""
    law = RangeTest(start=1e-3)
    swept = 1e-3 * 10 ** (np.arange(40) / 12)
    adjustments = law.simulate(rows(np.linspace(2.0, 1.0, 40), 0.5 * swept))
    assert peak(adjustments) == pytest.approx(2.0 * SIZE, rel=1e-6)


def test_longer_runs_get_a_lower_peak() -> None:
    """By the square root of their length beyond 300 updates."""
    swept = 1e-3 * 10 ** (np.arange(60) / 12)
    given_rows = rows(np.linspace(2.0, 1.0, 60), 0.5 * swept)
    short, long = (peak(RangeTest(start=1e-3, total_steps=n, max_share=1.0).simulate(given_rows)) for n in (300, 900))
    assert long == pytest.approx(short / 3**0.5, rel=1e-6)


def test_what_is_usual_for_the_optimizer_enters_by_its_weight() -> None:
    """Measured twice the bar, usual 0.75 decades above: a half of the weight given in logarithms."""
    measured = 2.0 * SIZE
    swept = 1e-3 * 10 ** (np.arange(40) / 12)
    given_rows = rows(np.linspace(2.0, 1.0, 40), 0.5 * swept)
    given_rows[0] = Statistics(0, Phase.START, {"usual_lr": measured * 10**0.75 * 0.01, "reference_lr": 0.01})
    for weight in (0.0, 0.5, 1.0):
        law = RangeTest(start=1e-3, usual_weight=weight)
        assert peak(law.simulate(given_rows)) == pytest.approx(measured * 10 ** (0.375 * weight), rel=1e-6)


def rehearsed(losses: tuple[float, float, float], total_steps: int = 1200) -> list[Adjustment]:
    """A sweep up to the bar, then rehearsals that stand at these losses throughout, then the ramp."""
    law = RangeTest(start=1e-3, total_steps=total_steps)
    state, first = law.update(law.init(), START)
    adjustments = [first]
    for step in range(total_steps // 5):
        number = len(state.rehearsals.losses)
        loss = losses[number] if state.stage == "rehearse" else 2.0 - 0.01 * step
        values = {"loss": loss, "update_ratio": 0.5 * (first.level or 0.0) * 10 ** (step / 12)}
        state, adjustment = law.update(state, Statistics(step, Phase.AFTER, values))
        adjustments.append(adjustment)
    return adjustments


def test_long_runs_rehearse_and_move_the_peak_to_the_lowest_loss() -> None:
    """Half a decade down or up, or to the vertex between; the size, half the level, has half the bar there."""
    assert actions(rehearsed((1.0, 1.0, 1.0))) == [
        "sweep", "peak", "rehearse", *["rehearsed"] * 3, "confirm", "release"
    ]  # fmt: skip
    assert peak(rehearsed((1.0, 1.0, 1.0))) == pytest.approx(SIZE, rel=1e-6)
    assert peak(rehearsed((1.0, 2.0, 3.0))) == pytest.approx(SIZE * 10**-0.5, rel=1e-6)
    assert peak(rehearsed((3.0, 2.0, math.inf))) == pytest.approx(SIZE * 10**-0.25, rel=1e-6)
    assert peak(rehearsed((3.0, 2.0, 1.5))) == pytest.approx(SIZE * 10**0.5, rel=1e-6)


def confirmation(adjustments: list[Adjustment]) -> str:
    """The sentence that says what the rehearsals came to."""
    (text,) = [reason.text for a in adjustments for reason in a.reasons if reason.action == "confirm"]
    return text


def test_where_no_rehearsal_ends_at_a_finite_loss_the_peak_stays_and_the_reason_says_so() -> None:
    """Of infinite losses, of undefined ones, and of ones too large to reckon with, no lowest one is named."""
    adjustments = rehearsed((math.inf, math.nan, 1e200))
    said = f"none of 3 rehearsals ends at a finite loss: the peak stays {SIZE:.4g} x the reference"
    assert confirmation(adjustments) == said
    assert peak(adjustments) == pytest.approx(SIZE, rel=1e-6)


def test_where_one_does_the_reason_names_its_loss() -> None:
    peaks = f"{SIZE * 10**-0.5:.4g} x the reference, not {SIZE:.4g}"
    said = f"of 3 rehearsals the lowest loss is 3: the peak is {peaks}"
    assert confirmation(rehearsed((3.0, math.inf, math.inf))) == said


@pytest.mark.parametrize("total_steps", [1000, 1200, 4000])
def test_rehearsals_and_sweep_together_stay_within_their_share(total_steps: int) -> None:
    """A tenth of the run; then from a tenth of the peak up to it."""
    adjustments = rehearsed((3.0, 2.0, 3.0), total_steps)
    confirmed = next(i for i, adjustment in enumerate(adjustments) if "confirm" in actions([adjustment]))
    assert confirmed <= total_steps // 10
    assert adjustments[confirmed].level == pytest.approx(0.1 * peak(adjustments))
    assert adjustments[confirmed].rewind


def test_each_rehearsal_is_taken_back_and_the_first_weights_are_never_replaced() -> None:
    """One rewind before each, one after the last, and no snapshot but the first."""
    adjustments = rehearsed((3.0, 2.0, 3.0))
    assert sum(adjustment.rewind for adjustment in adjustments) == 4
    assert [adjustment.snapshot for adjustment in adjustments] == [True] + [False] * (len(adjustments) - 1)


def test_short_runs_and_classic_curves_do_not_rehearse() -> None:
    assert "rehearse" not in actions(rehearsed((3.0, 2.0, 3.0), 999))
    assert not RangeTest(total_steps=5000, to_divergence=True).may_rehearse
    assert not RangeTest().may_rehearse


def test_without_losses_nothing_is_rehearsed() -> None:
    law = RangeTest(start=1e-3, total_steps=1200)
    ratios = [5e-4 * 10 ** (step / 12) for step in range(60)]
    rows_without = [START, *(Statistics(i, Phase.AFTER, {"update_ratio": ratio}) for i, ratio in enumerate(ratios))]
    assert actions(law.simulate(rows_without)) == ["sweep", "peak"]


FLAT = (2.3034, 2.3026, 2.3045, 2.3028, 2.3006, 2.3055, 2.3046, 2.3143, 2.2963, 2.3155, 2.3199, 2.3099, 2.3057, 2.3425)
"""Losses of the first updates of a network of seven plain layers: nothing happens, and the last is high by chance."""


def test_chance_is_not_taken_for_divergence_while_nothing_is_changed() -> None:
    """A flat loss somewhat above its start: the sweep goes on. Far above it, or with real updates: it ends."""
    assert actions(RangeTest(start=1e-3).simulate(rows(FLAT, 0.02))) == ["sweep"]
    assert "peak" in actions(RangeTest(start=1e-3).simulate(rows(FLAT, 0.1)))
    risen = [*FLAT, *np.linspace(2.4, 4.0, 5)]
    assert "peak" in actions(RangeTest(start=1e-3).simulate(rows(risen, 0.02)))


def test_a_peak_above_the_last_level_is_reached_at_the_pace_of_the_sweep() -> None:
    """A tenth of 200 updates end at a quarter of the bar: 12 levels a decade up to four times that."""
    swept = 1e-3 * 10 ** (np.arange(40) / 12)
    law = RangeTest(start=1e-3, total_steps=200)
    adjustments = law.simulate(rows(np.linspace(2.0, 1.0, 40), 0.25 * SIZE * swept / swept[19]))
    assert actions(adjustments) == ["sweep", "peak", "release"]
    final = peak(adjustments)
    assert final == pytest.approx(4.0 * swept[19], rel=1e-6)
    held = levels(adjustments)
    np.testing.assert_allclose(np.diff(np.log10(held)), 1 / 12, rtol=1e-9)
    assert held[-1] < final <= held[-1] * 10 ** (1 / 12) * (1 + 1e-9)


def falling_then_rising(offset: float, scale: float = 1.0) -> np.ndarray:
    """Flat, a fall by 1, divergence; with a little noise."""
    curve = np.concatenate([np.full(20, 2.0), np.linspace(2.0, 1.0, 20), np.linspace(1.0, 30.0, 20)])
    return scale * (curve + np.random.default_rng(0).normal(0.0, 0.02, 60)) + offset


@pytest.mark.parametrize(("offset", "scale"), [(-5.0, 1.0), (-20.0, 1.0), (0.0, 1e-3), (0.0, 1e3), (0.0, 1.0)])
def test_divergence_is_seen_whatever_the_sign_and_scale_of_the_loss(offset: float, scale: float) -> None:
    """In the rise, not before; the peak lies below where it was seen, and the run goes back."""
    law = RangeTest(start=1e-3)
    adjustments = law.simulate(rows(falling_then_rising(offset * scale, scale)))
    at = next(step for step, adjustment in enumerate(adjustments) if "peak" in actions([adjustment]))
    assert 40 < at <= 50
    assert adjustments[at].rewind
    assert "the loss diverges" in adjustments[at].reasons[0].text


@pytest.mark.parametrize("level", [2.3, -2.3, 0.0])
def test_a_flat_noisy_loss_does_not_diverge(level: float) -> None:
    """In at least 98 of 100 sweeps of 96 updates with a noise of 0.3, of any sign."""
    law = RangeTest(start=1e-6, end=100.0, to_divergence=True)
    ended_early = 0
    for seed in range(100):
        losses = np.random.default_rng(seed).normal(level, 0.3, 96)
        ended_early += any("diverges" in r.text for a in law.simulate(rows(losses)) for r in a.reasons)
    assert ended_early <= 2


def test_a_loss_that_becomes_nan_ends_the_sweep_at_once_and_the_ramp_is_geometric() -> None:
    """Back to the snapshot, then from a tenth of the peak up to it at the pace of the sweep; then the factor stands."""
    adjustments = RangeTest(start=1e-3).simulate(rows([*np.linspace(2.0, 1.5, 20), math.nan, *np.full(15, 1.5)]))
    assert actions(adjustments) == ["sweep", "peak", "rewind", "release"]
    assert adjustments[21].rewind
    final = peak(adjustments)
    np.testing.assert_allclose(levels(adjustments)[21:], final * 10 ** (np.arange(12) / 12 - 1), rtol=1e-9)
    assert {adjustment.factor for adjustment in adjustments[33:]} == {final}
    assert 0.0 < final < 1e-3 * 10 ** (21 / 12)


def test_the_sweep_ends_when_its_share_of_the_run_is_spent() -> None:
    """A tenth of 200 updates, trials included; what was spent is on record."""
    adjustments = RangeTest(total_steps=200).simulate(rows(np.linspace(2.0, 1.9, 40)))
    reason = adjustments[20].reasons[0]
    assert (reason.action, actions(adjustments[:20])) == ("peak", ["sweep", "trial", "trial"])
    assert "20 updates are spent" in reason.text


def test_a_row_without_an_update_does_not_advance_it() -> None:
    """An overflow under GradScaler, and an evaluation: the same level stands, the state does not change."""
    law = RangeTest(start=1e-3)
    state, _ = law.update(law.init(), START)
    for row in rows(np.full(5, 2.0))[1:]:
        state, adjustment = law.update(state, row)
        for other in (
            Statistics(row.step, Phase.AFTER, {"loss": 2.0}, updated=False),
            Statistics(row.step, Phase.OBSERVATION, {"loss": math.nan}),
        ):
            assert law.update(state, other) == (state, Adjustment(level=adjustment.level))


def test_a_loss_that_is_not_finite_ends_the_sweep_even_where_no_update_follows_it() -> None:
    """Under GradScaler every such step is an overflow: waiting for an update would wait for ever."""
    law = RangeTest(start=1e-3)
    state, _ = law.update(law.init(), START)
    for row in rows(np.full(8, 2.0))[1:]:
        state, _ = law.update(state, row)
    _, adjustment = law.update(state, Statistics(9, Phase.AFTER, {"loss": math.nan}, updated=False))
    assert adjustment.rewind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "total_steps must be at least 1 or None, got 0"),
        ({"size": 0.0}, "size must be finite and > 0, got 0.0"),
        ({"steps_per_decade": math.inf}, "steps_per_decade must be finite and > 0, got inf"),
        ({"max_share": 1.5}, r"max_share must be in \(0, 1\], got 1.5"),
        ({"probe_share": math.nan}, r"probe_share must be in \[0, 1\], got nan"),
        ({"usual_weight": -0.1}, r"usual_weight must be in \[0, 1\], got -0.1"),
        ({"start": -1.0}, "start must be finite and > 0 or None, got -1.0"),
        ({"end": math.nan}, "end must be finite and > 0 or None, got nan"),
        ({"start": 1.0, "end": 1.0}, "end must be above start, got start=1.0, end=1.0"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RangeTest(**arguments)
