"""`Rescue` compares before it judges: a suspicion, the way that is set aside, and the verdict."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_lr.controllers import Adjustment, Rescue
from adaptive_lr.statistics import Phase, Statistics
from rescue_rows import row, run


def compared(slow: bool, rise: int = 10) -> list[Adjustment]:
    """A run with a warm-up of `rise` updates that grow large; after a cut its loss falls slower, or as fast."""
    law, adjustments, value, kept, factor = Rescue(), [], 2.3, 2.3, 1.0
    state, _ = law.update(law.init(), Statistics(0, Phase.START))
    aside = value
    for step in range(60):
        base = min(step + 1, rise) / rise
        shown = row(step, value, 2.0 * base * factor, base)
        value -= 0.1 * (factor if slow else 1.0) + 0.01 * (-1) ** step
        state, adjustment = law.update(state, shown)
        kept = value if adjustment.snapshot else kept
        aside = value if adjustment.set_aside else aside
        value = aside if adjustment.resume else kept if adjustment.rewind else value
        factor = adjustment.factor
        adjustments.append(adjustment)
    return adjustments


def test_a_cut_that_slows_a_healthy_run_is_lifted_and_ratios_are_no_longer_judged() -> None:
    adjustments = compared(slow=True)
    acts = [(t, reason.action) for t, a in enumerate(adjustments) for reason in a.reasons if reason.action != "hold"]
    assert [action for _, action in acts] == ["rescue", "clear"]
    cut, cleared = (t for t, _ in acts)
    assert cut == 1 + 10  # the second update is the first whose ratio is 0.4
    assert cleared == cut + cut + 1  # as many updates from the snapshot, which is the start
    assert all(a.factor == 1.0 for a in adjustments[cleared:])


def test_the_way_without_the_cut_is_set_aside_and_resumed_where_it_did_better() -> None:
    for slow in (True, False):
        adjustments = compared(slow)
        assert [t for t, a in enumerate(adjustments) if a.set_aside] == [11]
        assert adjustments[11].rewind
        assert [t for t, a in enumerate(adjustments) if a.resume] == ([23] if slow else [])


def test_what_is_set_aside_is_needed_while_it_is_compared_and_no_longer() -> None:
    law, state, needed = Rescue(), Rescue().init(), []
    for t in range(60):
        state, _ = law.update(state, row(t, 2.0 - 0.01 * t, 0.5 if t < 12 else 0.05, min(t + 1, 5) / 5))
        needed.append(law.needs_aside(state))
    first = needed.index(True)
    assert needed[first : first + needed.count(True)] == [True] * needed.count(True)
    assert not needed[-1]
    assert not any(Rescue(snapshots=False).needs_aside(s) for s in (state, law.init()))


def test_a_way_that_is_resumed_in_a_warm_up_goes_on_from_where_its_rate_was() -> None:
    """Its weights have seen a third of the peak, the base stands at two thirds by now: it comes back in ten parts."""
    adjustments = compared(slow=True, rise=40)
    cut, cleared = (next(t for t, a in enumerate(adjustments) if wanted(a)) for wanted in (
        lambda a: a.set_aside, lambda a: a.resume))  # fmt: skip
    following = (cleared + 2) / 40
    assert adjustments[cleared].factor == pytest.approx((cut + 1) / 40 / following)
    factors = [a.factor for a in adjustments[cleared : cleared + 11]]
    assert np.diff(factors) == pytest.approx((1.0 - factors[0]) / 10)
    assert factors[10] == 1.0


def test_a_cut_that_does_not_slow_the_run_stands() -> None:
    adjustments = compared(slow=False)
    assert [r.action for a in adjustments for r in a.reasons if r.action != "hold"] == ["rescue"]
    assert adjustments[-1].factor < 1.0


def test_a_base_that_falls_below_the_ceiling_while_large_updates_are_granted_is_never_raised() -> None:
    rising = [row(t, 2.0 - 0.01 * t, 0.5, base=(t + 1) / 5) for t in range(5)]
    falling = [row(t, 2.0 - 0.01 * t, 0.001, base=1e-3) for t in range(5, 40)]
    adjustments = run(rising + falling)
    assert any(a.rewind for a in adjustments)
    assert all(a.factor <= 1.0 for a in adjustments)


def test_a_suspicion_is_followed_to_its_end_however_short_the_watch() -> None:
    rows = [row(t, 2.0 - 0.01 * t, 0.01 if t < 1 else 0.9) for t in range(12)]
    for steps in (1, 5, 200):
        adjustments = run(rows, Rescue(watch_steps=steps))
        assert [t for t, a in enumerate(adjustments) if a.rewind] == [11]


def test_a_comparison_longer_than_the_watch_comes_to_a_verdict() -> None:
    """The snapshot is as old as the run, whose flat loss gave no reason for another."""
    law = Rescue(watch_steps=20)
    state = law.init()
    rows = [row(t, 2.0 + 0.01 * (t % 2), (t + 1) / 1e4, base=(t + 1) / 100) for t in range(100)]
    rows += [row(t, 2.0 + 0.01 * (t % 2), 0.45 if t == 100 else 0.01, base=1.01) for t in range(100, 300)]
    stages = {}
    for shown in rows:
        state, _ = law.update(state, shown)
        stages[state.suspicion.stage] = shown.step
    assert list(stages) == ["none", "waits", "compares", "confirmed"]
    assert not state.watching


def test_an_update_beyond_doubt_is_cut_at_once_in_the_wait_as_well() -> None:
    rows = [row(0, 2.0, 0.05, base=0.1), row(1, 2.0, 0.5, base=0.2), row(2, 2.0, 40.0, base=0.3)]
    adjustments = run(rows)
    assert [t for t, a in enumerate(adjustments) if a.rewind] == [2]
    assert adjustments[2].factor <= 0.1 / 40.0
