"""What the language model gives the paper, from records by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from adaptive_lr.study import StudyError
from experiments.paper import __main__ as paper
from experiments.paper import language_model
from experiments.peers import Row
from made_up_records import ABOUT


def row(recipe: str, optimizer: str, loss: float, sensitivity: float = 1.0, decades: float | None = 2.0) -> Row:
    return Row("byte-gpt", optimizer, recipe, [0.1], [loss], [loss], None, sensitivity=sensitivity, best_lr=0.1,
               at_edge=False, best_loss=loss, best_accuracy=None, worst_loss=5.0, worst_accuracy=None, decades=decades,
               diverged=0.25, runs=4)  # fmt: skip


def record(rows: list[Row]) -> dict[str, Any]:
    return {"about": ABOUT, "rows": [asdict(one) for one in rows], "refused": [], "step_cost": {}}


OF_SGD = [row("cosine", "sgd", 2.7), row("momo", "sgd", 2.6, 0.5, None), row("cosine+guarded", "sgd", 2.65),
          row("automatic", "sgd", 2.8, 0.0)]  # fmt: skip
OF_ADAMW = [row(recipe, "adamw", loss) for recipe, loss in
            (("cosine", 2.5), ("cosine+guarded", 2.5), ("automatic", 2.4))]  # fmt: skip


def test_recipes_are_ranked_by_what_they_reach() -> None:
    """Automatic is last of four with SGD, first of three with AdamW; its sensitivity of 0 wins it nothing."""
    numbers = language_model.peers(record([*OF_SGD, *OF_ADAMW])).numbers
    prefix = "language-model.peers"
    assert (numbers[f"{prefix}.sgd.best"], numbers[f"{prefix}.sgd.best.loss"]) == ("momo", "$2.6$")
    assert [numbers[f"{prefix}.sgd.{name}.rank"] for name in ("cosine", "guarded", "automatic")] == ["3", "2", "4"]
    assert [numbers[f"{prefix}.adamw.{name}.rank"] for name in ("cosine", "guarded", "automatic")] == ["2", "2", "1"]
    assert numbers[f"{prefix}.sgd.least-sensitive"] == "momo"
    assert (numbers[f"{prefix}.sgd.recipes"], numbers[f"{prefix}.adamw.recipes"]) == ("4", "3")


def test_a_recipe_that_is_not_for_an_optimizer_has_no_cells_there() -> None:
    table = language_model.peers(record([*OF_SGD, *OF_ADAMW])).tables["language-model"]
    assert r"momo$^{\dagger}$ & $2.600$ & $0.50$ & -- & 25.0\,\% &  &  &  &  \\" in table


def test_a_record_of_several_workloads_or_without_ours_is_refused() -> None:
    other = Row(**{**asdict(OF_SGD[0]), "workload": "gru"})
    with pytest.raises(StudyError, match="of one workload"):
        language_model.peers(record([*OF_SGD, other]))
    with pytest.raises(StudyError, match="lacks automatic with adamw"):
        language_model.peers(record([*OF_SGD, *OF_ADAMW[:2]]))


def test_what_is_on_record_is_quoted_as_ratios_of_losses() -> None:
    """Of the record itself: at the tuned peak the cosine is 1 times tuned."""
    found = json.loads((paper.RESULTS / "byte_gpt.json").read_text())
    numbers = language_model.part(found).numbers
    assert numbers["language-model.seeds"] == str(found["about"]["seeds"])
    for pair in found["pairs"]:
        prefix = f"language-model.{pair['optimizer']}"
        assert numbers[f"{prefix}.above-1.cosine"] == "$1$"
        worst = pair["above"]["cosine"][2]["test_loss"] / pair["tuned"]["test_loss"]
        assert float(numbers[f"{prefix}.above-10.cosine"].strip("$")) == pytest.approx(worst, rel=5e-3)
