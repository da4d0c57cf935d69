"""The comparison with peers: its numbers are those of the runs, its tables say who wins."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_lr.study import Evaluation, Run, RunResult, Study, StudyError, StudyFolder
from adaptive_lr.study.recipe import PEERS
from adaptive_lr.study.summary import Cell
from experiments import peers, robustness, step_cost
from experiments.peers import RECIPES, Row, chosen_by_others, rows_of
from experiments.peers_tables import block, markdown, summary, winners, wins
from experiments.records import taken_over
from experiments.workloads import TUNING

ABOUT = {"command": "python", "date": "2026-01-01", "seeds": 2, "versions": {"torch": "2"}}
START = Evaluation(2.0, 0.1)


def cells(recipe: str, *outcomes: tuple[float, float | None], optimizer: str = "adamw") -> list[Cell]:
    """One cell a decade from 0.01 up, of two seeds that end alike, from (loss, accuracy)."""
    found = []
    for place, (loss, accuracy) in enumerate(outcomes):
        lr = 10.0 ** (place - 2)
        end = Evaluation(loss, accuracy)
        results = [RunResult(Run("digits", optimizer, recipe, lr, seed, 10), "", "completed", initial=START,
                             validation=end, test=end) for seed in range(2)]  # fmt: skip
        found.append(Cell(optimizer, recipe, lr, tuple(results)))
    return found


def made() -> list[Row]:
    """Cosine: 90, 95, 20 %; Prodigy: 94.5, 94.5, 94 %; automatic: 94.9, 94, 93 %."""
    return rows_of("x", [
        *cells("cosine", (0.5, 0.9), (0.2, 0.95), (3.0, 0.2)),
        *cells("prodigy", (0.22, 0.945), (0.21, 0.945), (0.23, 0.94)),
        *cells("automatic", (0.20, 0.949), (0.25, 0.94), (0.3, 0.93)),
    ])  # fmt: skip


def test_a_row_is_what_its_runs_say() -> None:
    """By hand: cosine loses (0.5 + 0.2 + 2) / 3 - 0.2; its last rate ends above the start, which is clipped at it."""
    cosine, prodigy, automatic = made()
    assert cosine.sensitivity == pytest.approx(0.7)
    assert (cosine.best_lr, cosine.best_accuracy, cosine.worst_accuracy, cosine.at_edge) == (0.1, 0.95, 0.2, False)
    assert cosine.test_losses == [0.5, 0.2, 2.0]
    assert (cosine.diverged, cosine.runs, prodigy.diverged) == (pytest.approx(1 / 3), 6, 0.0)
    assert (cosine.decades, prodigy.decades, automatic.decades) == (0.0, 2.0, 1.0)
    assert automatic.at_edge


def test_without_accuracies_two_percent_of_the_loss_count_as_near() -> None:
    first, second = rows_of("x", [
        *cells("cosine", (1.02, None), (1.0, None), (1.021, None)),
        *cells("linear", (1.03, None), (1.1, None), (1.5, None)),
    ])  # fmt: skip
    assert first.decades == 1.0
    assert second.decades is None
    assert (first.best_accuracy, first.best_loss, first.worst_loss) == (None, 1.0, 1.021)


@given(st.integers(1, 9), st.integers(1, 10), st.integers(0, 10**6))
def test_no_seed_chooses_the_rate_that_it_is_reported_at(rates: int, seeds: int, number: int) -> None:
    """Each is given the rate of least mean loss over the others, whatever its own loss; one alone its own best."""
    losses = np.random.default_rng(number).normal(size=(rates, seeds)) ** 2
    chosen = chosen_by_others(losses.tolist())
    for seed in range(seeds):
        others = [one for one in range(seeds) if one != seed] or [seed]
        means = losses[:, others].mean(axis=1)
        assert means[chosen[seed]] == pytest.approx(means.min(), abs=1e-12)
        if seeds > 1:
            changed = losses.copy()
            changed[:, seed] = np.random.default_rng(number + 1).normal(size=rates) ** 2
            kept = chosen_by_others(changed.tolist())[seed]
            assert means[kept] == pytest.approx(means.min(), abs=1e-12)


def test_the_tables_say_who_wins() -> None:
    text = block(made(), {"momo": "StudyError: MoMo supports one parameter group"})
    assert "| cosine | 0.700 | **95.0%** | 1e-01 | 20.0% | 0 | 33% |" in text
    assert "| prodigy † | **0.010** | 94.5% | 1e-01 | 94.0% | **2** | 0% |" in text
    assert "`momo` was not carried out: StudyError: MoMo supports one parameter group" in text
    text = wins(made())
    assert "- x, adamw, least sensitive to the learning rate: prodigy † (0.01)" in text  # automatic does not use it
    assert "- x, adamw, best at its best learning rate: cosine (0.95; ours 0.949)" in text
    assert "- x, adamw, good over the most decades: prodigy † (2; ours 1)" in text


def test_where_ours_is_as_good_no_peer_wins() -> None:
    ends = ((0.2, 0.9), (0.3, 0.9))
    rows = rows_of("x", [*cells("cosine", *ends), *cells("cosine+guarded", *ends)])
    assert winners(rows, lambda row: -row.sensitivity) == ["cosine", "cosine+guarded"]
    assert wins(rows) == "No peer wins anywhere."


def test_the_summary_counts_workloads() -> None:
    rows = [*made(), *rows_of("y", cells("cosine", (0.1, 0.99), (0.1, 0.99)))]
    lines = summary(rows, "adamw", {"cosine": 1.0, "prodigy": 1.5}).splitlines()
    assert lines[0] == "### adamw, 2 workloads"
    assert lines[4] == "| cosine | 0.350 | 1 | 0.5 | 20% | 1.00 | 1 | 2 | 1 |"
    assert lines[5] == "| prodigy † | 0.010 | 3 | 2 | 0% | 1.50 | 1 | 0 | 1 |"


def test_the_document_says_what_is_missing_and_what_another_learning_rate_means() -> None:
    text = markdown(made(), {}, {}, ABOUT)
    assert "† A learning rate multiplies what Prodigy estimates" in text
    assert "MoMo's step length" not in text
    assert "Not in this record: cosine+guarded." in text
    assert "not measured here" in text


def test_every_peer_is_compared() -> None:
    assert set(PEERS) < set(RECIPES)
    assert {"cosine", "constant", "linear", "wsd", "one-cycle", "plateau", "cosine+guarded", "automatic"} < set(RECIPES)


def test_the_cost_of_a_step_is_measured_between_batches() -> None:
    """The clocked workload trains as digits does, and remembers every step."""
    seconds = step_cost.step_seconds("sgd", "cosine", 0.1, steps=8)
    workload = step_cost.load_workload(step_cost.REFERENCE)
    assert len(workload.moments) == 8  # type: ignore[attr-defined]
    assert 0.0 < seconds < 10.0
    found = step_cost.ratios("sgd", ["clip"], 0.1, rounds=1, steps=8)
    assert found.keys() == {"clip"}
    assert found["clip"] > 0.0


def test_it_runs_from_the_shell_and_finished_runs_are_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a peer refuses is recorded with its reason, and does not stop the rest."""
    monkeypatch.setattr(peers, "DECADES", {"sgd": range(-2, 0)})
    arguments = ["--workloads", "fine-tuning", "--recipes", "cosine", "clip", "--seeds", "1", "--jobs", "1"]
    places = ["--output", str(tmp_path / "runs"), "--record", str(tmp_path / "record"), "--rounds", "0"]
    monkeypatch.setattr(sys, "argv", ["peers", *arguments, *places])
    peers.main()
    printed = capsys.readouterr().out
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")}
    peers.main()
    assert capsys.readouterr().out == printed
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.json")} == files
    record = json.loads((tmp_path / "record" / "peers.json").read_text())
    assert [(row["recipe"], row["learning_rates"]) for row in record["rows"]] == [
        ("cosine", [0.01, 0.1]), ("clip", [0.01, 0.1]),
    ]  # fmt: skip
    assert (tmp_path / "record" / "peers.md").read_text() in printed


