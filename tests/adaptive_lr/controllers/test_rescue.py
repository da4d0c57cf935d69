"""`Rescue`: what a much too large peak destroys is taken back, and a healthy run is left alone."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from adaptive_lr.controllers import Adjustment, Rescue
from adaptive_lr.statistics import Phase, Statistics
from rescue_rows import row, run


def test_the_start_is_kept_unless_snapshots_are_off() -> None:
    assert Rescue().update(Rescue().init(), Statistics(0, Phase.START))[1].snapshot
    assert not Rescue(snapshots=False).update(Rescue().init(), Statistics(0, Phase.START))[1].snapshot


def test_an_update_as_large_as_the_weights_is_taken_back_and_cut_to_the_target() -> None:
    first = run([row(0, 2.3, ratio=14.0)])[0]
    assert first.rewind
    assert first.factor == pytest.approx(0.1 / 14.0)
    (reason,) = first.reasons
    assert (reason.statistic, reason.value, reason.threshold) == ("update_ratio", 14.0, 0.4)


def test_only_an_update_that_began_at_the_snapshot_is_cut_by_more_than_four_decades() -> None:
    assert run([row(0, 2.3, ratio=1e6)])[0].factor == pytest.approx(1e-7)
    assert run([row(0, 2.3), row(1, 2.3, ratio=1e6)])[1].factor == pytest.approx(1e-4)


@pytest.mark.parametrize("ratio", [math.inf, math.nan])
def test_an_update_that_is_not_finite_is_taken_back(ratio: float) -> None:
    first = run([row(0, 2.3, ratio=ratio)])[0]
    assert first.rewind
    assert first.factor == 1e-4


def test_one_loss_that_is_not_finite_is_a_bad_batch_and_two_are_a_broken_run() -> None:
    losses = [2.0] * 10 + [math.nan] + [2.0] * 10 + [math.inf, math.nan]
    acts = [t for t, a in enumerate(run([row(t, loss) for t, loss in enumerate(losses)])) if a.rewind]
    assert acts == [22]


def test_losses_of_up_to_two_skipped_updates_in_a_row_are_those_of_bad_batches_and_more_are_not() -> None:
    def skipped(t: int, loss: float) -> Statistics:
        before = row(t, loss, ratio=0.0)
        return dataclasses.replace(before, values={**before.values, "skipped": 1.0})

    for bad in (1e4, math.nan):
        rows = [row(t, 2.0, ratio=0.05) for t in range(10)] + [skipped(t, bad) for t in range(10, 12)]
        rows += [row(t, 2.0) for t in range(12, 20)]
        assert not any(a.rewind for a in run(rows))
        acts = [t for t, a in enumerate(run([*rows, *(skipped(t, bad) for t in range(20, 34))])) if a.rewind]
        assert acts[0] == (23 if math.isnan(bad) else 24)  # two NaNs, or three of the five losses that are compared


def test_large_updates_that_teach_nothing_are_taken_back_after_twenty() -> None:
    rows = [row(t, 2.3 + 0.01 * (t % 3), ratio=0.02 if t < 8 else 0.3) for t in range(60)]
    acts = [(t, a) for t, a in enumerate(run(rows)) if a.rewind]
    assert acts[0][0] == 8 + 19
    assert acts[0][1].factor == pytest.approx(1 / 3)
    calm = [row(t, 2.3 + 0.01 * (t % 3), ratio=0.1) for t in range(150)]
    assert all(not a.rewind for a in run(calm))


def test_large_updates_of_small_weights_are_let_pass_while_the_loss_reaches_new_bests() -> None:
    rows = [row(t, 0.9**t, ratio=0.02 if t < 5 else 1.5) for t in range(60)]
    assert all(not a.rewind for a in run(rows))


def test_a_loss_that_rises_above_its_start_is_a_rewind_and_a_cut_of_at_least_a_third() -> None:
    losses = [2.3] * 10 + [2.0, 2.5, 4.0, 8.0]
    acts = [a for a in run([row(t, loss, 0.02 if t < 10 else 0.2) for t, loss in enumerate(losses)]) if a.reasons]
    assert len(acts) == 1
    assert acts[0].rewind
    assert acts[0].factor == pytest.approx(1 / 3)


def test_a_loss_that_rises_by_updates_too_small_for_harm_is_not_the_learning_rate_s() -> None:
    losses = [2.3] * 10 + [2.0, 2.5, 4.0, 8.0]
    assert not any(a.reasons for a in run([row(t, loss, 0.01) for t, loss in enumerate(losses)]))
    unknown = run([row(t, loss, ratio=0.0) for t, loss in enumerate(losses)])
    assert any(a.rewind for a in unknown)


def risen(updates: int) -> list[float]:
    """Of 2.3 with a little noise, then rising as if a cut did nothing."""
    return [2.3 + 0.01 * (t % 3) + 0.15 * max(t - 8, 0) for t in range(updates)]


def test_where_two_cuts_do_not_stop_the_loss_from_rising_a_third_is_not_made_and_both_are_lifted() -> None:
    """As the surrogate loss of a policy gradient: it rises while the policy gets better, at any learning rate."""
    law, state = Rescue(), Rescue().init()
    acts, losses = [], iter(risen(40))
    for t in range(300):
        state, adjustment = law.update(state, row(t, next(losses, 9.0), ratio=0.2))
        acts += [(adjustment.rewind, reason.action) for reason in adjustment.reasons if reason.action != "hold"]
        if adjustment.rewind:
            losses = iter(risen(40))  # the data go on; the weights, and what they do, begin again
    assert acts == [(True, "rescue"), (True, "rescue"), (False, "clear"), *[(False, "recover")] * 10]
    assert state.factor == 1.0
    assert not law.needs_snapshot(state)
    assert "update_ratio" not in law.requires_now(state)


def test_where_the_loss_falls_between_two_cuts_each_is_the_first() -> None:
    law, state, cuts = Rescue(), Rescue().init(), 0
    losses = iter([*learning(60), *[3.0] * 60])
    for t in range(900):
        state, adjustment = law.update(state, row(t, next(losses, 3.0), ratio=0.1))
        cuts += adjustment.rewind
        if adjustment.rewind:
            losses = iter([*learning(60), *[3.0] * 60])
    assert cuts > 3
    assert not state.futility.found


def learning(num: int = 200) -> list[float]:
    noise = 0.05 * np.random.default_rng(0).normal(size=num)
    return list((0.2 + 2.1 * np.exp(-np.arange(num) / 40) + noise).tolist())


@pytest.mark.parametrize("ratio", [0.05, 0.14, 0.39])
def test_a_run_that_learns_is_left_alone_whatever_its_ratio_below_the_largest(ratio: float) -> None:
    adjustments = run([row(t, loss, ratio) for t, loss in enumerate(learning())])
    assert all(not a.reasons and not a.rewind and a.factor == 1.0 for a in adjustments)


def test_while_the_base_rises_a_large_ratio_is_taken_back_even_from_a_run_that_learns() -> None:
    """Ten updates after it raised the suspicion; at once where nothing can be taken back."""
    rows = [row(t, loss, 0.05 if t < 10 else 0.45, base=min(t + 1, 12) / 12) for t, loss in enumerate(learning())]
    assert [(t, r.action) for t, a in enumerate(run(rows)) for r in a.reasons][:1] == [(20, "rescue")]
    assert next(t for t, a in enumerate(run(rows)) if a.rewind) == 20
    assert next(t for t, a in enumerate(run(rows, Rescue(snapshots=False))) if a.factor < 1.0) == 10


def test_after_a_cut_a_rising_base_is_held_where_the_ratio_passes_the_target() -> None:
    """A run whose ratio is proportional to the learning rate ends where that ratio is the target."""
    law, factor, rates, actions = Rescue(), 1.0, [], []
    state, _ = law.update(law.init(), Statistics(0, Phase.START))
    for t, loss in enumerate(learning(120)):
        base = min(t + 1, 40) / 40
        rates.append(base * factor)
        state, adjustment = law.update(state, row(t, loss, 2.0 * base * factor, base))
        factor = adjustment.factor
        actions += [reason.action for reason in adjustment.reasons]
    assert actions[0] == "rescue"
    assert set(actions[1:]) == {"hold"}
    assert 0.1 / 1.15 <= 2.0 * rates[-1] <= 0.1 * 1.15


def test_a_network_that_large_updates_leave_dead_is_taken_back() -> None:
    """Its loss stands below the start, where the start was worse than a constant answer, and never comes back up."""
    rows = [row(t, 13.0 - t, 0.2, base=(t + 1) / 10) for t in range(10)] + [row(t, 2.3, 0.01) for t in range(10, 60)]
    norms = [100.0] * 10 + [0.1] * 50
    shown = [dataclasses.replace(r, values={**r.values, "grad_norm": g}) for r, g in zip(rows, norms, strict=True)]
    acts = [(t, a.reasons[0]) for t, a in enumerate(run(shown)) if a.rewind]
    assert [t for t, _ in acts] == [17]
    assert acts[0][1].statistic == "grad_norm"
    assert "dead" in acts[0][1].text
    assert not any(a.rewind for a in run(rows))  # nothing else tells
    alive = [dataclasses.replace(r, values={**r.values, "grad_norm": 10.0}) for r in rows]
    assert not any(a.rewind for a in run(alive))
    small = [dataclasses.replace(r, values={**r.values, "update_ratio": 0.1}) for r in shown]
    assert not any(a.rewind for a in run(small))  # what converges by moderate updates is let be


def test_a_cut_long_after_the_large_updates_aims_at_the_rate_at_which_they_would_have_been_the_target() -> None:
    """The steepest update was made at a tenth of the peak: back at its weights, the peak would be ten times worse."""
    losses = [*np.linspace(2.3, 0.5, 70).tolist(), *[1.5] * 40]
    rows = [row(t, loss, 0.25 if t == 0 else 0.05, base=min(t + 1, 10) / 10) for t, loss in enumerate(losses)]
    first = next(a for a in run(rows) if a.reasons)
    assert "mean loss rose" in first.reasons[0].text
    assert first.factor == pytest.approx(0.1 * (0.1 / 0.25))


def test_no_snapshot_is_taken_while_the_gradient_is_vanished() -> None:
    rows = [row(t, 13.0 * 0.97**t, 0.02) for t in range(60)]
    norms = [100.0 if t < 9 or t % 2 else 0.1 for t in range(60)]
    shown = [dataclasses.replace(r, values={**r.values, "grad_norm": g}) for r, g in zip(rows, norms, strict=True)]
    taken = [[t for t, a in enumerate(run(given)) if a.snapshot] for given in (rows, shown)]
    assert taken[0][0] == 9
    assert taken[1]
    assert all(norms[t] == 100.0 for t in taken[1])


def low_then_usual(first: int) -> list[Statistics]:
    losses = [0.4, *[1.3, 0.9, 1.1] * 10]
    return [row(first + t, loss, 0.12) for t, loss in enumerate(losses)]


def test_where_the_watch_begins_midway_through_a_run_one_low_loss_is_not_its_start() -> None:
    """As it does when a sweep lets go: the first row that the law sees is not of the first update."""
    law = Rescue()
    for first, size in ((30, 5), (0, 1)):
        state, _ = law.update(law.init(), Statistics(0, Phase.START))
        for given in low_then_usual(first):
            state, adjustment = law.update(state, given)
            assert not adjustment.rewind
        assert state.damage.watch.start.size == size


@pytest.mark.parametrize(("first", "midway"), [(0, False), (30, True)])
def test_a_watch_begins_midway_where_updates_were_made_before_its_first_row_and_not_by_a_base_of_zero(
    first: int, midway: bool
) -> None:
    law = Rescue()
    state, _ = law.update(law.init(), Statistics(0, Phase.START))
    for t, base in enumerate((1.0,) if midway else (0.0, 0.1, 0.2)):
        state, _ = law.update(state, row(first + t, 2.3, 0.05, base=base))
        assert state.damage.midway == midway


def test_a_peak_that_is_passed_after_the_watch_begins_a_new_one_midway() -> None:
    before = [row(t, 1.1, 0.01) for t in range(30)]
    again = [dataclasses.replace(r, values={**r.values, "base_lr": 2.0}) for r in low_then_usual(30)]
    assert not any(a.rewind for a in run([*before, *again], Rescue(watch_steps=10)))


def test_a_setback_goes_back_to_before_updates_grew_large() -> None:
    """The loss falls and comes back up: no snapshot replaces the one before the large updates."""
    losses = [*np.linspace(2.3, 2.0, 30).tolist(), *np.linspace(2.0, 0.5, 40).tolist(), *[1.5] * 40]
    adjustments = run([row(t, loss, 0.02 if t < 30 else 0.25) for t, loss in enumerate(losses)])
    assert all(t < 30 for t, a in enumerate(adjustments) if a.snapshot)
    first = next(a for a in adjustments if a.reasons)
    assert first.rewind
    assert first.factor == pytest.approx(1 / 3)
    assert "mean loss rose" in first.reasons[0].text


def test_a_setback_after_the_watch_is_cut_only_where_a_comparison_confirms_it() -> None:
    losses = [*np.linspace(2.3, 0.5, 100).tolist(), *[0.5] * 30, *[1.5] * 90]
    adjustments = run([row(t, loss) for t, loss in enumerate(losses)], Rescue(watch_steps=50))
    told = [reason.action for adjustment in adjustments for reason in adjustment.reasons]
    assert told == ["suspect", "compare", "clear"]
    assert adjustments[-1].factor == 1.0
    fall = 130 + 24 + 8  # the cut is made a window and a block after the loss rose
    better = [0.6 if t > fall + 24 else loss for t, loss in enumerate(losses)]
    adjustments = run([row(t, loss) for t, loss in enumerate(better)], Rescue(watch_steps=50))
    assert adjustments[-1].factor == pytest.approx(1 / 3)


def test_a_setback_after_the_watch_changes_nothing_without_snapshots() -> None:
    losses = [*np.linspace(2.3, 0.5, 100).tolist(), *[0.5] * 30, *[1.5] * 90]
    adjustments = run([row(t, loss) for t, loss in enumerate(losses)], Rescue(watch_steps=50, snapshots=False))
    assert {adjustment.factor for adjustment in adjustments} == {1.0}


def test_a_loss_that_rises_with_a_base_that_rises_again_is_no_setback() -> None:
    """A warm restart: at a lower learning rate the loss had been lower."""
    losses = [*np.linspace(2.3, 0.5, 130).tolist(), *[1.5] * 90]
    bases = [*np.linspace(1.0, 0.1, 130).tolist(), *[1.0] * 90]
    rows = [row(t, loss, base=base) for t, (loss, base) in enumerate(zip(losses, bases, strict=True))]
    assert not any(adjustment.reasons for adjustment in run(rows, Rescue(watch_steps=50)))


def test_losses_far_above_the_start_are_taken_back_once_that_is_no_noise() -> None:
    losses = [16.9, 21.7, 25.3, 28.4, 29.5, 30.1, 30.0, 30.2, 30.1]
    rewinds = [a.rewind for a in run([row(t, loss, 0.12 + 0.02 * t) for t, loss in enumerate(losses)])]
    assert rewinds.index(True) == 6  # they are noisy: the fifth after the start decides, and more
    calm = run([row(t, loss, 0.02) for t, loss in enumerate([16.9, 16.0, 22.0, 22.0, 22.0])])
    assert not any(a.rewind for a in calm)


def test_snapshots_follow_an_improving_run_and_never_a_worse_state() -> None:
    losses = np.concatenate([np.linspace(2.3, 1.0, 40), np.linspace(1.0, 1.2, 30)])
    taken = [t for t, a in enumerate(run([row(t, loss) for t, loss in enumerate(losses.tolist())])) if a.snapshot]
    assert taken
    assert max(taken) < 55  # the smoothed loss turns about ten steps after the loss
    assert min(np.diff(taken)) >= 10


def test_it_stops_watching_when_the_base_has_long_stopped_rising_and_starts_again_when_it_rises_higher() -> None:
    law = Rescue(watch_steps=50)
    state, _ = law.update(law.init(), Statistics(0, Phase.START))
    for t in range(30):
        state, _ = law.update(state, row(t, 2.0, base=(t + 1) / 30))
    assert state.watching
    for t in range(30, 81):
        state, _ = law.update(state, row(t, 2.0, base=0.5))
    assert not state.watching
    assert law.requires_now(state) == {"base_lr", "skipped"}
    assert not law.needs_snapshot(state)
    state, adjustment = law.update(state, row(81, 2.0, ratio=9.0, base=0.9))
    assert not adjustment.reasons
    state, _ = law.update(state, row(82, 2.0, base=1.1))
    assert state.watching


def test_rows_without_an_update_and_rows_without_a_loss_do_no_harm() -> None:
    overflow = row(0, 1e9, updated=False)
    assert run([overflow])[0] == Adjustment()
    assert all(not a.reasons for a in run([row(t, None) for t in range(80)]))


@pytest.mark.parametrize(
    "change",
    [{"watch_steps": 0}, {"max_ratio": 0.1}, {"target_ratio": 0.0}, {"min_factor": 0.0}, {"max_ratio": math.inf}],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(Rescue(), **change)


def test_a_fall_that_large_updates_gave_back_is_taken_back_though_the_loss_stands_below_its_start() -> None:
    """Of a fall of 0.6 less than a tenth is left when 20 updates larger than 0.14 are made."""
    losses = [*[2.3, 2.31, 2.29, 2.3, 2.3], *np.linspace(2.2, 1.7, 6).tolist(), *[2.28] * 40]
    acts = [a for a in run([row(t, loss, 0.02 if t < 8 else 0.3) for t, loss in enumerate(losses)]) if a.rewind]
    assert "taught nothing" in acts[0].reasons[0].text
    kept = [*losses[:11], *[2.1] * 40]
    assert not any(a.rewind for a in run([row(t, loss, 0.02 if t < 8 else 0.3) for t, loss in enumerate(kept)])[:35])


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_loss_that_is_itself_not_finite_is_taken_back_under_a_grad_scaler_too(loss: float) -> None:
    """Every such step is an overflow of the loss scale; a finite loss with one is the scaler's business."""
    healthy = [row(t, 2.0 - 0.01 * t, 0.05) for t in range(10)]
    broken = [Statistics(10, Phase.AFTER, {"loss": loss}, updated=False)] * 2
    adjustments = run([*healthy, *broken])
    assert [t for t, a in enumerate(adjustments) if a.rewind] == [11]
    assert adjustments[-1].factor == pytest.approx(1 / 3)
    scaled = [Statistics(10, Phase.AFTER, {"loss": 1.9}, updated=False)] * 20
    assert not any(a.rewind or a.reasons for a in run([*healthy, *scaled]))


