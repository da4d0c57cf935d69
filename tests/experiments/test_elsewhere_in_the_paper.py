"""What problems of other kinds give the paper, from entries by hand."""

from __future__ import annotations

from elsewhere_entries import entry
from experiments.paper import elsewhere
from made_up_records import ABOUT


def test_numbers_and_rows_are_those_of_the_record() -> None:
    """Ratios of losses of 1.05 and 1.01; guarded as good as tuned at one and three times the peak."""
    record = {"about": ABOUT, "pairs": [entry("sgd", 1.05), entry("adamw", 1.01, accuracy=True)]}
    found = elsewhere.part(record)
    expected = {
        "problems": "1", "pairs": "2", "automatic.within": "1", "automatic.decades": "$-0.50$",
        "automatic.loss-ratio": "$1.03$", "above-1.cosine.within": "2", "above-3.cosine.within": "0",
        "above-3.guarded.within": "2", "above-10.guarded.within": "0",
    }  # fmt: skip
    assert {name: found.numbers[f"elsewhere.{name}"] for name in expected} == expected
    table = found.tables["elsewhere"]
    assert r"x & SGD & $0.5$ & $2$$\times$ & $4$$\times$ & $8$$\times$ & $1.01$$\times$ & $1.5$$\times$" in table
    assert r" & AdamW & 90.0\,\% & $+10.0$ & $+30.0$ & $+70.0$ & $+0.1$ & $+5.0$ & $+20.0$ & $+0.1$" in table
