"""One run: what it depends on, what it records, how it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from adaptive_lr import AdaptiveLR
from adaptive_lr.study import RECIPES, Run, execute
from adaptive_lr.study.run import NONFINITE_PATIENCE, derive_seed
from adaptive_lr.trace import read_trace

Make = Callable[..., Run]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_repeats_bit_for_bit(run_of: Make, recipe: str, optimizer: str) -> None:
    """For every recipe; and the caller's random state and thread count are as they were."""
    run = run_of(recipe=recipe, optimizer=optimizer, peak_lr=0.05)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = execute(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.rand(7)
    assert execute(run).outcome() == first.outcome()
    assert first.status == "completed"
    assert len(first.train_losses) == len(first.learning_rates) == 12
    assert [step for step, *_ in first.evaluations] == [0, 4, 8, 12]
    assert first.evaluations[-1][1] == first.validation.loss  # type: ignore[union-attr]


def test_recipes_share_initial_weights_and_batches(run_of: Make) -> None:
    """The first loss of a seed is the same whatever the recipe, optimizer and peak; other seeds differ."""
    runs = [
        run_of(recipe=recipe, optimizer=optimizer, peak_lr=peak, seed=seed)
        for seed in (0, 1)
        for recipe, optimizer, peak in [
            ("cosine", "sgd", 0.1),
            ("step+guarded", "adamw", 1e-3),
            ("plateau", "sgd", 1.0),
        ]
    ]
    first = [execute(run).train_losses[0] for run in runs]
    assert len(set(first[:3])) == len(set(first[3:])) == 1
    assert first[0] != first[3]


def test_seeds_depend_on_workload_repetition_and_purpose_alone() -> None:
    seeds = {derive_seed(w, r, p) for w in ("a", "b") for r in range(3) for p in ("weights", "batches")}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if r.partner and not r.finds_peak])
def test_an_adaptive_recipe_follows_its_partner_until_it_decides(run_of: Make, name: str) -> None:
    """Same losses and learning rates, bit for bit, on a run in which nothing is wrong and nothing is decided."""
    adaptive = execute(run_of(recipe=name, peak_lr=0.01))
    fixed = execute(run_of(recipe=RECIPES[name].partner, peak_lr=0.01))
    assert adaptive.num_decisions == 0
    assert adaptive.train_losses == fixed.train_losses
    assert adaptive.learning_rates == fixed.learning_rates


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_automatic_learns_digits_alike_whatever_learning_rate_it_is_given(optimizer: str) -> None:
    """From 1e-5 to 10: over 93 % on test images, within two points of one another."""
    runs = [Run("digits", optimizer, "automatic", given, 0, 160) for given in (1e-5, 1e-2, 10.0)]
    accuracies = [execute(run).test.accuracy for run in runs]  # type: ignore[union-attr]
    assert min(accuracies) > 0.93  # type: ignore[type-var, operator]
    assert max(accuracies) - min(accuracies) < 0.02  # type: ignore[type-var, operator]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_workload_may_have_parameter_groups_of_its_own(run_of: Make, recipe: str) -> None:
    """A first layer that is given no learning rate stays as it was; the record is of the other one."""
    run = run_of(workload="Grouped", recipe=recipe, peak_lr=0.1)
    result = execute(run)
    assert result.validation is not None
    assert result.validation.accuracy == 1.0  # see Grouped.evaluate
    assert max(result.learning_rates) > 0.0
    assert execute(run).outcome() == result.outcome()


def test_control_is_given_the_model_so_that_a_rewind_takes_its_buffers_back(
    run_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running statistics of batch normalisation: at the rewind of a far too large peak they are as they were before."""
    variances: list[tuple[float, float]] = []

    class Watched(AdaptiveLR):
        def __init__(self, *arguments: object, model: torch.nn.Module, **options: object) -> None:
            self.watched = model[1]  # type: ignore[index]
            super().__init__(*arguments, model=model, **options)  # type: ignore[arg-type]

        def step(self, loss: object = None) -> None:
            before = self.watched.running_var.max().item()
            super().step(loss)  # type: ignore[arg-type]
            variances.append((before, self.watched.running_var.max().item()))

    monkeypatch.setattr("adaptive_lr.study.run.AdaptiveLR", Watched)
    result = execute(run_of(workload="Normalised", recipe="cosine+guarded", peak_lr=1e9, steps=12))
    assert any(decision["action"] == "rescue" for decision in result.decisions)
    assert any(before > 100.0 and after < 10.0 for before, after in variances)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("cosine", lambda t: t == 5),
        ("one-cycle", lambda t: t in (29, 30)),
        ("step", lambda t: t < 50),
        ("plateau", lambda t: t == 0),
    ],
)
def test_the_peak_is_the_largest_rate_of_a_base_schedule(run_of: Make, recipe: str, expected) -> None:
    """Whatever the schedule, the highest rate of a run is the peak it was given, where the form has it."""
    rates = execute(run_of(recipe=recipe, steps=100, peak_lr=0.2)).learning_rates
    assert max(rates) == pytest.approx(0.2, rel=1e-3)
    assert expected(rates.index(max(rates)))
    assert min(rates) > 0


def test_a_run_whose_loss_is_never_finite_ends_early_as_diverged(run_of: Make) -> None:
    for recipe in ("cosine", "cosine+guarded"):
        result = execute(run_of(workload="Explodes", recipe=recipe, steps=40))
        assert result.status == "diverged"
        assert len(result.train_losses) == NONFINITE_PATIENCE
        assert result.validation is not None
        assert result.validation.loss == math.inf
        assert result.test is not None
        assert result.test.loss == math.inf


def test_a_rate_far_too_large_is_recorded_as_what_it_is(run_of: Make) -> None:
    """SGD at 10^38 overflows: diverged, with the losses as they were."""
    result = execute(run_of(peak_lr=1e38, recipe="plateau", steps=40))
    assert result.status == "diverged"
    assert any(not math.isfinite(loss) for loss in result.train_losses)


def test_the_key_names_everything_that_decides_the_result(run_of: Make) -> None:
    """Each field changes the key; equal runs have equal keys."""
    run = run_of()
    changes = {"workload": "digits", "optimizer": "adamw", "recipe": "step", "peak_lr": 0.2, "seed": 1, "steps": 13}
    keys = {run.key(), *(replace(run, **{name: value}).key() for name, value in changes.items())}  # type: ignore[arg-type]
    assert len(keys) == 7
    assert run_of().key() == run.key()
    assert run.configuration()["recipe_identity"]["controllers"] is None
    assert "gradient_spike" in str(run_of(recipe="cosine+guarded").configuration()["recipe_identity"])


def test_other_code_of_control_makes_other_adaptive_runs_and_the_same_fixed_ones(
    run_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run_of(recipe=recipe) for recipe in ("cosine", "cosine+guarded")]
    fixed, guarded = [run.key() for run in runs]
    monkeypatch.setattr("adaptive_lr.study.recipe.control_digest", lambda: "edited")
    assert runs[0].key() == fixed
    assert runs[1].key() != guarded


def test_a_trace_is_left_and_changes_nothing(run_of: Make, tmp_path) -> None:
    """Same outcome with a trace as without, and the trace can be read back."""
    run = run_of(recipe="cosine+guarded")
    assert execute(run, trace=tmp_path / "trace").outcome() == execute(run).outcome()
    assert read_trace(tmp_path / "trace")
