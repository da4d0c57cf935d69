"""A study: which runs it is made of, in a file and in Python, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_lr.study import Engine, Evaluation, RunResult, Study, StudyError, Tuning
from adaptive_lr.study.job import part_of
from adaptive_lr.study.lock import Shard
from adaptive_lr.study.study import FIRST_TUNING_SEED, run_of
from adaptive_lr.study.study_file import read_engine, read_study
from adaptive_lr.study.tuning import choose

Reference = Callable[[str], str]

FILE = """
name = "mine"
workloads = ["tiny.py:Tiny", "digits"]
recipes = ["cosine", "wsd", "my_recipes.py:SCALED"]
optimizers = ["sgd", "my_recipes.py:LION"]
horizons = [1, 2.5]
steps = 6

[learning_rates]
sgd = [0.01, 0.1, 1]

[tuning]
budget = ["default", "grid-3", "search-4"]
seeds = 3

[tuning.centres."tiny.py:Tiny"]
sgd = 0.03

[report]
seeds = 7

[engine]
name = "ray"
gpus = 0.5
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


def test_a_file_and_python_declare_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """References in a file are seen from its folder, wherever the command is run."""
    here = Path(__file__).parent
    monkeypatch.chdir(here.parent)
    path = here / "declared_for_a_test.toml"
    path.write_text(FILE)
    try:
        study, engine = read_study(path), read_engine(path)
    finally:
        path.unlink()
    in_python = Study(
        name="mine",
        workloads=("study/tiny.py:Tiny", "digits"),
        recipes=("cosine", "wsd", "study/my_recipes.py:SCALED"),
        optimizers=("sgd", "study/my_recipes.py:LION"),
        horizons=(1.0, 2.5),
        steps=6,
        learning_rates={"sgd": (0.01, 0.1, 1.0)},
        tuning=Tuning(("default", "grid-3", "search-4"), seeds=3, centres={"study/tiny.py:Tiny": {"sgd": 0.03}}),
        seeds=7,
    )
    assert study == in_python
    assert engine == Engine("ray", gpus=0.5)
    assert [run.key() for run in study.tuning_runs()] == [run.key() for run in in_python.tuning_runs()]


def test_what_a_file_leaves_out_is_as_in_python(tmp_path: Path) -> None:
    path = written(tmp_path, 'workloads = ["digits"]')
    assert read_study(path) == Study(name="study")
    assert read_engine(path) == Engine()


def test_a_study_is_the_product_of_its_parts(tiny: Reference) -> None:
    """Two workloads of 12 and 8 steps at two horizons, two optimizers, two recipes, two rates, three seeds."""
    study = Study((tiny("Tiny"), tiny("Two")), ("cosine", "step"), learning_rates=(0.1, 1.0), seeds=3, horizons=(1, 2))
    runs = study.runs()
    assert len(runs) == len(set(runs)) == 2 * 2 * 2 * 2 * 2 * 3
    assert {run.steps for run in runs} == {12, 24, 8, 16}
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_every_recipe_may_try_as_many_settings_with_seeds_that_are_not_reported(tiny: Reference) -> None:
    study = Study((tiny("Tiny"),), ("cosine", "constant", "automatic"), tuning=Tuning(("grid-7", "search-20"), seeds=2))
    runs = study.tuning_runs()
    count = {(r.recipe, r.optimizer): 0 for r in runs}
    for run in runs:
        count[run.recipe, run.optimizer] += 1
    assert set(count.values()) == {27 * 2}
    reported = study.runs_of([(group, study.points(group, _budget("default"))[0]) for group in study.groups()])
    assert {run.seed for run in reported} == set(range(5))
    assert {run.seed for run in runs} == {FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1}


def test_a_recipe_for_one_optimizer_is_left_out_with_others(tiny: Reference) -> None:
    recipe = str(Path(__file__).parent / "my_recipes.py:FOR_ADAMW")
    groups = Study((tiny("Tiny"),), ("cosine", recipe)).groups()
    assert {(group.optimizer, group.recipe) for group in groups} == {
        ("sgd", "cosine"), ("adamw", "cosine"), ("adamw", recipe),
    }  # fmt: skip
    study = Study((tiny("Tiny"),), (recipe,), tuning=Tuning())
    assert [point.peak_lr for point in study.points(groups[-1], _budget("grid-3"))] == [0.00316, 0.01, 0.0316]


