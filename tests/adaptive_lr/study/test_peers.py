"""The peers in the harness: each trains, repeats, says what it is, and refuses what it is not for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adaptive_lr.study import COMPARED, RECIPES, Run, Study, StudyError, execute, read_study
from adaptive_lr.study.errors import require
from adaptive_lr.study.optimizer_choice import find_optimizer
from adaptive_lr.study.peers import EXTRA, greedy, momo
from adaptive_lr.study.recipe import PEERS, check_installed, find_recipe

Make = Callable[..., Run]

RATES = {"schedule-free": {"sgd": 1.0, "adamw": 0.03}, "prodigy": {"adamw": 1.0}, "momo": {"sgd": 1.0, "adamw": 0.03}}
"""Of the tiny workload; those that are not listed share the optimizer's."""

SHARED = {"sgd": 0.3, "adamw": 0.03}


def need(name: str) -> None:
    """Skip where the package of a peer is not installed."""
    required = find_recipe(name).requires
    if required is not None and importlib.util.find_spec(required[0]) is None:
        pytest.skip(f"{required[0]} is not installed")


CASES = [
    (name, optimizer)
    for name in PEERS
    for optimizer in ("sgd", "adamw")
    if optimizer in (find_recipe(name).optimizers or ("sgd", "adamw"))
]


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_each_peer_trains_and_repeats_bit_for_bit(run_of: Make, name: str, optimizer: str) -> None:
    """The loss falls below half of ln 2 within 200 steps."""
    need(name)
    run = run_of(recipe=name, optimizer=optimizer, peak_lr=RATES.get(name, SHARED)[optimizer], steps=200)
    result = execute(run)
    assert result.status == "completed"
    assert sum(result.train_losses[-10:]) / 10 < 0.35 < sum(result.train_losses[:5]) / 5
    assert execute(run).outcome() == result.outcome()


@pytest.mark.parametrize("name", PEERS)
def test_a_run_says_what_the_peer_is(run_of: Make, name: str) -> None:
    """Its description and its code, which are part of its key; and the version of the package beside it."""
    need(name)
    run = run_of(recipe=name, optimizer="adamw", peak_lr=0.01)
    identity = run.configuration()["recipe_identity"]
    source = identity.pop("source")
    assert len(source) == 64
    assert identity == {"description": find_recipe(name).description, "controllers": None}
    required = find_recipe(name).requires
    recorded = execute(run).environment
    assert required is None or any(required[0] in package.replace("-", "") for package in recorded)


def test_each_peer_has_the_name_it_is_found_by() -> None:
    assert [find_recipe(name).name for name in PEERS] == list(PEERS)
    assert [RECIPES[name].name for name in PEERS] == list(PEERS)
    assert not set(PEERS) & {*RECIPES, *COMPARED}


def test_a_study_names_peers_as_any_recipe(tiny: Callable[[str], str], tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        f'workloads = ["{tiny("Tiny")}"]\nrecipes = ["cosine", "clip", "prodigy"]\nlearning_rates = [0.1]\n'
    )
    runs = read_study(file).runs()
    assert {(run.recipe, run.optimizer) for run in runs} == {
        *((name, optimizer) for name in ("cosine", "clip") for optimizer in ("sgd", "adamw")), ("prodigy", "adamw"),
    }  # fmt: skip


def test_naming_a_peer_imports_none_of_the_packages() -> None:
    code = (
        "import sys; from adaptive_lr.study import Study; from adaptive_lr.study.recipe import PEERS; "
        "print('adaptive_lr.study.peers' in sys.modules); Study(recipes=tuple(PEERS)).runs(); "
        "print(sorted({'schedulefree', 'prodigyopt', 'momo', 'transformers'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split("\n")[:2] == ["False", "[]"]


@pytest.mark.parametrize(("name", "optimizer"), [("prodigy", "sgd"), ("momo", "rmsprop"), ("schedule-free", "rmsprop")])
def test_a_peer_refuses_an_optimizer_that_it_is_not_for(run_of: Make, name: str, optimizer: str) -> None:
    """A study of that optimizer alone, and a single run of it."""
    sentence = f"recipe '{name}' is for .*adamw"
    mine = "sgd" if optimizer == "sgd" else f"{Path(__file__).parent / 'my_recipes.py'}:LION"
    with pytest.raises(StudyError, match=f"{sentence}, none of which the study has"):
        Study(recipes=(name,), optimizers=(mine,))
    with pytest.raises(StudyError, match=f"{sentence}, not for"):
        execute(run_of(recipe=name, optimizer=mine))


@pytest.mark.parametrize("name", [name for name in PEERS if find_recipe(name).requires])
def test_a_missing_package_is_one_sentence_with_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    required = find_recipe(name).requires
    assert required is not None
    module, extra = required
    assert extra == EXTRA == "adaptive-lr[peers]"
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None)
    with pytest.raises(StudyError, match=rf"recipe '{name}' needs {module}.*install adaptive-lr\[peers\]"):
        check_installed(find_recipe(name))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StudyError, match=r'pip install "adaptive-lr\[peers\]"'):
        require(module, extra="peers")


def test_momo_refuses_several_parameter_groups(run_of: Make) -> None:
    parameters = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    with pytest.raises(StudyError, match="MoMo supports one parameter group, got 2"):
        momo(find_optimizer("sgd"), [{"params": [p], "lr": 1.0} for p in parameters], 1.0, 10)
    with pytest.raises(StudyError, match="layer-wise rates"):
        execute(run_of(workload="Grouped", recipe="momo"))


def test_a_peer_prints_nothing(run_of: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Prodigy announces its weight decay."""
    need("prodigy")
    execute(run_of(recipe="prodigy", optimizer="adamw", peak_lr=1.0))
    assert capsys.readouterr() == ("", "")


def test_greedy_steps_on_evaluations_alone() -> None:
    """Three improvements in a row raise the rate by 1 / 0.95, three bad ones lower it: patience is two."""
    need("greedy")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    schedule = greedy(optimizer, 100)
    assert schedule.per_step is None
    assert schedule.per_loss is None
    assert schedule.per_evaluation is not None
    for loss in (3.0, 2.0, 1.0):
        schedule.per_evaluation.step(loss)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 0.95)
    for _ in range(3):
        schedule.per_evaluation.step(5.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_greedy_changes_the_rate_of_a_run_after_evaluations(run_of: Make) -> None:
    need("greedy")
    rates = execute(run_of(recipe="greedy", peak_lr=0.1, steps=24)).learning_rates
    changes = [step for step in range(1, 24) if rates[step] != rates[step - 1]]
    assert changes
    assert all(step % 4 == 0 for step in changes)  # the tiny workload is evaluated every 4 steps
