"""Results on disk: whole or absent, exact, and never lost."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.study import Evaluation, ResultStore, Run, RunResult, execute
from adaptive_lr.study.store import SCHEMA, SET_ASIDE

NAN = float("nan")


@pytest.fixture
def stored(run_of: Callable[..., Run], tmp_path: Path) -> tuple[ResultStore, RunResult]:
    store = ResultStore(tmp_path / "results")
    result = execute(run_of(recipe="plateau+guarded"))
    store.save(result)
    return store, result


def test_a_result_is_read_back_exactly(stored: tuple[ResultStore, RunResult]) -> None:
    store, result = stored
    assert store.load(result.key) == result


@settings(deadline=None, max_examples=40)
@given(
    losses=st.lists(st.floats(allow_nan=False), max_size=5),
    accuracy=st.none() | st.floats(0, 1),
    final=st.floats(allow_nan=False),
    error=st.text(max_size=20),
)
def test_any_numbers_survive(tmp_path_factory, losses, accuracy, final, error) -> None:
    """Every float64, infinities included, and any text."""
    store = ResultStore(tmp_path_factory.mktemp("store"))
    result = RunResult(
        Run("digits", "sgd", "cosine", 0.1, 0, 3),
        "key",
        "completed",
        test=Evaluation(final, accuracy),
        evaluations=tuple((step, loss, accuracy) for step, loss in enumerate(losses)),
        train_losses=tuple(losses),
        decisions=({"step": 3, "phase": "before", "text": "nan", "value": final, "factor_after": 0.5},),
        error=error,
    )
    store.save(result)
    assert store.load("key") == result


def test_nan_survives_and_the_file_is_standard_json(tmp_path: Path) -> None:
    """JSON has no NaN; a strict parser reads the file all the same."""
    store = ResultStore(tmp_path)
    store.save(RunResult(Run("digits", "sgd", "cosine", 0.1, 0, 3), "key", "diverged", train_losses=(1.0, NAN)))
    json.loads(store.path("key").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    loaded = store.load("key")
    assert loaded is not None
    assert math.isnan(loaded.train_losses[1])


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: "", "is damaged"),
        (lambda text: "[1, 2]", "is damaged"),
        (lambda text: "\udcff\udcfe", "is damaged"),
        (lambda text: text.replace('"status"', '"state"'), "is damaged"),
        (lambda text: text.replace(f'"schema": {SCHEMA}', '"schema": 99'), "has schema 99"),
        (lambda text: text.replace('"key": "', '"key": "0'), "of another run"),
    ],
)
def test_an_unusable_file_is_set_aside_with_a_warning(
    stored: tuple[ResultStore, RunResult], caplog: pytest.LogCaptureFixture, damage, why: str
) -> None:
    """It counts as missing, so the run is done again; what it held is kept, also when it happens twice."""
    store, result = stored
    path = store.path(result.key)
    broken = damage(path.read_text()).encode(errors="surrogateescape")
    for number in (0, 1):
        path.write_bytes(broken)
        with caplog.at_level(logging.WARNING):
            assert store.load(result.key) is None
        assert why in caplog.text
        assert not path.exists()
        assert (store.directory / SET_ASIDE / f"{result.key}.{number}.json").read_bytes() == broken
    store.save(result)
    assert store.load(result.key) == result


def test_a_result_that_was_never_saved_is_missing(tmp_path: Path) -> None:
    assert ResultStore(tmp_path / "nothing").load("key") is None


def test_a_failed_write_leaves_the_old_result_and_no_litter(
    stored: tuple[ResultStore, RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle of writing: the error is raised, the file of before is whole."""
    store, result = stored

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adaptive_lr.study.store.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        store.save(replace(result, status="stopped"))
    monkeypatch.undo()
    assert store.load(result.key) == result
    assert [path.name for path in store.directory.iterdir()] == [f"{result.key}.json"]