@settings(max_examples=20, deadline=None)
@given(shards=st.integers(1, 9), seeds=st.integers(1, 4))
def test_shards_are_a_division_of_the_runs(shards: int, seeds: int) -> None:
    """None left out, none twice, whatever the order of the list; sizes differ by one at most."""
    runs = Study(("digits",), ("cosine", "step"), ("sgd",), (0.1, 1.0), seeds=seeds).runs()
    parts = [part_of(runs, Shard(number, shards)) for number in range(shards)]
    assert sorted(map(str, (run for part in parts for run in part))) == sorted(map(str, runs))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert set(part_of(runs[::-1], Shard(0, shards))) == set(parts[0])


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/2/3", "0/0", "1 / 2"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="a shard is written i/n with 0 <= i < n"):
        Shard.parse(text)


# ---------------------------------------------------------------- what tuning chooses


def _budget(text: str):
    from adaptive_lr.study.budget import Budget

    return Budget.parse(text)


def _result(run, validation: float, status: str = "completed") -> RunResult:
    if status == "failed":
        return RunResult(run, "", "failed", error="boom")
    return RunResult(
        run, "", status, initial=Evaluation(2.0), validation=Evaluation(validation), test=Evaluation(-validation),
        train_losses=(1.0,) * run.steps,
    )  # fmt: skip


def test_the_least_mean_validation_loss_is_chosen_and_divergence_counts_as_the_loss_at_initialisation(
    tiny: Reference,
) -> None:
    """By hand; the test split, which says the opposite, is not asked."""
    study = Study(
        (tiny("Tiny"),), ("cosine",), ("sgd",), learning_rates=(0.01, 0.1, 1.0), tuning=Tuning(("default", "grid-3"))
    )
    losses = {0.01: (0.9, 0.8), 0.1: (0.5, 0.7), 1.0: (0.1, float("inf"))}
    results = {run: _result(run, losses[run.peak_lr][run.seed - FIRST_TUNING_SEED]) for run in study.tuning_runs()}
    default, grid = choose(study, results)
    assert (default.budget, default.point.peak_lr, default.tried, default.updates) == ("default", 0.1, 0, 0)
    assert (grid.point.peak_lr, grid.validation_loss) == (0.1, pytest.approx(0.6))
    assert (grid.at_edge, grid.tried, grid.updates) == ((), 3, 3 * 2 * 12)
    better = {run: _result(run, 0.05) if run.peak_lr == 1.0 else result for run, result in results.items()}
    assert choose(study, better)[1].at_edge == ("learning rate",)


def test_a_setting_with_a_failed_run_is_not_chosen_and_a_group_of_failures_chooses_nothing(tiny: Reference) -> None:
    study = Study((tiny("Tiny"),), ("cosine", "step"), ("sgd",), tuning=Tuning(("grid-3",)))
    group = study.groups()[0]
    best = run_of(group, study.points(group, _budget("grid-3"))[1], FIRST_TUNING_SEED)
    results = {
        run: _result(run, run.peak_lr if run != best else 0.0, "failed" if run == best or run.recipe == "step" else "")
        for run in study.tuning_runs()
    }
    (choice,) = choose(study, results)
    assert choice.group.recipe == "cosine"
    assert choice.tried == 2
    assert choice.point.peak_lr == 0.0316
    assert choice.at_edge == ("learning rate",)


