"""`range_test`: the curve of a sweep, under every circumstance, and what it refuses."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from adaptive_lr import AdaptiveLR, controllers, range_test, suggestions
from adaptive_lr.layer import is_controlled
from range_runs import OPTIMIZERS, SHORT, Run, adamw

# ---------------------------------------------------------------- the sweep


class Recording(torch.optim.SGD):
    """Remembers the learning rates it steps with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        Recording.used = []

    def step(self, closure: Any = None) -> None:
        Recording.used.append([float(group["lr"]) for group in self.param_groups])
        super().step(closure)


Recording.used = []


def quadratic(lr: float = 0.1, **settings: Any) -> tuple[nn.Module, Recording]:
    """A linear map that is to become zero: on `PAIRS`, gradient descent diverges above a learning rate of 2."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1, bias=False)
    return model, Recording(model.parameters(), lr=lr, **settings)


PAIRS = [(2.0**0.5 * torch.eye(4), torch.zeros(4, 1))]


def half_squares(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 0.25 * ((scores - y) ** 2).sum()


def test_the_learning_rates_are_geometric_from_start_to_end() -> None:
    """`steps` of them, both ends included; the optimizer used exactly these."""
    model, optimizer = quadratic()
    result = range_test(model, optimizer, half_squares, PAIRS, start_lr=1e-6, end_lr=1e-1, steps=37)
    np.testing.assert_allclose(result.lrs, np.geomspace(1e-6, 1e-1, 37), rtol=1e-12)
    assert result.lrs == tuple(used for (used,) in Recording.used)
    assert len(result.losses) == len(result.smoothed) == 37
    assert result.stop_reason == "the end of the range, 0.1, was reached without divergence, after 37 updates"


def test_the_losses_are_those_of_plain_training_at_these_rates() -> None:
    """Gradient descent written by hand: w ← (1 - lr) w, loss w² / 2, up to the loss that stops it."""
    model, optimizer = quadratic()
    weight = model.weight.detach().double()
    result = range_test(model, optimizer, half_squares, PAIRS, start_lr=1e-4, end_lr=100.0, steps=60)
    expected = []
    for lr in result.lrs:
        expected.append(0.5 * float((weight**2).sum()))
        weight = (1.0 - lr) * weight
    np.testing.assert_allclose(result.losses, expected, rtol=1e-4)
    assert 2.0 < result.lrs[-1] < 20.0
    assert (
        result.stop_reason
        == f"the loss diverged at a learning rate of {result.lrs[-1]:.3g}, after {len(expected)} updates"
    )
    low, high = result.interval
    assert 1e-2 < low < high < 2.5


def test_suggestions_are_those_of_the_rules_on_the_curve_it_returns() -> None:
    run = Run(OPTIMIZERS["SGD"])
    result = run.sweep(start_lr=1e-6, end_lr=10.0, steps=60)
    assert result.suggestions == suggestions.classic(result.lrs, result.losses, steps=60)
    assert result.interval == suggestions.interval(result.lrs, result.losses)
    assert list(result.suggestions) == ["steepest", "valley", "slide", "minimum"]


@pytest.mark.parametrize("total_steps", [None, 5000])
def test_the_suggestion_is_the_peak_that_the_law_sets(total_steps: int | None) -> None:
    """`RangeTest` with the same range, attached by hand to the same run, ends at the same learning rate."""
    run, by_hand = Run(adamw), Run(adamw)
    result = run.sweep(start_lr=1e-6, end_lr=10.0, steps=60, total_steps=total_steps)
    law = controllers.RangeTest(
        total_steps=total_steps, max_share=1.0, steps_per_decade=59 / 7, start=1e-6 / 0.02, end=10.0 / 0.02,
        to_divergence=True,
    )  # fmt: skip
    control = AdaptiveLR(by_hand.optimizer, law, model=by_hand.model)
    batches = (batch for _ in range(100) for batch in by_hand.loader)
    by_hand.model.train()
    for x, y in batches:
        if control.factor != 1.0:
            break
        by_hand.optimizer.zero_grad()
        loss = F.cross_entropy(by_hand.model(x), y)
        loss.backward()
        by_hand.optimizer.step()
        control.step(loss)
    assert result.suggestion == pytest.approx(0.02 * control.factor, rel=1e-9)


def test_ratios_between_groups_are_kept_and_rates_are_those_of_the_largest() -> None:
    """Whatever the groups' own rates: 5 to 1 stays 5 to 1, and start and end are the larger ones."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    groups = [{"params": model[0].parameters(), "lr": 3.0}, {"params": model[1].parameters(), "lr": 15.0}]
    result = range_test(
        model, Recording(groups), half_squares, PAIRS, start_lr=1e-6, end_lr=1e-2, steps=9
    )  # fmt: skip
    for lr, (small, large) in zip(result.lrs, Recording.used, strict=True):
        assert large == lr
        assert small == pytest.approx(lr / 5.0, rel=1e-12)
    assert result.lrs[0] == pytest.approx(1e-6)