def test_runs_of_another_study_are_taken_over_by_their_key(tmp_path: Path) -> None:
    """What the robustness study carried out is not done again, and what it lacks is."""
    ours, theirs = StudyFolder(tmp_path / "ours"), StudyFolder(tmp_path / "theirs")
    for folder in (ours, theirs):
        folder.prepare()
    there = [Run(TUNING["quadratic"], "sgd", "cosine", lr, 0, 300) for lr in (1e-6, 1e-5)]
    theirs.complete(there, jobs=1)
    wanted = [*there, Run(TUNING["quadratic"], "sgd", "constant", 1e-6, 0, 300)]
    assert taken_over(wanted, theirs, ours) == 2
    assert ours.finished(wanted) == theirs.finished(there)
    assert taken_over(wanted, theirs, ours) == 0


def test_the_robustness_study_has_the_runs_that_peers_need() -> None:
    """The same learning rates to the last bit, over the same steps: equal keys."""
    assert peers.DECADES == robustness.DECADES
    for decades in peers.DECADES.values():
        assert [10.0**decade for decade in decades] == [robustness.rate(2 * decade) for decade in decades]
    study = Study((TUNING["quadratic"],), ("cosine",), ("sgd",), learning_rates=(10.0**-2,), seeds=1)
    assert study.runs()[0].key() == Run(TUNING["quadratic"], "sgd", "cosine", robustness.rate(-4), 0, 300).key()


def test_what_a_peer_refuses_is_said_with_its_reason(tmp_path: Path) -> None:
    """MoMo and layer-wise rates: the other recipes have their rows."""
    pytest.importorskip("momo")
    folder = peers.StudyFolder(tmp_path)
    folder.prepare()
    rows, refused = peers.measure("fine-tuning", "sgd", ["constant", "momo", "prodigy"], folder, seeds=1, jobs=1)
    assert [row.recipe for row in rows] == ["constant"]
    assert "MoMo supports one parameter group" in refused["momo"]


@pytest.mark.parametrize(
    ("arguments", "sentence"), [(("--recipes", "x"), "invalid choice: 'x'"), (("--seeds", "0"), "must be at least 1")]
)
def test_bad_options_are_refused(
    arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers", *arguments])
    with pytest.raises(SystemExit):
        peers.main()
    assert sentence in capsys.readouterr().err


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing(recipe: object) -> None:
        raise StudyError("recipe 'momo' needs momo")

    monkeypatch.setattr(peers, "check_installed", missing)
    monkeypatch.setattr(sys, "argv", ["peers", "--recipes", "momo"])
    with pytest.raises(SystemExit, match="peers: recipe 'momo' needs momo"):
        peers.main()
