"""Rules of other methods, as their papers state them, defects included: they are what ours is compared with."""

import math
import random

import pytest
import torch

from adaptive_lr.study.peer_updates import (
    SkipStep,
    ZClip,
    clipped_at_one,
    given_the_loss,
    skipped,
    total_norm,
    z_clipped,
)


def sgd(*gradients, lr=1.0):
    parameters = [torch.zeros(len(gradient), requires_grad=True) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return torch.optim.SGD(parameters, lr=lr), parameters


def test_a_gradient_longer_than_one_is_clipped_to_one():
    optimizer, (first, second) = sgd([3.0], [4.0])
    clipped_at_one(optimizer, 10)(0.0)
    assert math.hypot(first.item(), second.item()) == pytest.approx(1.0, rel=1e-5)
    assert second.item() / first.item() == pytest.approx(4.0 / 3.0)


def test_a_shorter_gradient_is_left_alone():
    optimizer, (weight,) = sgd([0.3, 0.4])
    clipped_at_one(optimizer, 10)(0.0)
    assert torch.equal(weight.detach(), -torch.tensor([0.3, 0.4]))


def test_the_total_norm_is_over_all_parameters():
    assert total_norm(sgd([3.0], [4.0])[0]) == pytest.approx(5.0)


def warmed(values):
    rule = ZClip()
    for value in values:
        rule.clipped(value)
    return rule


def test_zclip_starts_with_the_moments_of_25_norms():
    norms = [0.1 + 0.01 * (step % 5) for step in range(25)]
    rule = warmed(norms)
    mean = sum(norms) / 25
    assert rule.mean == pytest.approx(mean)
    assert rule.variance == pytest.approx(sum((norm - mean) ** 2 for norm in norms) / 25)


def test_zclip_pulls_a_spike_back_and_a_larger_one_further():
    norms = [0.1 + 0.01 * (step % 5) for step in range(25)]
    deviation = math.sqrt(warmed(norms).variance)
    small, large = (warmed(norms).clipped(0.12 + score * deviation) for score in (5.0, 10.0))
    assert small == pytest.approx(0.12 + 2.5**2 / 5.0 * deviation, rel=1e-3)
    assert large == pytest.approx(0.12 + 2.5**2 / 10.0 * deviation, rel=1e-3)


def test_zclip_leaves_a_usual_norm_alone_and_never_lets_one_pass_one():
    rule = warmed([0.1 + 0.01 * (step % 5) for step in range(25)])
    assert rule.clipped(0.13) == 0.13
    assert warmed([5.0, 5.1] * 13).clipped(5.0) == 1.0


def test_zclip_locks_up_after_a_lasting_shift_of_the_level():
    """A defect of the published rule: clipped norms enter its moments, so it never learns the new level."""
    rng = random.Random(0)
    rule = warmed([0.1 * math.exp(0.05 * rng.gauss(0, 1)) for _ in range(100)])
    clipped = [rule.clipped(0.3 * math.exp(0.05 * rng.gauss(0, 1))) for _ in range(200)]
    assert all(norm < 0.2 for norm in clipped)


def test_skip_step_needs_half_a_window_before_it_acts():
    rule = SkipStep()
    assert not any(rule.skips(1.0, 1.0) for _ in range(62))
    assert not rule.skips(1e6, 1e6)  # the 63rd


def test_skip_step_leaves_out_a_spike_of_either_value_and_nothing_usual():
    rng = random.Random(0)
    for values in ((50.0, 1.0), (1.0, 50.0)):
        rule = SkipStep()
        assert not any(rule.skips(1 + 0.1 * rng.random(), 1 + 0.1 * rng.random()) for _ in range(100))
        assert rule.skips(*values)


def test_one_nan_makes_skip_step_leave_out_the_whole_window():
    """A defect of the published rule: the NaN stays in the window, and nothing compares with it."""
    rule = SkipStep()
    for step in range(100):
        rule.skips(1.0 + 0.01 * (step % 3), 1.0)
    left_out = [rule.skips(math.nan if step == 0 else 1.0 + 0.01 * (step % 3), 1.0) for step in range(200)]
    assert sum(left_out) == 128


def test_a_skipped_update_changes_nothing():
    optimizer, (weight,) = sgd([1.0])
    update = skipped(optimizer, 10)
    for _ in range(70):
        weight.grad = torch.tensor([0.01])
        update(1.0)
    before = weight.detach().clone()
    weight.grad = torch.tensor([1e4])
    update(1.0)
    assert torch.equal(weight.detach(), before)


def test_z_clipping_scales_all_gradients_alike():
    optimizer, (first, second) = sgd([0.06], [0.08], lr=0.0)
    update = z_clipped(optimizer, 10)
    for step in range(30):
        first.grad, second.grad = torch.tensor([0.06 + 1e-4 * (step % 3)]), torch.tensor([0.08])
        update(1.0)
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    update(1.0)
    assert second.grad.item() / first.grad.item() == pytest.approx(4.0 / 3.0)
    assert total_norm(optimizer) < 0.2


def test_an_optimizer_that_wants_the_loss_gets_it():
    class WantsLoss(torch.optim.SGD):
        def step(self, closure=None, loss=None):
            self.seen = loss
            return super().step()

    optimizer = WantsLoss([torch.zeros(1, requires_grad=True)], lr=1.0)
    given_the_loss(optimizer, 10)(0.25)
    assert optimizer.seen.item() == 0.25
