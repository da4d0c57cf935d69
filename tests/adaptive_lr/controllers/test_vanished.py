"""`VanishedGradient`: a gradient that is small for its loss, and not one that shrinks with it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from adaptive_lr.controllers.vanished import SHARE, UPDATES, VanishedGradient


def after(rows: list[tuple[float, float]]) -> list[bool]:
    """Whether it was found, after each loss and norm."""
    state, found = VanishedGradient(), []
    for loss, norm in rows:
        state = state.add(loss, norm)
        found.append(state.found)
    return found


def test_a_gradient_far_too_small_for_its_loss_has_vanished_after_eight_updates() -> None:
    assert after([(13.0, 100.0)] * 6 + [(2.3, 0.1)] * 10) == [False] * 13 + [True] * 3


def test_a_gradient_that_shrinks_with_its_loss_has_not() -> None:
    assert not any(after([(13.0 * 0.9**t, 100.0 * 0.9**t) for t in range(200)]))


def test_a_batch_that_still_finds_a_unit_alive_takes_one_away() -> None:
    vanished, alive = (2.3, 0.1), (2.3, 20.0)
    assert after([(13.0, 100.0)] * 5 + [vanished, vanished, alive] * 10).index(True) == 5 + 6 * 3 + 1
    assert not any(after([(13.0, 100.0)] * 5 + [vanished, alive] * 40))


def test_one_large_gradient_at_initialisation_does_not_count() -> None:
    assert not any(after([(13.0, 1e6)] + [(13.0, 100.0)] * 4 + [(10.0, 50.0)] * 20))


@pytest.mark.parametrize("loss", [0.0, -3.0])
def test_of_a_loss_that_is_not_above_zero_nothing_is_said(loss: float) -> None:
    assert not any(after([(loss, 1.0)] * 5 + [(2.0, 0.0)] * 20))
    assert not any(after([(2.0, 1.0)] * 5 + [(loss, 0.0)] * 20))


numbers = st.floats(1e-6, 1e6)


@given(st.lists(st.tuples(numbers, numbers), max_size=40), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_units_of_loss_and_gradient_do_not_matter(rows: list[tuple[float, float]], a: float, b: float) -> None:
    state, scaled = VanishedGradient(), VanishedGradient()
    for loss, norm in rows:
        if abs(norm / max(state.threshold(loss), 1e-300) - 1.0) < 1e-9:
            return  # on the edge, where rounding decides
        state, scaled = state.add(loss, norm), scaled.add(a * loss, b * norm)
        assert state.low == scaled.low


def test_of_a_network_whose_units_are_dead_it_is_found_and_of_the_same_alive_it_is_not() -> None:
    """Against gradients of torch: hidden units that no input reaches leave the gradient of the output's bias."""

    def losses_and_norms(kill: int | None) -> list[tuple[float, float]]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
        optimizer, rows = torch.optim.SGD(model.parameters(), lr=0.01), []
        for step in range(40):
            if step == kill:
                with torch.no_grad():
                    model[0].bias.fill_(-1e3)
                    model[2].bias.zero_()
            inputs = 30.0 * torch.randn(256, 8)
            loss = F.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            rows.append((loss.item(), norm.item()))
            optimizer.step()
        return rows

    assert after(losses_and_norms(10)).index(True) == 10 + UPDATES - 1
    assert not any(after(losses_and_norms(None)))
    assert 0.0 < SHARE < 0.2
