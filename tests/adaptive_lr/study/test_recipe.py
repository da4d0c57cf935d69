"""Recipes: what they may bring, how a user's own is found, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adaptive_lr.study import RECIPES, BaseSchedule, OptimizerChoice, Recipe, Run, Setting, StudyError, execute
from adaptive_lr.study.optimizer_choice import find_optimizer
from adaptive_lr.study.recipe import check_installed, find_recipe

Make = Callable[..., Run]
FILE = Path(__file__).parent / "my_recipes.py"


def mine(name: str) -> str:
    return f"{FILE}:{name}"


def test_a_recipe_of_ones_own_may_act_on_gradients_before_the_step(run_of: Make) -> None:
    """Gradients times a half under plain descent are the learning rate times a half (momentum is linear)."""
    scaled = execute(run_of(recipe=mine("SCALED"), peak_lr=0.1, settings=(("share", 0.5),)))
    slower = execute(run_of(recipe="constant", peak_lr=0.05))
    assert scaled.train_losses == pytest.approx(slower.train_losses, rel=1e-5)
    whole = execute(run_of(recipe=mine("SCALED"), peak_lr=0.1))
    assert whole.train_losses == execute(run_of(recipe="constant", peak_lr=0.1)).train_losses


def test_a_recipe_may_leave_updates_out(run_of: Make) -> None:
    result = execute(run_of(recipe=mine("IDLE"), peak_lr=0.1))
    assert result.validation == result.initial


def test_an_optimizer_with_two_sets_of_weights_is_judged_at_the_right_one_and_trains_on_at_the_other(
    run_of: Make,
) -> None:
    """Of zero weights the loss is ln 2; training goes as if nothing had been evaluated."""
    result = execute(run_of(recipe=mine("SWITCHED"), peak_lr=0.1))
    assert [loss for _, loss, _ in result.evaluations] == pytest.approx([0.6931] * 4, abs=1e-4)
    without_momentum = find_optimizer("sgd")
    assert without_momentum.settings == {"momentum": 0.9}
    assert len(set(result.train_losses)) == 12


def test_a_scheduler_may_be_shown_every_training_loss(run_of: Make) -> None:
    rates = execute(run_of(recipe=mine("WATCHED"), peak_lr=0.5)).learning_rates
    assert rates == pytest.approx([0.5**step for step in range(1, 13)])


def test_a_recipe_that_raises_fails_its_run_with_the_place_and_not_the_study(run_of: Make, tmp_path: Path) -> None:
    from adaptive_lr.study import ResultStore
    from adaptive_lr.study.engine import execute_all

    runs = [run_of(recipe=mine("RAISES")), run_of()]
    results = list(execute_all([(run, None) for run in runs], ResultStore(tmp_path)))
    assert [result.status for result in results] == ["failed", "completed"]
    assert "ZeroDivisionError" in results[0].error
    assert "my_recipes.py" in results[0].error


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd", "one-cycle"])
def test_a_declared_setting_changes_what_a_schedule_does(run_of: Make, name: str) -> None:
    """Its default does not; and another value is another run."""
    setting, declared = next(iter(RECIPES[name].settings.items()))
    given = [(), ((setting, declared.default),), ((setting, declared.high),)]
    runs = [run_of(recipe=name, settings=settings, steps=40) for settings in given]
    plain, default, high = (execute(run).learning_rates for run in runs)
    assert plain == default != high
    assert len({run.key() for run in runs}) == 3


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("constant", lambda rates: set(rates) == {0.2}),
        ("linear", lambda rates: rates[5] == 0.2 and rates[60] == pytest.approx(0.2 * 40 / 95) and rates[-1] < 0.01),
        ("wsd", lambda rates: rates[5:81] == (0.2,) * 76 and rates[81] < 0.2 and rates[-1] < 0.01),
    ],
)
def test_base_schedules_have_the_published_shape(run_of: Make, name: str, shape) -> None:
    assert shape(execute(run_of(recipe=name, steps=100, peak_lr=0.2)).learning_rates)


def test_an_optimizer_of_ones_own_is_found_by_reference(run_of: Make) -> None:
    assert execute(run_of(optimizer=mine("LION"), peak_lr=0.01)).status == "completed"


def test_an_edited_recipe_is_another_recipe_and_a_moved_one_is_not(run_of: Make, tmp_path: Path) -> None:
    keys = []
    for folder, more in (("a", ""), ("b", ""), ("c", "\nMORE = 1\n")):
        (tmp_path / folder).mkdir()
        place = shutil.copy(FILE, tmp_path / folder)
        Path(place).write_text(Path(place).read_text() + more)
        keys.append(run_of(recipe=f"{place}:SCALED", optimizer=f"{place}:LION").key())
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cosinus", "unknown recipe 'cosinus'; known: cosine, .* or your own"),
        ("my_recipes_that_are_not.py:X", "recipe file 'my_recipes_that_are_not.py' does not exist"),
        (mine("NOTHING"), "must be a Recipe, got str"),
        (mine("NO_SUCH"), "cannot be loaded: .*my_recipes.py has no 'NO_SUCH'$"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence) as caught:
        find_recipe(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("lion", "unknown optimizer 'lion'; known: sgd, adamw"), (mine("NOTHING"), "must be an OptimizerChoice, got str")],
)
def test_what_is_no_optimizer_is_refused_in_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(StudyError, match=sentence):
        find_optimizer(name)
    with pytest.raises(StudyError, match="default_lr > 0"):
        OptimizerChoice("x", lambda p, lr: None, default_lr=0.0)  # type: ignore[arg-type, return-value]


def test_a_setting_that_nothing_takes_and_a_range_that_is_none_are_refused() -> None:
    with pytest.raises(StudyError, match="declares the setting 'alpha', and nothing of it takes that"):
        Recipe("x", "x", lambda o, n: BaseSchedule(), settings={"alpha": Setting(1.0, 0.0, 2.0)})
    with pytest.raises(StudyError, match="low < high"):
        Setting(1.0, 2.0, 2.0)
    with pytest.raises(StudyError, match="low > 0 in the logarithm"):
        Setting(1.0, 0.0, 2.0, log=True)


def test_a_recipe_that_needs_what_is_not_installed_says_what_brings_it() -> None:
    with pytest.raises(StudyError, match=r"recipe 'needs' needs no_such_module, .* install adaptive-lr\[peers\]"):
        check_installed(find_recipe(mine("NEEDS_MORE")))
    check_installed(replace(find_recipe(mine("NEEDS_MORE")), requires=("torch", "torch")))


@pytest.mark.parametrize(
    ("name", "rates"),
    [("ROOT", [0.4, 0.4 / 2**0.5, 0.4 / 3**0.5]), ("STEADY", [0.4, 0.4, 0.4]), ("ON_PLATEAU", [0.4, 0.4, 0.4])],
)
def test_the_schedule_of_a_recipe_may_be_a_torch_scheduler_or_none(run_of: Make, name: str, rates: list[float]) -> None:
    """A ReduceLROnPlateau is shown evaluations: with patience 0 and a threshold out of reach it cuts after each."""
    result = execute(run_of(recipe=mine(name), peak_lr=0.4))
    assert result.learning_rates[:3] == pytest.approx(rates)
    assert (min(result.learning_rates) <= 0.4 * 0.1 * 1.001) == (name == "ON_PLATEAU")


def test_a_schedule_that_is_none_is_refused_with_the_name_of_the_recipe(run_of: Make) -> None:
    with pytest.raises(
        StudyError, match=r"the schedule of recipe 'a factor' must return a torch scheduler, .* got int"
    ):
        execute(run_of(recipe=mine("NO_SCHEDULE")))


def test_laws_of_a_recipe_are_given_as_to_adaptive_lr(run_of: Make) -> None:
    """One law, a list of them or a composition make the same run, with the same key but for the recipe's own name."""
    one, several, composed = (execute(run_of(recipe=mine(name))) for name in ("ONE_LAW", "LAWS", "COMPOSED"))
    assert one.train_losses == several.train_losses == composed.train_losses
    identities = [find_recipe(mine(name)).identity(12) for name in ("ONE_LAW", "LAWS", "COMPOSED")]
    assert identities[0] == identities[1] == identities[2]


@pytest.mark.parametrize(("name", "reason"), [("LAWS_RAISE", "no laws today"), ("NO_LAWS", "must be a Controller")])
def test_controllers_that_are_none_are_one_sentence_before_any_work(run_of: Make, name: str, reason: str) -> None:
    with pytest.raises(StudyError, match=rf"recipe '{name}' gives no controllers: .*{reason}"):
        run_of(recipe=mine(name)).key()