def test_the_last_setting_that_did_not_fail_is_at_the_edge(tiny: Reference) -> None:
    """What lies beyond it was tried and not judged: the best may be there."""
    study = Study((tiny("Tiny"),), ("cosine",), ("sgd",), tuning=Tuning(("grid-5",)))
    rates = [point.peak_lr for point in study.points(study.groups()[0], _budget("grid-5"))]
    results = {
        run: _result(run, 0.01 / run.peak_lr, "failed" if run.peak_lr == rates[-1] else "")
        for run in study.tuning_runs()
    }
    (choice,) = choose(study, results)
    assert choice.point.peak_lr == rates[-2]
    assert choice.at_edge == ("learning rate",)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('workload = ["digits"]', "unknown key 'workload' in the file; known: name, workloads"),
        ('workloads = "digits"', "`workloads` must be a list of strings, got 'digits'"),
        ("workloads = [1]", "`workloads` must be a list of strings"),
        ("workloads = []", "workloads must not be empty"),
        ('workloads = ["digits"]\nrecipes = []', "recipes must not be empty"),
        ('workloads = ["digits"]\noptimizers = []', "optimizers must not be empty"),
        ('workloads = ["digits"]\nhorizons = []', "horizons must not be empty"),
        ('workloads = ["digits"]\nhorizons = [1, 1.0]', "horizons must differ from each other, got 1.0 2 times"),
        ('workloads = ["digits"]\nrecipes = ["step", "step"]', "recipes must differ from each other, got 'step' 2"),
        ('workloads = ["digits"]\nname = "../evil"', "a letter or a digit first; got '../evil'"),
        ('workloads = ["digits"]\nname = "a/b"', "the name of a study must be of letters"),
        ('workloads = ["digits"]\n[report]\nseeds = -1', "`report.seeds` must be >= 1, got -1"),
        ('workloads = ["digits"]\nsteps = 0', "`steps` must be >= 1, got 0"),
        ('recipes = ["cosine"]', "`workloads` is missing"),
        ('workloads = ["digits"]\n[tuning]\nbudgets = "grid-7"', r"unknown key 'budgets' in \[tuning\]; known: budget"),
        ('workloads = ["digits"]\n[tuning]\nbudget = "grid"', "a budget is one of"),
        ('workloads = ["digits"]\n[tuning]\nseeds = 0', "`tuning.seeds` must be >= 1, got 0"),
        ('workloads = ["digits"]\n[tuning]\ncentres = 1', "`tuning.centres` must be tables"),
        ('workloads = ["digits"]\n[tuning.centres]\ndigits = 1', "`tuning.centres.digits` must be a table"),
        ('workloads = ["digits"]\n[tuning.centres.digits]\nsgd = -1', "the centre of digits with sgd must be finite"),
        ('workloads = ["digits"]\ntuning = 1', r"`tuning` must be a table, written \[tuning\]; got 1"),
        ('workloads = ["digits"]\n[report]\nseeds = 1.5', "`report.seeds` must be an integer, got 1.5"),
        ('workloads = ["digits"]\n[report]\nseeds = true', "`report.seeds` must be an integer, got True"),
        ('workloads = ["digits"]\n[report]\nseeds = 1001', "seeds that are reported must be <= 1000, got 1001"),
        ('workloads = ["digits"]\nhorizons = [0]', "horizons must be finite and > 0, got 0.0"),
        ('workloads = ["digits"]\nhorizons = 1', "`horizons` must be a list of numbers, got 1"),
        ('workloads = ["digits"]\nlearning_rates = [0.1, nan]', "`learning_rates` must be a number, got nan"),
        ('workloads = ["digits"]\nlearning_rates = ["a"]', "`learning_rates` must be a number, got 'a'"),
        ('workloads = ["digits"]\nlearning_rates = {lion = [1]}', "given for 'lion', which the study has not"),
        ('workloads = ["digits"]\nlearning_rates = [1]\n[tuning]', "grid-7 needs 7 learning rates, got 1"),
        ('workloads = ["digits"]\nlearning_rates = [1]\n[tuning]\nbudget = "default"', "no budget of the tuning is a"),
        (
            'workloads = ["digits"]\n[tuning.centres.digit]\nsgd = 1',
            "a centre of the tuning is given for 'digit'; the workloads are 'digits'",
        ),
        (
            'workloads = ["digits"]\noptimizers = ["sgd"]\n[tuning.centres.digits]\nadamw = 1',
            "a centre of the tuning is given for 'adamw' on 'digits', which the study has not",
        ),
        ('workloads = ["digits"]\nrecipes = ["cosinus"]', "unknown recipe 'cosinus'"),
        ('workloads = ["digits"]\nname = ""', "the name of a study must be of letters"),
        ('workloads = ["digits"', "is not a TOML file"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_name_and_the_place(tmp_path: Path, text: str, sentence: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(StudyError, match=sentence) as caught:
        read_study(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[engine]\nname = "dask"', "engine must be one of serial, joblib, ray, got 'dask'"),
        ("[engine]\njobs = 0", "`engine.jobs` must be >= 1, got 0"),
        ("[engine]\ngpus = -1", "must take some cores or GPUs"),
        ("[engine]\ncpu = 1", r"unknown key 'cpu' in \[engine\]"),
    ],
)
def test_an_engine_that_is_wrong_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        read_engine(written(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="does not exist"):
        read_study(tmp_path / "nothing.toml")
    with pytest.raises(StudyError, match="is a folder"):
        read_study(tmp_path)


def test_a_string_where_a_list_belongs_is_refused_in_python_too() -> None:
    with pytest.raises(StudyError, match="workloads must be a list, got 'digits'"):
        Study("digits")
    with pytest.raises(StudyError, match="needs a list of budgets"):
        Tuning("grid-7")