def test_the_result_does_not_depend_on_the_learning_rate_of_the_optimizer_nor_on_a_schedule() -> None:
    """A scheduler that has brought the rate to nearly nothing makes no difference either."""
    results = []
    for lr in (1e-9, 1.0, 1e6):
        model, optimizer = quadratic(lr)
        results.append(range_test(model, optimizer, half_squares, PAIRS, **SHORT))
    model, optimizer = quadratic(0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, 100, cycle_momentum=False)
    results.append(range_test(model, optimizer, half_squares, PAIRS, **SHORT))
    assert scheduler.last_epoch == 0
    for result in results[1:]:
        for name in ("lrs", "losses", "suggestion", "interval"):
            np.testing.assert_allclose(getattr(result, name), getattr(results[0], name), rtol=1e-5)


def test_accumulated_batches_make_one_update_with_their_mean_loss() -> None:
    """Two half batches give the curve of the whole one, and are drawn in order."""
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.ones(8, 1)
    halves = [(x[:4], y[:4]), (x[4:], y[4:])]
    whole = range_test(*quadratic(), F.mse_loss, [(x, y)], **SHORT)
    in_two = range_test(*quadratic(), F.mse_loss, halves, accumulate=2, **SHORT)
    np.testing.assert_allclose(in_two.losses, whole.losses, rtol=1e-5)
    assert in_two.lrs == whole.lrs


@pytest.mark.parametrize("kind", ["list", "loader", "generator"])
def test_batches_that_end_before_the_sweep_start_again(kind: str) -> None:
    """A list, a loader, and also a generator, whose batches are kept for that."""
    seen: list[float] = []
    pairs = [(torch.full((1, 4), float(number)), torch.zeros(1, 1)) for number in range(3)]

    def loss_fn(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (0.0 * scores).sum()

    class Watching(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(float(x[0, 0]))
            return super().forward(x)

    model = Watching(4, 1)
    batches = {
        "list": pairs,
        "loader": DataLoader([(x[0], y[0]) for x, y in pairs]),
        "generator": (pair for pair in pairs),
    }[kind]
    range_test(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn, batches, **{**SHORT, "steps": 8})
    assert seen == [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 1.0]


def test_a_model_in_evaluation_mode_is_trained_and_frozen_parts_stay_frozen() -> None:
    """Root in eval: all in train. Root in train: a submodule in eval stays so, its running statistics unused."""
    modes: list[tuple[bool, bool]] = []

    def loss_fn(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        modes.append((model.training, model[1].training))
        return F.mse_loss(scores, y)

    batches = [(torch.randn(4, 2), torch.zeros(4, 1))]
    for root, expected in ((False, (True, True)), (True, (True, False))):
        modes.clear()
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)).train(root)
        model[1].eval()
        range_test(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_fn, batches, **SHORT)
        assert set(modes) == {expected}
        assert (model.training, model[1].training, model[2].training) == (root, False, root)


def test_it_works_without_gradients_around_it_and_reports_progress() -> None:
    """Under `torch.no_grad` gradients are computed all the same; progress counts to the planned number of updates."""
    told: list[tuple[int, int]] = []
    with torch.no_grad():
        range_test(*quadratic(), half_squares, PAIRS, progress=lambda *done: told.append(done), **SHORT)
    assert told == [(done, 12) for done in range(1, 13)]


# ---------------------------------------------------------------- half precision


def scaler(initial: float, **settings: Any) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=initial, **settings)


