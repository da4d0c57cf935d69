"""The ablation: the guarded set taken apart by the names of its laws, and what each part is worth."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from adaptive_lr.controllers import guarded
from adaptive_lr.study import StudyError
from adaptive_lr.study.recipe import find_recipe, recipe_identity
from experiments import ablation
from experiments.ablation_tables import markdown, scores
from experiments.guarded_parts import LAWS, variants
from experiments.paper import ablation as for_the_paper
from experiments.robustness import rate
from made_up_records import ABOUT, seeds_of


def laws_of(reference: str) -> tuple[str, ...]:
    controllers = find_recipe(reference).controllers
    assert controllers is not None
    return controllers(100).names


@pytest.mark.parametrize("law", LAWS)
def test_a_law_is_left_out_or_left_alone_by_its_name(law: str) -> None:
    assert laws_of(f"experiments.guarded_parts:without_{law}") == tuple(name for name in LAWS if name != law)
    assert laws_of(f"experiments.guarded_parts:only_{law}") == (law,)


def test_the_parts_keep_the_bounds_and_the_schedule_of_the_whole() -> None:
    for reference in variants():
        recipe = find_recipe(reference)
        assert recipe.controllers is not None
        part, whole = recipe.controllers(100), guarded()
        assert (part.min_factor, part.max_factor) == (whole.min_factor, whole.max_factor)
        assert recipe.schedule is find_recipe("cosine").schedule


def test_every_part_is_a_recipe_of_its_own() -> None:
    names = ["cosine", "cosine+guarded", *variants()]
    assert len({find_recipe(name).name for name in names}) == len(names)
    assert len({json.dumps(recipe_identity(name, 100), sort_keys=True, default=str) for name in names}) == len(names)


@pytest.mark.parametrize("attribute", ["without_nothing", "only_", "rescue"])
def test_a_part_that_is_none_is_refused(attribute: str) -> None:
    with pytest.raises(StudyError, match=attribute):
        find_recipe(f"experiments.guarded_parts:{attribute}")


RECORD = {
    "about": ABOUT,
    "pairs": [
        {
            "workload": "x", "optimizer": "sgd", "peak_lr": 0.1,
            "recipes": {
                "cosine": {"1": seeds_of([0.2, 0.2], [0.9, 0.9]), "10": seeds_of([0.8, 0.8], [0.5, 0.5]),
                           "30": seeds_of([1.6, 1.6], [0.1, 0.1])},
                "cosine+guarded": {factor: seeds_of([0.2, 0.2], [0.895, 0.895]) for factor in ("1", "10", "30")},
            },
        },
        {
            "workload": "y", "optimizer": "sgd", "peak_lr": 0.1,
            "recipes": {
                "cosine": {"1": seeds_of([0.1, 0.1]), "10": seeds_of([0.1, 0.1]), "30": seeds_of([0.4, 0.4])},
                "cosine+guarded": {"1": seeds_of([0.101, 0.101]), "10": seeds_of([0.103, 0.103]),
                                   "30": seeds_of([0.1, 0.1])},
            },
        },
    ],
}  # fmt: skip


def test_scores_by_hand() -> None:
    """Losses of 8 and 4 times the tuned: their geometric mean; 80 points are missing where there is accuracy."""
    found = scores(RECORD)
    assert found["cosine"]["30"].loss_ratio == pytest.approx(32**0.5)
    assert found["cosine"]["30"].gap == pytest.approx(80.0)
    assert [found["cosine"][factor].within for factor in ("1", "10", "30")] == [2, 1, 0]
    assert [found["cosine+guarded"][factor].within for factor in ("1", "10", "30")] == [2, 1, 2]


def test_the_document_and_the_paper_say_what_the_record_says() -> None:
    assert "| cosine | 2 | 1.000 | +0.0 | 1 | 2.000 | +40.0 | 0 | 5.657 | +80.0 |" in markdown(RECORD)
    part = for_the_paper.part(RECORD)
    assert part.numbers["ablation.cosine.above-30.within"] == "0"
    assert part.numbers["ablation.guarded.above-10.within"] == "1"
    assert part.numbers["ablation.cosine.above-10.gap"] == "$+40.0$"
    assert part.figures["ablation.pdf"].startswith(b"%PDF")


def test_a_peak_between_half_decades_is_refused() -> None:
    assert ablation.half_decades_of(rate(-3)) == -3
    with pytest.raises(StudyError, match=r"half-decades, got 0\.2"):
        ablation.half_decades_of(0.2)


def test_it_runs_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--workloads", "quadratic", "--seeds", "1", "--jobs", "1", "--output", str(tmp_path / "runs")]
    monkeypatch.setattr(sys, "argv", ["ablation", *arguments, "--record", str(tmp_path)])
    ablation.main()
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert all(len(pair["recipes"]) == 2 + len(variants()) for pair in record["pairs"])
    assert {tuple(found) for pair in record["pairs"] for found in pair["recipes"].values()} == {("1", "10", "30")}
