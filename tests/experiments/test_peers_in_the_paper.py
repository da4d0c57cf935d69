"""What the comparison with peers gives the paper, from rows by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from adaptive_lr.study import StudyError
from experiments.paper import peers
from experiments.peers import Row

ABOUT = {"command": "python", "date": "2026-01-01", "seeds": 2, "versions": {"torch": "2"}}


def row(recipe: str, sensitivity: float, best: float, decades: float | None, **changes: Any) -> Row:
    """A row of one workload with SGD whose best accuracy is `best`; with `scored=False`, whose best loss it is."""
    scored = changes.pop("scored", True)
    fields: dict[str, Any] = {
        "workload": "x", "optimizer": "sgd", "recipe": recipe, "learning_rates": [0.1, 1.0],
        "validation_losses": [1.0, 1.0], "test_losses": [1.0, 1.0], "test_accuracies": [best, 0.1] if scored else None,
        "sensitivity": sensitivity, "best_lr": 0.1, "at_edge": False, "best_loss": 1.0 if scored else best,
        "best_accuracy": best if scored else None, "worst_loss": 2.0, "worst_accuracy": 0.1 if scored else None,
        "decades": decades, "diverged": 0.25, "runs": 4,
    }  # fmt: skip
    return Row(**{**fields, **changes})


SMALL = [row("cosine", 0.8, 0.90, 0.0), row("momo", 0.2, 0.95, 2.0)]
OURS = [row("cosine+guarded", 0.4, 0.94, 1.0), row("automatic", 0.0, 0.96, 1.0)]
OTHER = [
    row("cosine", 4.0, 0.01, 1.0, workload="y", scored=False),
    row("momo", 8.0, 0.02, None, workload="y", scored=False, diverged=0.75, runs=12),
]


def record(rows: list[Row]) -> dict[str, Any]:
    return {"about": ABOUT, "rows": [asdict(one) for one in rows], "refused": [], "step_cost": {}}


def test_a_recipe_is_judged_against_cosine_and_against_the_best_of_all() -> None:
    """Momo: a quarter of cosine's sensitivity, then twice; a point behind automatic where there is an accuracy."""
    results = {one.recipe: one for one in peers.peer_results([*SMALL, *OURS, *OTHER])}
    momo = results["momo"]
    assert momo.sensitivities == {"x": pytest.approx(0.25), "y": pytest.approx(2.0)}
    assert momo.gaps == {"x": pytest.approx(1.0)}
    assert momo.decades == {"x": 2.0, "y": None}
    assert momo.diverged == pytest.approx((0.25 * 4 + 0.75 * 12) / 16)
    assert momo.won == {"sensitive": 1, "best": 0, "wide": 1}
    assert momo.rank == 2.0
    assert results["cosine"].won == {"sensitive": 1, "best": 1, "wide": 1}


def test_that_automatic_does_not_use_what_it_is_given_wins_it_nothing() -> None:
    """Its sensitivity of 0 is by construction; what it reaches counts."""
    automatic = peers.peer_results([*SMALL, *OURS])[3]
    assert automatic.won == {"sensitive": 0, "best": 1, "wide": 0}


def test_a_peer_that_comes_first_is_said_to() -> None:
    numbers = peers.part(record([*SMALL, *OURS])).numbers
    assert (numbers["peers.sensitive.by-peer"], numbers["peers.sensitive.most-often"]) == ("1", "momo (1)")
    assert (numbers["peers.best.by-peer"], numbers["peers.best.most-often"]) == ("0", "automatic (1)")
    assert (numbers["peers.wide.by-peer"], numbers["peers.wide.known"]) == ("1", "1")
    assert numbers["peers.sgd.momo.sensitivity.ratio"] == "$0.25$"
    assert numbers["peers.sgd.guarded.gap"] == "$2.0$"


def test_ties_are_all_named() -> None:
    assert peers.part(record([*SMALL, *OTHER])).numbers["peers.sensitive.most-often"] == "momo and cosine (1)"


def test_a_record_without_our_own_recipes_or_without_accuracies_will_do() -> None:
    for rows in (SMALL, OTHER, [*SMALL, *OURS, *OTHER]):
        part = peers.part(record(rows))
        assert part.figures["peers.pdf"].startswith(b"%PDF")
        assert part.tables["peers"].count(r"\quad ") == len({one.recipe for one in rows})
        assert any(name.startswith("peers.sgd.automatic") for name in part.numbers) == (len(rows) > 2)
    assert "peers.sgd.momo.gap" not in peers.part(record(OTHER)).numbers


def test_the_table_has_dashes_for_none_and_marks_for_another_learning_rate() -> None:
    lines = peers.part(record([*SMALL, *OTHER])).tables["peers"].splitlines()
    (momo,) = (line for line in lines if "momo" in line)
    assert momo == r"\quad momo$^{\dagger}$ & $1.12$ & $0.0$ & 1.5 & -- & 1 of 2 & 62.5\,\% & 1 & 1 & 1 \\"


def test_a_record_without_cosine_is_refused_with_the_place() -> None:
    with pytest.raises(StudyError, match="lacks cosine, which others are compared with, on x with sgd"):
        peers.part(record([*SMALL[1:], *OTHER]))


def test_the_same_record_makes_the_same_bytes() -> None:
    assert peers.part(record([*SMALL, *OURS])) == peers.part(record([*SMALL, *OURS]))
