"""The story of a run in words: complete, short, and true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.controllers import Decision
from adaptive_lr.statistics import Phase, Statistics
from adaptive_lr.trace import Header, TraceRecord, Update, UpdateRatios, explain
from adaptive_lr.trace.explain import MAX_EPISODES
from adaptive_lr.trace.wording import WIDTH

NAMES = ("gradient_spike", "plateau")


def decision(
    step: int,
    action: str = "damp",
    *,
    controller: str = "gradient_spike",
    phase: Phase = Phase.BEFORE,
    value: float = 9.0,
    threshold: float = 6.0,
    text: str = "the gradient was large",
    factor: tuple[float, float] = (1.0, 1.0),
    momentum: tuple[float, float] = (1.0, 1.0),
) -> Decision:
    return Decision(step, phase, controller, action, "grad_score", value, threshold, text, *factor, *momentum)


def record(
    decisions: Sequence[Decision] = (), *, steps: int = 1000, shadow: bool = False, **header: object
) -> TraceRecord:
    named = tuple({"name": name, "class": "", "configuration": {}} for name in NAMES)
    begins = Header("SGD", ("0",), named, shadow=shadow, **header)  # type: ignore[arg-type]
    updates = tuple(Update(step, (0.1,), (0.1,), (0.9,), (0.9,), 1.0, (1.0, 1.0)) for step in range(steps))
    return TraceRecord(Path("trace.jsonl"), begins, (), updates, tuple(decisions))


def unwrapped(story: str) -> str:
    return " ".join(story.split())


def test_a_run_in_which_nothing_was_changed_says_so() -> None:
    story = explain(record())
    assert "Nothing was changed: no controller saw a reason to." in story
    story = unwrapped(story)
    assert "SGD with 1 parameter group. Controllers: gradient_spike and plateau." in story
    assert "1,000 updates on record, 0 to 999." in story
    assert "The base learning rate was 0.1 throughout, and was used as it was." in story


@pytest.mark.parametrize(
    ("stalls", "told"),
    [
        ((0, 0, 0), "The host never waited for the device."),
        ((1, 0, 0), "The host waited for the device once, in 1 update."),
        ((1, 0, 4), "The host waited for the device 5 times, in 2 updates."),
    ],
)
def test_waits_for_the_device_are_told_where_rows_were_read_late(stalls: tuple[int, ...], told: str) -> None:
    run = record(steps=3)
    updates = tuple(replace(update, stalls=count) for update, count in zip(run.updates, stalls, strict=True))
    assert told in unwrapped(explain(replace(run, updates=updates)))
    assert "waited" not in explain(run)


def test_the_largest_ratio_of_the_last_update_that_has_them_is_told() -> None:
    first = UpdateRatios(0, {"a": 0.5, "b": 0.1})
    exact, estimated = UpdateRatios(10, {"a": 0.01, "b": 0.02}), UpdateRatios(10, {"a": 0.01, "b": 0.02}, {"b": 1e-4})
    for last, largest in ((exact, "b, 0.02"), (estimated, "b, 0.02 (an estimate)")):
        story = unwrapped(explain(replace(record(), update_ratios=(first, last))))
        told = f"each tensor is on record for 2 updates; in update 10 it was largest in {largest}."
        assert told in story
    assert "ratio" not in explain(record())


def test_one_decision_is_told_with_its_reason() -> None:
    cut = decision(
        300,
        "cut",
        controller="plateau",
        phase=Phase.OBSERVATION,
        text="val_loss has not improved for 3 evaluations: factor 1 -> 0.1",
        factor=(1.0, 0.1),
    )
    story = explain(record([cut]))
    assert "  evaluated after 300 updates: plateau cut the factor.\n" in story
    assert "      val_loss has not improved for 3 evaluations: factor 1 -> 0.1\n" in story
    assert "plateau  1 x cut" in story
    assert "At the end the factor stands at 0.1 (gradient_spike 1 and plateau 0.1)." in story


def test_a_change_that_the_reason_does_not_mention_is_told_all_the_same() -> None:
    story = unwrapped(explain(record([decision(3, "back off", factor=(1.0, 0.5), momentum=(1.0, 0.8))])))
    assert "step 3: gradient_spike backed off, factor 1 -> 0.5, momentum x 1 -> 0.8." in story
    assert "The momentum stands at 0.8 of its base." in story


def test_a_burst_is_one_line_with_its_extreme() -> None:
    steps = (120, 121, 124, 126, 127, 130, 131, 133, 134)
    burst = [decision(step, value=41.0 if step == 131 else 7.0, text=f"at {step}") for step in steps]
    story = explain(record(burst))
    assert "steps 120-134: gradient_spike damped 9 updates (gradient score up to 41, threshold 6).\n" in story
    assert "step 131: at 131" in story
    assert "at 120" not in story


def test_what_was_not_finite_does_not_stand_for_what_was() -> None:
    burst = [
        replace(decision(step, "skip", value=value), statistic="grad_norm")
        for step, value in ((300, 819.0), (301, 265.0), (303, math.nan))
    ]
    assert "gradient_spike skipped 3 updates (gradient norm 265 to 819 and one nan)." in explain(record(burst))
    assert "skipped 2 updates (gradient norm nan)." in explain(record([burst[2], replace(burst[2], step=304)]))
    scored = [decision(300, "skip", value=8.0), decision(301, "skip", value=6.5), burst[2]]
    assert "3 updates (2 x gradient score 6.5 to 8, 1 x gradient norm nan)." in unwrapped(explain(record(scored)))


def test_every_decision_is_told_with_its_own_reason_if_asked() -> None:
    holds = [decision(n, "hold", controller="plateau", text=f"reason number {n}") for n in range(33)]
    short, whole = explain(record(holds)), explain(record(holds), every=True)
    assert short.count("reason number") == 1
    assert "(1 of 33 reasons are told; explain --all tells all.)" in short
    assert all(f"reason number {n}\n" in whole for n in range(33))
    assert "--all" not in whole
    assert "--all" not in explain(record(holds[:1]))


def test_the_peak_is_told_as_the_learning_rate_it_is() -> None:
    peak = decision(20, "peak", controller="plateau", text="of 3 the peak is 9.1e+04 x the reference, not 3e+04")
    start = Statistics(0, Phase.START, {"reference_lr": 1e-6})
    story = unwrapped(explain(replace(record([peak]), rows=(start, Statistics(0, Phase.AFTER)))))
    assert "of 3 the peak is 0.091 (9.1e+04 x the reference of 1e-06), not 0.03" in story
    assert "multiples of the reference multiplies a learning rate of 1e-06." in story
    assert "The last update used a learning rate of 0.1." in story
    assert "the peak is 9.1e+04 x the reference, not 3e+04" in unwrapped(explain(record([peak])))


def test_a_metric_that_no_row_has_is_told_and_so_is_a_control_that_was_never_stepped() -> None:
    plateau = {"name": "plateau", "class": "", "configuration": {"monitor": "val_los"}}
    run = replace(record(), header=replace(record().header, controllers=(plateau,)))
    before, after = Statistics(0, Phase.BEFORE, {"grad_norm": 1.0}), Statistics(0, Phase.AFTER, {"loss": 1.0})
    seen = Statistics(1, Phase.OBSERVATION, {"val_loss": 1.0, "grad_norm": 1.0})
    assert "plateau never saw its metric 'val_los': reported were loss and val_loss." in unwrapped(
        explain(replace(run, rows=(before, after, seen)))
    )
    never = unwrapped(explain(replace(run, rows=(before,))))
    assert "control.step(loss) was never called, so that no law saw a whole step." in never
    assert "plateau never saw its metric 'val_los': none was reported." in never
    found = replace(seen, values={"val_los": 1.0})
    assert "never" not in explain(replace(run, rows=(before, found)))


def test_earlier_runs_in_the_folder_are_told() -> None:
    assert "2 earlier runs are in the same folder; this is the last." in unwrapped(
        explain(replace(record(), earlier_runs=2))
    )
    assert "earlier" not in explain(record())


def test_500_similar_decisions_are_not_500_lines() -> None:
    story = explain(record([decision(step) for step in range(0, 1000, 2)]))
    assert "steps 0-998: gradient_spike damped 500 updates" in story
    assert len(story.splitlines()) < 20


def test_a_long_changeable_story_is_told_in_few_episodes_and_counts_every_decision() -> None:
    actions = ["damp", "skip", "back off", "recover"]
    many = [decision(100 * n, actions[n % 4], text="") for n in range(3000)]
    story = explain(record(many, steps=300_000))
    assert story.count("gradient_spike ") <= MAX_EPISODES + 3
    assert "750 x damp, 750 x skip, 750 x back off, 750 x recover" in story


def test_bursts_far_apart_are_told_apart() -> None:
    bursts = [decision(start + n) for start in (100, 500, 900) for n in range(3)]
    story = explain(record(bursts))
    for start in (100, 500, 900):
        assert f"steps {start}-{start + 2}: gradient_spike damped 3 updates" in story


def test_the_factors_way_down_and_back_is_told() -> None:
    way = [
        decision(10, "back off", factor=(1.0, 0.5)),
        decision(20, "back off", factor=(0.5, 0.25)),
        decision(30, "back off", factor=(0.25, 0.5)),
    ]
    assert "backed off 3 times, factor 1 -> 0.25 -> 0.5." in explain(record(way))


def test_a_reflex_does_not_claim_the_change_of_level_of_its_row() -> None:
    """One row gives all its reasons the same factors; the change belongs to the action that made it."""
    row = [decision(5, "skip", factor=(1.0, 0.5)), decision(5, "back off", factor=(1.0, 0.5), text="3 spikes")]
    story = explain(record(row))
    assert "step 5: gradient_spike skipped the update.\n" in story
    assert "step 5: gradient_spike backed off, factor 1 -> 0.5.\n" in story


def test_a_shadow_run_says_that_nothing_was_done() -> None:
    story = unwrapped(explain(record([decision(3)], shadow=True)))
    assert "Shadow run: everything was decided and recorded, and nothing was changed." in story
    assert "(none of it was done: this was a shadow run)" in story
    assert "the factor would have stood at 1" in story


def test_lag_bounds_resumption_and_a_missing_beginning_are_told() -> None:
    begun = record(lag=2, min_factor=0.01, max_factor=1.0)
    story = unwrapped(explain(TraceRecord(begun.path, begun.header, (), begun.updates, (), (400,), complete=False)))
    assert "The total factor is held within 0.01 and 1." in story
    assert "acts 2 updates later than it could (lag 2)" in story
    assert "A saved state was loaded at update 400." in story
    assert "What came before that is not in this record." in story


def test_what_was_really_used_is_told_from_the_updates() -> None:
    names = ("body", "head")
    updates = (
        Update(0, (0.1, 0.2), (0.1, 0.2), (None,) * 2, (None,) * 2, 1.0, ()),
        Update(1, (0.05, 0.1), (0.1, 0.2), (None,) * 2, (None,) * 2, 0.5, (), damp=0.5),
        Update(2, (0.05, 0.1), (0.1, 0.2), (None,) * 2, (None,) * 2, 0.5, (), skipped=True),
    )
    story = unwrapped(explain(TraceRecord(Path("x"), Header("AdamW", names), (), updates, ())))
    assert "AdamW with 2 parameter groups (body and head)." in story
    assert "of group head was 0.2 throughout; what was used went from 0.2 to 0.1, 0.2 at the highest." in story
    assert "The factor differed from 1 in 2 updates, between 0.5 and 1." in story
    assert "The reflex damped the gradient and skipped the update." in story
    assert "there was no controller" in story


@pytest.mark.parametrize("groups", [1, 2, 40])
def test_many_groups_and_an_optimizer_without_rates_are_no_trouble(groups: int) -> None:
    names = tuple(str(index) for index in range(groups))
    nothing = (math.nan,) * groups
    updates = (Update(0, nothing, nothing, (None,) * groups, (None,) * groups, 1.0, ()),)
    story = explain(TraceRecord(Path("x"), Header("Adafactor", names), (), updates, ()))
    assert len(story.splitlines()) < 8
    assert "nan" not in story.lower()


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.builds(
            decision,
            step=st.integers(0, 10**7),
            action=st.sampled_from(["damp", "skip", "back off", "cut", "stop", "an action of one's own"]),
            controller=st.sampled_from(NAMES),
            phase=st.sampled_from(Phase),
            value=st.floats(),
            threshold=st.floats(),
            text=st.text(max_size=30),
            factor=st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)),
            momentum=st.tuples(st.floats(0, 1), st.floats(0, 1)),
        ),
        max_size=200,
    ).map(lambda found: sorted(found, key=lambda d: d.step)),
    st.booleans(),
)
def test_any_decisions_make_a_story_of_bounded_length_that_counts_them_all(
    decisions: list[Decision], shadow: bool
) -> None:
    story = explain(record(decisions, steps=3, shadow=shadow))
    for controller in NAMES:
        for action in {d.action for d in decisions if d.controller == controller}:
            count = sum(d.controller == controller and d.action == action for d in decisions)
            assert f"{count:,} x {action}" in story
    headlines = [line for line in story.splitlines() if line.startswith("  ") and line[2] != " "]
    assert len(headlines) <= 2 * (MAX_EPISODES + len(NAMES))  # a headline may wrap
    assert all(len(line) <= WIDTH + 30 for line in story.splitlines())  # a word as long as it is stays whole
