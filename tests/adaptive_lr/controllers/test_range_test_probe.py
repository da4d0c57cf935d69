"""`RangeTest` at the peak: ten times as much is tried, taken back, and taken where it did clearly better."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from adaptive_lr import AdaptiveLR, controllers, schedules
from adaptive_lr.controllers import Adjustment, RangeTest
from adaptive_lr.controllers.composition import Decision
from adaptive_lr.statistics import Phase, Statistics

STEPS = 300
PROBED = 8  # 2.5 % of 300 updates


def simulate(
    law: RangeTest,
    loss: Callable[[float], float],
    num: int = 150,
    base: float = 1.0,
    others: float = 1.0,
    lag: int = 0,
) -> tuple[list[float], list[Adjustment]]:
    """A run of which an update lowers the loss by what `loss` says of its level; what is taken back is.

    Once the law no longer holds the learning rate, another one's factor is `others`, and rows are `lag` updates late.

    Returns:
        The level of each update, in units of the reference, and what the law asked for after it.
    """
    state, adjustment = law.update(law.init(), Statistics(0, Phase.START, {"reference_lr": 1.0}))
    value = kept = 3.0
    used, asked, late = [], [], []
    for step in range(num):
        held = adjustment.level
        level = adjustment.factor * others * base if held is None else held
        values = {"loss": value, "update_ratio": 0.1 * RangeTest().size * level, "base_lr": base}
        late.append(values if held is not None else values | {"lr_factor": adjustment.factor * others})
        value -= loss(level)
        used.append(level)
        for values in late[: len(late) - (lag if held is None else 0)]:
            state, adjustment = law.update(state, Statistics(step, Phase.AFTER, values))
            kept = value if adjustment.snapshot else kept
            value = kept if adjustment.rewind else value
            asked.append(adjustment)
        late = late[len(late) - lag if held is None and lag else len(late) :]
    return used, asked


def actions(asked: list[Adjustment]) -> list[str]:
    return [reason.action for adjustment in asked for reason in adjustment.reasons]


def law(**arguments: float | None) -> RangeTest:
    return RangeTest(**{"total_steps": STEPS, "start": 0.1, "usual_weight": 0.0} | arguments)  # type: ignore[arg-type]


def test_a_peak_that_is_a_decade_too_low_is_raised_by_a_decade() -> None:
    """The loss falls in proportion to the learning rate up to 200 times the reference; its ratio says 10."""
    used, asked = simulate(law(), lambda level: 1e-4 * level if level < 200.0 else -1.0)
    assert actions(asked)[:5] == ["peak", "probe", "compare", "raise", "probe"]
    assert asked[-1].factor == pytest.approx(100.0)
    tried = [level for level in used if level > 999.0]
    assert 1 <= len(tried) < PROBED  # a second probe, at 1,000, ends early


def test_a_peak_that_is_right_stays_and_the_probe_leaves_no_trace() -> None:
    used, asked = simulate(law(), lambda level: 1e-3 * level if level < 50.0 else 1e-3)
    assert actions(asked) == ["peak", "probe", "compare"]
    assert asked[-1].factor == pytest.approx(10.0)
    tried = [step for step, level in enumerate(used) if level > 99.0]
    assert tried == list(range(tried[0], tried[0] + PROBED))
    assert asked[tried[-1]].rewind
    assert all(adjustment.factor == asked[-1].factor for adjustment in asked[tried[-1] :])


@pytest.mark.parametrize("blow", [-2.0, -math.inf, math.nan])
def test_a_probe_that_destroys_ends_at_once_and_is_taken_back(blow: float) -> None:
    used, asked = simulate(law(), lambda level: 1e-3 * level if level < 50.0 else blow)
    assert actions(asked) == ["peak", "probe", "release"]
    assert sum(level > 50.0 for level in used) == 2  # the second loss tells what the first update did
    assert sum(adjustment.rewind for adjustment in asked) == 1
    assert asked[-1].factor == pytest.approx(10.0)


@pytest.mark.parametrize(
    "arguments", [{"total_steps": 200}, {"total_steps": None}, {"probe_share": 0.0}], ids=["short", "endless", "off"]
)
def test_a_run_too_short_or_without_a_known_length_is_not_probed(arguments: dict[str, float | None]) -> None:
    _, asked = simulate(law(**arguments), lambda level: 1e-4 * level if level < 200.0 else -1.0)
    assert "peak" in actions(asked)
    assert "probe" not in actions(asked)


def test_nothing_is_probed_while_the_base_schedule_still_warms_up() -> None:
    _, asked = simulate(law(), lambda level: 1e-4 * level, base=0.05)
    assert "probe" not in actions(asked)


def test_a_probe_is_ten_times_what_the_base_schedule_makes_of_the_peak() -> None:
    used, asked = simulate(law(), lambda level: 1e-3 * min(level, 10.0), base=0.5)
    assert max(used) == pytest.approx(10.0 * asked[-1].factor * 0.5)


def test_a_comparison_that_another_law_disturbs_raises_nothing() -> None:
    """At the peak it would do worse by more than tenfold, because the other law has cut the learning rate."""
    _, asked = simulate(law(), lambda level: 1e-4 * level if level < 200.0 else -1.0, others=0.3)
    assert actions(asked) == ["peak", "probe", "compare", "release"]
    assert asked[-1].factor == pytest.approx(10.0)
    assert "changed to 3 x the base: the peak stays 10" in [r.text for a in asked for r in a.reasons][-1]


@pytest.mark.parametrize("lag", [1, 3])
def test_updates_that_are_read_late_do_not_count_for_the_next_probe(lag: int) -> None:
    """The updates between the decision to probe again and its first update were made at the peak."""
    used, asked = simulate(law(), lambda level: 1e-4 * level if level < 2000.0 else -1.0, lag=lag)
    assert actions(asked)[:6] == ["peak", "probe", "compare", "raise", "probe", "compare"]
    first = next(step for step, level in enumerate(used) if level > 999.0)
    assert used[first : first + PROBED] == pytest.approx([1000.0] * PROBED)
    assert used[first + PROBED] == pytest.approx(100.0)  # taken back, to be compared


def trained(make: Callable[[], nn.Module], lr: float) -> list[Decision]:
    torch.manual_seed(0)
    model = make()
    digits = load_digits()
    x, target = torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    control = AdaptiveLR(optimizer, controllers.automatic(total_steps=STEPS), schedule=schedules.cosine(STEPS))
    for step in range(STEPS):
        batch = torch.arange(64 * step, 64 * (step + 1)) % 1797
        loss = F.cross_entropy(model(x[batch]), target[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        control.step(loss)
    return list(control.decisions)


def test_a_linear_model_gets_the_large_learning_rate_it_wants_and_a_deep_one_does_not() -> None:
    """The weights of a linear model have far to go, whatever share of them an update is."""
    linear = trained(lambda: nn.Linear(64, 10), 1e-3)
    assert [d.action for d in linear if d.action == "raise"] == ["raise"]
    deep = trained(
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), 1e-3
    )
    assert "probe" in [d.action for d in deep]
    assert "raise" not in [d.action for d in deep]


def test_a_raised_peak_does_not_depend_on_the_learning_rate_given_either() -> None:
    factors = [trained(lambda: nn.Linear(64, 10), lr)[-1].factor_after * lr for lr in (1e-6, 1e-3, 10.0)]
    assert factors == pytest.approx([factors[0]] * 3, rel=1e-9)