@pytest.mark.parametrize("initial", [2.0**10, 2.0**127], ids=["no overflow", "overflows first"])
@pytest.mark.parametrize("name", ["SGD", "AdamW fused, amsgrad"])
def test_a_gradient_scaler_is_used_and_restored(name: str, initial: float) -> None:
    """Updates that overflow are tried again; the curve has all its learning rates, and the scaler is as it was."""
    run = Run(OPTIMIZERS[name], scaler(initial, growth_interval=5), autocast=True)
    before = run.everything()
    calls: list[int] = []

    def loss_fn(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        return 4.0 * F.cross_entropy(scores, y)

    result = run.sweep(loss_fn=loss_fn)
    assert run.everything() == before
    np.testing.assert_allclose(result.lrs, np.geomspace(1e-5, 1.0, 12)[: len(result.lrs)], rtol=1e-6)
    assert len(result.lrs) >= 10
    assert (len(calls) > len(result.lrs)) == (initial > 2.0**100)
    assert np.isfinite(result.losses).all()
    run.train(2)
    plainly = Run(OPTIMIZERS[name], scaler(initial, growth_interval=5), autocast=True)
    plainly.train(2)
    assert run.losses == plainly.losses


@pytest.mark.parametrize("disabled", [False, True])
def test_the_curve_under_a_scaler_is_the_curve_without(disabled: bool) -> None:
    """Powers of two scale exactly."""
    given = torch.amp.GradScaler("cpu", enabled=False) if disabled else scaler(2.0**16)
    scaled = range_test(*quadratic(), half_squares, PAIRS, scaler=given, **SHORT)
    assert scaled == range_test(*quadratic(), half_squares, PAIRS, **SHORT)


def test_a_loss_that_is_not_finite_ends_a_scaled_sweep() -> None:
    """The scaler leaves such updates out for ever; the sweep says that the loss diverged, and still suggests."""

    def loss_fn(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls.append(0)
        return half_squares(scores, y) * (math.nan if len(calls) > 8 else 1.0)

    calls: list[int] = []
    result = range_test(*quadratic(), loss_fn, PAIRS, scaler=scaler(2.0**10), **SHORT)
    assert len(result.losses) == 8
    assert result.stop_reason.startswith("the loss diverged at a learning rate of")
    assert result.suggestion is not None


def test_gradients_that_never_become_finite_end_a_scaled_sweep() -> None:
    """Although the loss is finite."""

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * math.inf

    result = range_test(
        *quadratic(), lambda s, y: half_squares(Broken.apply(s), y), PAIRS, scaler=scaler(2.0**10), **SHORT
    )
    assert result.stop_reason == "50 updates in a row overflowed, after 0 updates"
    assert (result.lrs, result.suggestion, result.interval) == ((), None, None)


# ---------------------------------------------------------------- nothing to see


def test_a_flat_noisy_loss_reaches_the_end_and_suggests_no_interval_and_no_peak() -> None:
    generator = torch.Generator().manual_seed(0)

    def loss_fn(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.0 * scores.sum() + 2.0 + 0.1 * torch.randn((), generator=generator)

    result = range_test(*quadratic(), loss_fn, PAIRS, start_lr=1e-7, end_lr=10.0, steps=100)
    assert result.stop_reason.startswith("the end of the range, 10, was reached")
    assert (result.interval, result.suggestion) == (None, None)


def test_a_negative_loss_is_judged_like_any_other() -> None:
    """Shifted by -1000 it diverges at the same update, with the same interval."""
    arguments = {"start_lr": 1e-4, "end_lr": 100.0, "steps": 60}
    result = range_test(*quadratic(), half_squares, PAIRS, **arguments)
    shifted = range_test(*quadratic(), lambda s, y: half_squares(s, y).double() - 10.0, PAIRS, **arguments)
    assert abs(len(shifted.lrs) - len(result.lrs)) <= 2
    np.testing.assert_allclose(shifted.interval, result.interval, rtol=1e-3)


def test_a_loss_that_is_not_finite_from_the_start_suggests_nothing() -> None:
    """No learning rate mends that: one loss, no suggestion, no exception, and a plot."""
    result = range_test(*quadratic(), lambda s, y: half_squares(s, y) * math.nan, PAIRS, **SHORT)
    assert len(result.losses) == 1
    assert {*result.suggestions.values(), result.suggestion, result.interval} == {None}
    assert "diverged" in result.stop_reason


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": torch.ones(2)}, TypeError, "model must be a torch.nn.Module, got Tensor"),
        ({"optimizer": "sgd"}, TypeError, "optimizer must be a torch.optim.Optimizer, got str"),
        ({"loss_fn": 3}, TypeError, "loss_fn must be callable, got int"),
        ({"batches": 3}, TypeError, "batches must be iterable, got int"),
        ({"batches": []}, ValueError, "batches must give at least one pair"),
        ({"batches": iter([])}, ValueError, "batches must give at least one pair"),
        ({"batches": [torch.ones(2, 4)]}, TypeError, r"batches must give pairs \(x, y\), got Tensor"),
        ({"batches": [(1, 2, 3)]}, TypeError, "got 3 values"),
        ({"loss_fn": lambda s, y: s}, TypeError, r"loss_fn must give a tensor of one element, got shape \(4, 1\)"),
        ({"loss_fn": lambda s, y: 1.0}, TypeError, "loss_fn must give a tensor of one element, got float"),
        ({"start_lr": 0.0}, ValueError, "start_lr must be finite and > 0, got 0.0"),
        ({"start_lr": "1"}, TypeError, "start_lr must be a number, finite and > 0, got '1'"),
        ({"end_lr": math.inf}, ValueError, "end_lr must be finite and > 0, got inf"),
        ({"end_lr": 1e-9}, ValueError, "end_lr must be above start_lr, got start_lr=1e-07, end_lr=1e-09"),
        ({"steps": 1}, ValueError, "steps must be at least 2, got 1"),
        ({"steps": 10.0}, TypeError, "steps must be a whole number >= 2, got 10.0"),
        ({"steps": True}, TypeError, "steps must be a whole number >= 2, got True"),
        ({"accumulate": 0}, ValueError, "accumulate must be at least 1, got 0"),
        ({"total_steps": 0}, ValueError, "total_steps must be at least 1 or None, got 0"),
        ({"scaler": 1.0}, TypeError, "scaler must be a torch.amp.GradScaler or None, got float"),
        ({"autocast": 3}, TypeError, "autocast must be a context manager or None, got 3"),
        ({"progress": 3}, TypeError, "progress must be callable or None, got 3"),
        ({"model": nn.Linear(6, 1)}, ValueError, "optimizer must hold parameters of the model, got one of others"),
    ],
)
def test_bad_input_is_refused_with_a_sentence_and_nothing_is_changed(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    run, head = Run(adamw), nn.Linear(3, 1)
    before = run.everything()
    batches = [(torch.ones(4, 6), torch.ones(4, 1))]
    given = {"model": run.model, "optimizer": run.optimizer, "loss_fn": F.mse_loss, "batches": batches, **changes}
    if "loss_fn" in changes and callable(changes["loss_fn"]):
        given["model"] = nn.Sequential(run.model, head)
    with pytest.raises(error, match=message):
        range_test(given.pop("model"), given.pop("optimizer"), given.pop("loss_fn"), given.pop("batches"), **given)
    assert run.everything() == before


def test_optimizers_that_cannot_be_swept_are_refused_with_a_sentence() -> None:
    """One that needs a closure, one without a learning rate, and one that remembers its largest learning rate."""
    model = nn.Linear(4, 1)
    with pytest.raises(ValueError, match="optimizer must step without a closure, got LBFGS"):
        range_test(model, torch.optim.LBFGS(model.parameters()), half_squares, PAIRS)
    with pytest.raises(ValueError, match=r"finite learning rate > 0, got \[0.0\]"):
        range_test(model, torch.optim.SGD(model.parameters(), lr=0.0), half_squares, PAIRS)
    schedulefree = pytest.importorskip("schedulefree")
    optimizer = schedulefree.SGDScheduleFree(model.parameters(), lr=0.1)
    optimizer.train()
    with pytest.raises(ValueError, match="remembers its largest learning rate"):
        range_test(model, optimizer, half_squares, PAIRS)
    assert not is_controlled(optimizer)


# ---------------------------------------------------------------- the name, the picture, and another package


def test_the_public_name_is_the_function_whatever_was_imported_before() -> None:
    """No module of that name in the package can take its place."""
    lines = (
        "import adaptive_lr.lr_range_test, adaptive_lr.controllers.range_test, adaptive_lr.suggestions",
        "import adaptive_lr",
        "from adaptive_lr import range_test",
        "assert callable(range_test) and adaptive_lr.range_test is range_test",
        "import importlib.util; assert importlib.util.find_spec('adaptive_lr.range_test') is None",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


@pytest.fixture
def axes() -> Iterator[Any]:
    pytest.importorskip("matplotlib").use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(5.0, 3.5))
    yield ax
    pyplot.close(figure)


def test_the_plot_shows_curve_interval_and_suggestions_without_overlap(axes: Any) -> None:
    """On the axes given, logarithmic, with one label for each suggestion; no label covers another."""
    result = Run(OPTIMIZERS["SGD"]).sweep(start_lr=1e-6, end_lr=10.0, steps=80)
    assert result.plot(axes) is axes
    assert axes.get_xscale() == "log"
    raw, smoothed = axes.lines[:2]
    np.testing.assert_array_equal(raw.get_xydata(), np.column_stack([result.lrs, result.losses]))
    np.testing.assert_array_equal(smoothed.get_ydata(), result.smoothed)
    names = sorted(text.get_text().split("\n")[0] for text in axes.texts)
    assert names == ["adaptive-lr", "minimum/10", "slide", "steepest", "valley"]
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert len(axes.patches) == 1


def test_a_result_with_nothing_in_it_can_be_plotted(axes: Any) -> None:
    """One loss that is not finite, on axes of its own."""
    result = range_test(*quadratic(), lambda s, y: half_squares(s, y) * math.nan, PAIRS, **SHORT)
    result.plot(axes).figure.canvas.draw()
    ax = result.plot()
    assert ax is not axes
    from matplotlib import pyplot

    pyplot.close(ax.figure)


def test_the_curve_is_that_of_torch_lr_finder() -> None:
    """The package, on the same model and batches, sees the same losses at the same learning rates."""
    finder_class = pytest.importorskip("torch_lr_finder").LRFinder
    data = TensorDataset(torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.ones(24, 1))
    model, optimizer = quadratic(1e-5)
    ours = range_test(
        model, optimizer, F.mse_loss, DataLoader(data, 8), start_lr=1e-5, end_lr=0.05, steps=40
    )  # fmt: skip
    finder = finder_class(model, optimizer, F.mse_loss, device="cpu")
    finder.range_test(DataLoader(data, 8), end_lr=0.05, num_iter=40, smooth_f=0.0, diverge_th=1e9)
    np.testing.assert_allclose(ours.lrs, finder.history["lr"], rtol=1e-9)
    np.testing.assert_allclose(ours.losses, finder.history["loss"], rtol=1e-6)
