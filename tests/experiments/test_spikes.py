"""Disturbances: exactly what was asked for, exactly when, and nothing else."""

from __future__ import annotations

import math
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adaptive_lr.study.digits import Digits
from adaptive_lr.study.run import Run, derive_seed, execute
from adaptive_lr.study.workload import Workload, title_of
from experiments.workloads.byte_gpt import ByteGPT
from experiments.workloads.objective import Objective
from experiments.workloads.quadratic import Quadratic
from experiments.workloads.spikes import CorruptedBatches, GradientSpikes, scale_gradient, with_label_noise


def gradients(workload: Workload, model: nn.Module, steps: int) -> tuple[list[float], list[Tensor]]:
    """Losses and flat gradients of the first batches, at the initial weights."""
    losses, found = [], []
    for batch in islice(workload.batches(0), steps):
        model.zero_grad()
        loss = workload.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.item())
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    return losses, found


@settings(deadline=None, max_examples=30)
@given(st.floats(-1e6, 1e6), st.floats(-10, 10))
def test_scaling_a_gradient_keeps_the_loss_and_multiplies_the_gradient(factor: float, at: float) -> None:
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    loss = x**3 + 2 * x
    (plain,) = torch.autograd.grad(loss, x, retain_graph=True)
    scaled = scale_gradient(loss, factor)
    (gradient,) = torch.autograd.grad(scaled, x)
    assert scaled.item() == loss.item()
    assert gradient.item() == pytest.approx(factor * plain.item(), rel=1e-12)


@pytest.mark.parametrize("factor", [math.inf, math.nan])
def test_a_gradient_can_be_made_non_finite_while_the_loss_stays_finite(factor: float) -> None:
    x = torch.tensor(2.0, requires_grad=True)
    loss = scale_gradient(x**2, factor)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 4.0
    assert x.grad is not None
    assert not x.grad.isfinite()


def test_gradients_are_larger_at_the_given_steps_alone() -> None:
    clean = Digits()
    model = clean.build_model(0)
    losses, expected = gradients(clean, model, 6)
    seen_losses, seen = gradients(GradientSpikes(clean, steps=(2, 5), factor=8.0), model, 6)
    assert seen_losses == losses
    for step, (plain, disturbed) in enumerate(zip(expected, seen, strict=True)):
        assert torch.equal(disturbed, plain * 8.0 if step in (2, 5) else plain)  # a power of two: no rounding


def test_a_step_is_the_number_of_updates_done_before_it() -> None:
    spiked = GradientSpikes(Digits(), steps=(0,), factor=2.0)
    assert [batch.step for batch in islice(spiked.batches(0), 3)] == [0, 1, 2]


def test_a_disturbed_run_shares_its_luck_with_the_clean_one_until_the_disturbance() -> None:
    clean = execute(Run("digits", "sgd", "cosine", 0.1, 3, 110))
    spiked = execute(Run("experiments.workloads.spikes:gradient_spikes", "sgd", "cosine", 0.1, 3, 110))
    assert spiked.initial == clean.initial
    assert spiked.train_losses[:101] == clean.train_losses[:101]  # the loss of step 100 is from before its update
    assert spiked.train_losses[101] != clean.train_losses[101]
    assert derive_seed("digits", 3, "weights") == derive_seed(GradientSpikes(Digits(), steps=(), factor=1.0).name, 3,
                                                              "weights")  # fmt: skip


def test_a_corrupted_batch_has_larger_inputs_and_the_targets_of_others() -> None:
    clean = Digits()
    corrupted = CorruptedBatches(clean, steps=(1,), scale=50.0)
    model = clean.build_model(0)
    images, classes = list(islice(clean.batches(0), 2))[1]
    losses, _ = gradients(corrupted, model, 2)
    assert losses[0] == gradients(clean, model, 1)[0][0]
    by_hand = nn.functional.cross_entropy(model(images * 50.0), torch.cat([classes[-1:], classes[:-1]]))
    assert losses[1] == pytest.approx(by_hand.item(), rel=1e-6)


def test_tokens_keep_their_values_when_a_batch_is_corrupted() -> None:
    clean = ByteGPT()
    corrupted = CorruptedBatches(clean, steps=(0,))
    model = clean.build_model(0)
    text, following = next(clean.batches(0))
    with torch.no_grad():
        seen = corrupted.loss(model, next(corrupted.batches(0)))
        by_hand = clean.loss(model, (text, following.roll(1, dims=0)))
    assert seen == by_hand


def test_any_workload_can_have_gradient_spikes() -> None:
    clean: Objective = Quadratic()
    model = clean.build_model(0)
    _, plain = gradients(clean, model, 1)
    _, spiked = gradients(GradientSpikes(clean, steps=(0,), factor=4.0), model, 1)
    assert torch.equal(spiked[0], plain[0] * 4.0)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_label_noise_changes_the_given_share_and_never_to_the_right_class(share: float) -> None:
    clean = Digits()
    noisy = with_label_noise(clean, share=share)
    changed = noisy.train[1] != clean.train[1]
    deviation = math.sqrt(share * (1 - share) / len(changed))
    # A chosen label always changes, so the share of changed ones is binomial around `share`.
    assert changed.double().mean().item() == pytest.approx(share, abs=4 * deviation)
    assert (noisy.train[1].min(), noisy.train[1].max()) == (0, 9)
    assert torch.equal(noisy.train[0], clean.train[0])
    assert all(torch.equal(noisy.splits["test"][i], clean.splits["test"][i]) for i in (0, 1))


def test_label_noise_is_part_of_the_workload_and_leaves_the_original_alone() -> None:
    clean = Digits()
    before = clean.train[1].clone()
    assert torch.equal(with_label_noise(clean, share=0.5).train[1], with_label_noise(clean, share=0.5).train[1])
    assert torch.equal(clean.train[1], before)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_the_unit_interval_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must be in"):
        with_label_noise(Digits(), share=share)


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be >= 0"):
        GradientSpikes(Digits(), steps=(-1,), factor=10.0)


def test_titles_tell_disturbed_workloads_from_clean_ones_of_the_same_name() -> None:
    workloads = [
        GradientSpikes(Digits(), steps=(5, 2), factor=10.0),
        CorruptedBatches(Digits(), steps=(2,)),
        with_label_noise(Digits(), share=0.2),
    ]
    assert {workload.name for workload in workloads} == {"digits"}
    assert [title_of(workload) for workload in workloads] == [
        "digits, gradients x 10 at steps 2, 5",
        "digits, inputs x 100 and wrong targets at steps 2",
        "digits, 20% of the training labels wrong",
    ]
