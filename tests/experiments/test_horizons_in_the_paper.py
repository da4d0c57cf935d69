"""What longer runs give the paper, from entries by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.paper import horizons
from experiments.rehearsed_rules import RULES
from made_up_records import ABOUT


def outcome(lr: float, loss: float, accuracy: float | None) -> dict[str, Any]:
    return {"lr": lr, "validation_loss": loss, "test_loss": loss, "test_accuracy": accuracy, "seeds": 2}


def entry(accuracy: float | None, *, steps: int = 1200, loss: float = 0.6, missing: float = 0.02, **changes: Any
          ) -> dict[str, Any]:  # fmt: skip
    """Tuned at 0.1 with a loss of 0.5; `automatic` found a peak half a decade above, in the mean of two seeds."""
    less = None if accuracy is None else accuracy - 0.1
    return {
        "workload": "x_1", "optimizer": "sgd", "steps": steps, "found": [0.1, 1.0], "spent": [0.04, 0.09],
        "tuning": [outcome(0.01, 1.0, less), outcome(0.1, 0.5, accuracy), outcome(1.0, 2.0, less)],
        "above": {recipe: [outcome(0.1, 0.5, accuracy), outcome(1.0, 0.5 * times, less)]
                  for recipe, times in (("cosine", 4.0), ("cosine+guarded", 1.01))},
        "intervals": {"automatic": [[1.0, 3.0]], "cosine": [[0.0, 0.0], [9.0, 11.0]],
                      "cosine+guarded": [[0.0, 0.0], [-1.0, 1.5]]},
        "automatic": outcome(0.001, loss, None if accuracy is None else accuracy - missing), **changes,
    }  # fmt: skip


@pytest.fixture
def record() -> dict[str, Any]:
    """Two classifications and a function of 1,200 updates, one of the classifications of 4,800."""
    pairs = [entry(0.9), entry(0.8, missing=0.0, loss=0.15, optimizer="adamw"), entry(None, workload="f", loss=0.505),
             entry(0.9, steps=4800, missing=-0.01)]  # fmt: skip
    rules = [{"steps": 1200, "rule": name, "mean gap": place, "within 1": 0.5, "loss ratio": 1.5, "objectives": 12.0}
             for place, name in enumerate(RULES)]  # fmt: skip
    return {"about": ABOUT, "pairs": pairs, "rules": rules}


def test_each_length_has_its_own_numbers(record: dict[str, Any]) -> None:
    """Gaps of 2 and 0 points, losses 1.2 and 0.3 times tuned; half way between half-decades the peak alone loses 5."""
    numbers = horizons.part(record).numbers
    expected = {
        "pairs": "3", "within": "2", "decades": "$+0.50$", "spent": r"9.0\,\%", "median-gap": "$+1.0$",
        "worst-gap": "$+2.0$", "worst-workload": r"x\_1", "worst-optimizer": "SGD", "loss-ratio": "$0.6$",
        "peak-loss-ratio": "$2$", "functions.least-ratio": "$1.01$", "functions.most-ratio": "$1.01$",
    }  # fmt: skip
    assert {name: numbers[f"horizons.1200.{name}"] for name in expected} == expected
    assert (numbers["horizons.4800.pairs"], numbers["horizons.4800.median-gap"]) == ("1", "$-1.0$")
    assert "horizons.4800.functions.least-ratio" not in numbers
    assert (numbers["horizons.pairs"], numbers["horizons.within"], numbers["horizons.workloads"]) == ("4", "3", "2")
    assert (numbers["horizons.lengths"], numbers["horizons.longest"]) == ("1,200 and 4,800", "4,800")


def test_a_row_of_the_table_is_a_pair_and_a_length_it_was_not_trained_for_is_empty(record: dict[str, Any]) -> None:
    table = horizons.part(record).tables["horizons"]
    ends = "$[1.0,3.0]$"
    of_both = [rf"90.0\,\% & $+0.50$ & {gap} & {ends} & $1.2$ & $2$" for gap in ("$+2.0$", "$-1.0$")]
    assert rf"x\_1 & SGD & {' & '.join(of_both)} \\" in table
    assert rf" & AdamW & 80.0\,\% & $+0.50$ & $+0.0$ & {ends} & $0.3$ & $2${' & ' * 6} \\" in table
    assert rf"f & SGD & $0.5$ & $+0.50$ &  & $[1,3]$ & $1.01$ & $2${' & ' * 6} \\" in table


def test_a_given_peak_has_a_table_and_counts_of_its_own(record: dict[str, Any]) -> None:
    """Ten points are missing at ten times the peak; of the function the loss is 1.01 times tuned under control."""
    part = horizons.part(record)
    numbers = {name: part.numbers[f"horizons.1200.above-{name}"] for name in
               ("1.guarded.within", "10.guarded.within", "10.cosine.within", "10.guarded.worst")}  # fmt: skip
    assert list(numbers.values()) == ["3", "1", "0", "$+10.0$"]
    table = part.tables["horizons-large"]
    assert r"x\_1 & SGD & $+10.0$ & $+0.0$ & $+10.0$ & $[-1.0,1.5]$" in table
    assert r"f & SGD & $4$$\times$ & $1$$\times$ &" in table


def test_a_best_peak_at_the_edge_is_marked() -> None:
    first = entry(0.9)
    first["tuning"] = first["tuning"][1:]
    assert r"90.0\,\%*" in horizons.part({"about": ABOUT, "pairs": [first], "rules": []}).tables["horizons"]


def test_the_rules_compared_are_those_that_the_study_judges(record: dict[str, Any]) -> None:
    """One of them the law as it is: its names would else be in no record."""
    assert set(horizons.RULES) <= set(RULES)
    numbers = horizons.part(record).numbers
    place = list(RULES).index(next(name for name, short in horizons.RULES.items() if short == "rehearsals"))
    assert numbers["horizons.1200.rehearsals.mean-gap"] == f"${place:+.2f}$"
    assert numbers["horizons.1200.sweep.functions"] == "$12$"
    assert not [name for name in horizons.part({**record, "rules": []}).numbers if "sweep" in name]


def test_only_functions_have_no_gap() -> None:
    numbers = horizons.part({"about": ABOUT, "pairs": [entry(None)], "rules": []}).numbers
    assert "horizons.1200.median-gap" not in numbers
    assert numbers["horizons.1200.functions.most-ratio"] == "$1.2$"