def test_an_optimizer_without_a_learning_rate_does_not_stop_the_run() -> None:
    """Adafactor with relative steps: its base learning rate is NaN."""
    rows = [row(t, 2.0 if t < 10 else math.nan, 0.1, base=math.nan) for t in range(20)]
    adjustments = run(rows)
    assert any(a.rewind for a in adjustments)
    assert all(0.0 < a.factor <= 1.0 for a in adjustments)


def dying(moved: float, reached: float) -> list[Adjustment]:
    """Updates that change the weights by 0.05, then by so much; the gradient's norm tells nothing."""
    noise = np.random.default_rng(0).normal(0.0, 0.02, 120)
    rows = [row(t, 2.3 + noise[t], 0.05) for t in range(30)]
    return run(rows + [row(t, reached + noise[t], moved) for t in range(30, 120)])


def test_weights_that_no_longer_move_at_the_loss_of_the_start_are_taken_back() -> None:
    asked = [reason for adjustment in dying(1e-4, 2.3) for reason in adjustment.reasons]
    assert "hardly move" in asked[0].text
    assert asked[0].statistic == "loss"


@pytest.mark.parametrize(("moved", "reached"), [(0.05, 2.3), (1e-4, 1.0), (0.01, 2.3)])
def test_weights_that_still_move_or_have_learned_are_left_alone(moved: float, reached: float) -> None:
    assert not any(adjustment.reasons for adjustment in dying(moved, reached))


def test_updates_that_were_left_out_or_not_measured_are_no_sign_of_death() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.02, 120)
    rows = [row(t, 2.3 + noise[t], 0.05) for t in range(30)]
    bare = {"base_lr": 1.0}
    rows += [Statistics(t, Phase.AFTER, {**bare, "loss": 2.3 + noise[t]}) for t in range(30, 120)]
    assert not any(adjustment.reasons for adjustment in run(rows))
