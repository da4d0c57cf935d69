"""The study of spikes and faults: what counts as caught, as a false alarm, and as harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adaptive_lr.study import Evaluation, Run, RunResult, StudyFolder
from adaptive_lr.study.summary import Cell
from adaptive_lr.study.workload import load_workload
from experiments import faults
from experiments.faults_tables import NO_FAULT, Setting, alarms_per_10000, harm, markdown, worst
from experiments.paper import faults as for_the_paper
from experiments.workloads import TUNING
from made_up_records import ABOUT, seeds_of


def result(seed: int, alarms: list[tuple[int, str]], num_steps: int = 400) -> RunResult:
    decisions = tuple(
        {"step": step, "phase": "before" if action != "rescue" else "after", "action": action, "controller": "x"}
        for step, action in alarms
    )
    evaluation = Evaluation(0.5, 0.9)
    return RunResult(
        Run("digits", "sgd", "cosine+guarded", 0.1, seed, 400), "", "completed", initial=Evaluation(2.0, 0.1),
        validation=evaluation, test=evaluation, train_losses=(1.0,) * num_steps, decisions=decisions,
        num_decisions=len(decisions),
    )  # fmt: skip


def test_caught_is_in_the_very_step_and_anything_else_of_the_reflex_is_a_false_alarm() -> None:
    results = (
        result(0, [(100, "skip"), (201, "damp"), (300, "rescue")]),
        result(1, [(100, "damp"), (200, "clip"), (200, "back off")], num_steps=250),
    )
    found = faults.entry(faults.SUITES[1], Cell("sgd", "cosine+guarded", 0.1, results), {100, 200, 300})
    assert found["injected"] == [3, 2]
    assert found["caught"] == [1, 2]
    assert found["false_alarms"] == [1, 0]
    assert found["interventions"] == [3, 3]


def test_the_step_of_a_decision_is_that_of_the_injection(tmp_path: Any) -> None:
    """Of a real run: spikes of a thousand times are left out in the very steps at which they are injected."""
    (suite,) = (one for one in faults.SUITES if one[:2] == ("digits-mlp", "large-gradient-spikes"))
    run = Run(suite.reference, "sgd", "cosine+guarded", 0.03, 0, 400)
    folder = StudyFolder(tmp_path)
    folder.prepare()
    (found,) = folder.complete([run], jobs=1).values()
    injected: frozenset[int] = getattr(load_workload(run.workload), "steps", frozenset())
    assert len(injected) == 3
    assert faults.alarms(found) >= injected


@pytest.mark.parametrize("suite", [one for one in faults.SUITES if one.fault != NO_FAULT], ids=lambda one: one.folder)
def test_a_fault_keeps_the_name_of_its_workload_and_comes_after_the_warm_up_of_a_twentieth(suite: faults.Suite) -> None:
    workload = load_workload(suite.reference)
    assert workload.name == load_workload(TUNING[suite.workload]).name
    steps = getattr(workload, "steps", ())
    assert len(steps) == (0 if suite.fault == "label-noise" else 3)
    assert all(0.1 * workload.total_steps < step < 0.9 * workload.total_steps for step in steps)


def test_every_suite_has_a_folder_of_its_own() -> None:
    assert len({suite.folder for suite in (*faults.SUITES, faults.ADAM)}) == len(faults.SUITES) + 1


def test_simulated_spikes_of_narrow_norms_are_all_caught_and_alarms_are_few() -> None:
    found = faults.simulate(0.2, seeds=1)
    assert found["caught"] == found["caught_of_usual"] == found["injected"] == 98
    assert alarms_per_10000(found, beside=False) <= 10.0


def test_a_law_is_asked_of_every_norm() -> None:
    norms = np.ones(200)
    norms[150] = 1e6
    assert np.flatnonzero(faults.flagged(norms)).tolist() == [150]


@pytest.fixture
def record() -> dict[str, Any]:
    def suite(name: str, recipe: str, losses: list[float], caught: int, injected: int, **more: Any) -> dict[str, Any]:
        return {
            "workload": "digits-mlp", "fault": name, "optimizer": "sgd", "recipe": recipe, "peak_lr": 0.1,
            **seeds_of(losses, [0.9] * 3),
            "injected": [injected] * 3, "caught": [caught] * 3, "false_alarms": [1, 0, 0], "highest_loss": None, **more,
        }  # fmt: skip

    return {
        "about": ABOUT,
        "suites": [
            suite("none", "cosine", [0.2, 0.2, 0.2], 0, 0),
            suite("none", "cosine+guarded", [0.2, 0.2, 0.2], 0, 0),
            suite("gradient-spikes", "cosine", [0.4, 0.4, 0.4], 0, 3),
            suite("gradient-spikes", "cosine+guarded", [0.2, 0.21, 0.22], 2, 3),
            suite("none", "cosine", [1.0, 1.0, 1.0], 0, 0, workload="gru"),
            suite("none", "cosine+guarded", [1.0, 1.0, 1.0], 0, 0, workload="gru"),
            suite("corrupted-batches", "cosine", [1.5, 1.5, 1.5], 0, 3, workload="gru"),
            suite("corrupted-batches", "cosine+guarded", [1.0, 1.1, 1.2], 3, 3, workload="gru"),
            suite(
                "none", "constant", [0.1] * 3, 0, 0, highest_loss=[0.5, 0.25, 0.1], optimizer="adamw",
                workload="adam-quadratic",
            ),
        ],
        "simulated": [
            {"sigma": 0.2, "injected": 98, "caught": 98, "caught_of_usual": 98, "steps": 10000, "false_alarms": 1,
             "steps_beside": 9902, "false_alarms_beside": 0}
        ],
    }  # fmt: skip


def test_harm_is_relative_to_the_clean_run_of_the_same_recipe(record: dict[str, Any]) -> None:
    setting = Setting("digits-mlp", "gradient-spikes", "sgd", "cosine+guarded")
    found = harm(record, setting)
    assert found.ratio == pytest.approx(1.05)
    assert found.difference.mean == pytest.approx(0.05)
    assert found.caught == pytest.approx(2 / 3)
    assert found.false_alarms == pytest.approx(1000 * 1 / (1500 - 9))
    assert harm(record, setting._replace(fault=NO_FAULT)).caught is None


def test_each_workload_is_held_against_its_own_clean_run_and_the_worst_is_named(record: dict[str, Any]) -> None:
    setting, found = worst(record, "cosine+guarded")
    assert setting == ("gru", "corrupted-batches", "sgd", "cosine+guarded")
    assert found.ratio == pytest.approx(1.1)
    assert worst(record, "cosine")[0].workload == "digits-mlp"  # twice the loss, not one and a half times


def test_the_document_and_the_paper_say_what_the_record_says(record: dict[str, Any]) -> None:
    text = markdown(record)
    assert "| digits-mlp | gradient-spikes | sgd | cosine | 0.4 | 90.0% | +100.00% |" in text
    assert "| gru | corrupted-batches | sgd | cosine+guarded | 1.1 | 90.0% | +10.00% |" in text
    assert "- cosine+guarded: at worst +10.00% (corrupted-batches on gru with sgd; up to" in text
    assert "| constant | 0.1 to 0.5 | 0.0 |" in text
    part = for_the_paper.part(record)
    assert part.numbers["faults.gradient-spikes.sgd.guarded.caught"] == r"66.7\,\%"
    assert part.numbers["faults.gradient-spikes.sgd.cosine.change"] == r"$+100.0\,\%$"
    assert part.numbers["faults.gru.corrupted-batches.sgd.guarded.change"] == r"$+10.0\,\%$"
    assert part.numbers["faults.worst.guarded.workload"] == "gru"
    assert "corrupted-batches" in part.tables["faults-elsewhere"]
    assert "gru" not in part.tables["faults"]
    assert part.numbers["faults.adam-quadratic.constant.highest"] == "$0.5$"
    assert part.numbers["faults.simulated.0.2.false-alarms"] == "$1$"
    assert part.figures["simulated-spikes.pdf"].startswith(b"%PDF")
