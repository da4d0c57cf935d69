"""Every optimizer class of torch, by enumeration, in every form it comes in."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from adaptive_lr import AdaptiveLR
from laws import Reflex, Script, Watch

# torch warns when a tensor with a history has no gradient, which is what a skipped differentiable step looks like.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

STEPS = 6
CLASSES = sorted(
    {c for c in vars(torch.optim).values() if inspect.isclass(c) and issubclass(c, Optimizer) and c is not Optimizer},
    key=lambda c: c.__name__,
)
MATRICES_ONLY = {"Muon"}
NO_EMPTY_TENSORS = {"Adafactor"}  # divides by their size
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "differentiable": {"differentiable": True},
    "maximize": {"maximize": True},
    "nesterov": {"nesterov": True, "momentum": 0.9},
    "momentum": {"momentum": 0.9},
    "tensor_lr": {},
}


class Problem:
    """A deterministic least-squares problem of a few tensors, with an optimizer on it."""

    def __init__(
        self,
        make: Callable[[list[torch.Tensor]], Optimizer],
        *,
        sparse: bool,
        matrices: bool,
        empty: bool,
        leaves: bool,
    ) -> None:
        generator = torch.Generator().manual_seed(1)
        shapes = [(4, 3), (3, 2)] if matrices else [(4, 3), (3,), (0, 3) if empty else (1, 3), ()]
        self.sparse = sparse
        self.parameters = [torch.randn(s, generator=generator).requires_grad_() for s in shapes]
        if not leaves:
            self.parameters = [p.clone() for p in self.parameters]
        self.idle = torch.ones(2, 2, requires_grad=True)  # never has a gradient
        self.targets = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(STEPS)]
        self.optimizer = make([*self.parameters, self.idle])

    def loss(self, step: int) -> torch.Tensor:
        """The loss of one step's data, with gradients set."""
        for parameter in self.parameters:
            parameter.grad = None
        with torch.enable_grad():
            loss = sum(
                ((p - t) ** 2).sum() for p, t in zip(self.parameters, self.targets[step], strict=True)
            ) + torch.zeros(())
        for parameter, gradient in zip(self.parameters, torch.autograd.grad(loss, self.parameters), strict=True):
            parameter.grad = gradient
        if self.sparse:
            for parameter in self.parameters:
                parameter.grad = parameter.grad.to_sparse(1) if parameter.dim() else None
        return loss

    def step(self, step: int) -> None:
        """One update."""
        if type(self.optimizer).__name__ == "LBFGS":
            self.optimizer.step(lambda: self.loss(step))
        else:
            self.loss(step)
            self.optimizer.step()

    def weights(self) -> list[torch.Tensor]:
        """Copies of all parameters."""
        return [p.detach().clone() for p in [*self.parameters, self.idle]]

    def state(self) -> dict[str, Any]:
        """A copy of the optimizer's state_dict."""
        return copied(self.optimizer.state_dict())


def problem(cls: type[Optimizer], form: str) -> Problem:
    """The problem with this optimizer in this form."""
    options = FORMS[form]
    sparse = cls.__name__ == "SparseAdam"
    matrices = cls.__name__ in MATRICES_ONLY or sparse
    kind = {
        "sparse": sparse,
        "matrices": matrices,
        "empty": cls.__name__ not in NO_EMPTY_TENSORS,
        "leaves": form != "differentiable",
    }
    lr: Any = torch.tensor(0.02, dtype=torch.float64) if form == "tensor_lr" else 0.02

    def make(parameters: list[torch.Tensor]) -> Optimizer:
        if cls.__name__ == "LBFGS":
            return cls(parameters, lr=lr, max_iter=3, **options)  # type: ignore[call-arg]
        return cls([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=lr, **options)  # type: ignore[call-arg]

    return Problem(make, **kind)


def copied(value: Any) -> Any:
    """A copy through containers, without autograd's history."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list | tuple) else value


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().to_dense().contiguous().numpy().tobytes()


def equal(left: Any, right: Any) -> bool:
    """Bit-identical, through containers."""
    if isinstance(left, torch.Tensor):
        # Bytes, for NaN is not equal to itself (Adafactor makes one for an empty tensor).
        return left.shape == right.shape and left.dtype == right.dtype and bits(left) == bits(right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)


def run(subject: Problem, before: Callable[[int], None] = lambda step: None, control: AdaptiveLR | None = None) -> None:
    for step in range(STEPS):
        before(step)
        subject.step(step)
        if control is not None:
            control.step(1.0)


def cases(forms: Iterable[str]) -> pytest.MarkDecorator:
    """Every optimizer class in each of the forms that its constructor takes."""
    found = [
        pytest.param(cls, form, id=f"{cls.__name__}-{form}")
        for cls in CLASSES
        for form in forms
        if FORMS[form].keys() <= inspect.signature(cls.__init__).parameters.keys()
    ]
    return pytest.mark.parametrize(("cls", "form"), found)


every = cases(FORMS)


@every
@pytest.mark.parametrize(
    ("controllers", "shadow"),
    [
        ((), False),
        ((Script((1.0,)),), False),
        ((Script((0.5, 0.1, 2.0), (0.5,)), Reflex(damp=0.1, damp_at=(1,), skip_at=(2,))), True),
        ((Watch(("grad_norm", "grad_score", "param_norm", "momentum_norm", "alignment", "update_ratio")),), False),
    ],
    ids=["no controller", "factor 1", "shadow", "measured"],
)
def test_training_is_bit_identical_where_control_changes_nothing(
    cls: type[Optimizer], form: str, controllers: Any, shadow: bool
) -> None:
    plain, controlled = problem(cls, form), problem(cls, form)
    control = AdaptiveLR(controlled.optimizer, controllers, shadow=shadow)
    run(plain)
    run(controlled, control=control)
    assert equal(controlled.weights(), plain.weights())
    assert equal(controlled.state(), plain.state())


@every
def test_a_factor_is_the_same_as_multiplying_the_learning_rate_by_hand(cls: type[Optimizer], form: str) -> None:
    by_hand, controlled = problem(cls, form), problem(cls, form)
    factors = (1.0, 0.5, 0.25, 1.0, 3.0, 0.5)
    control = AdaptiveLR(controlled.optimizer, Script(factors))
    base = float(by_hand.optimizer.param_groups[0]["lr"])

    def multiply(step: int) -> None:
        for group in by_hand.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(base * factors[step])
            else:
                group["lr"] = base * factors[step]

    run(by_hand, multiply)
    run(controlled, control=control)
    assert equal(controlled.weights(), by_hand.weights())
    assert [float(g["lr"]) for g in controlled.optimizer.param_groups] == [base] * len(by_hand.optimizer.param_groups)
    assert control.get_last_lr() == [base * factors[-1]] * len(by_hand.optimizer.param_groups)


@cases(["plain", "momentum", "foreach", "fused"])
def test_a_momentum_multiplier_is_the_same_as_changing_momentum_by_hand(cls: type[Optimizer], form: str) -> None:
    by_hand, controlled = problem(cls, form), problem(cls, form)
    groups = by_hand.optimizer.param_groups
    if all(group.get("momentum") is None and "betas" not in group for group in groups):
        with pytest.warns(UserWarning, match="momentum is not changed"):
            control = AdaptiveLR(controlled.optimizer, Script((1.0,), (0.5,)))
            run(controlled, control=control)
        run(by_hand)
    else:
        control = AdaptiveLR(controlled.optimizer, Script((1.0,), (0.5,)))
        run(controlled, control=control)
        for group in groups:
            if group.get("momentum") is not None:
                group["momentum"] *= 0.5
            else:
                group["betas"] = (group["betas"][0] * 0.5, *group["betas"][1:])
        run(by_hand)
    assert equal(controlled.weights(), by_hand.weights())


@every
def test_a_skipped_step_is_bit_identical_to_one_left_out_by_hand(cls: type[Optimizer], form: str) -> None:
    left_out, controlled = problem(cls, form), problem(cls, form)
    control = AdaptiveLR(controlled.optimizer, Reflex(skip_at=(0, 3)))
    for step in range(STEPS):
        if step in (0, 3):
            left_out.loss(step)
        else:
            left_out.step(step)
        controlled.step(step)
        control.step(1.0)
        gradients = zip(left_out.parameters, controlled.parameters, strict=True)
        if type(left_out.optimizer).__name__ != "LBFGS":
            assert all(a.grad is None or equal(a.grad.to_dense(), b.grad.to_dense()) for a, b in gradients)
    assert equal(controlled.weights(), left_out.weights())
    assert equal(controlled.state(), left_out.state())


@every
def test_a_skipped_step_leaves_parameters_and_state_alone_when_gradients_are_nan(
    cls: type[Optimizer], form: str
) -> None:
    subject = problem(cls, form)
    control = AdaptiveLR(subject.optimizer, Reflex(skip_at=(2,)))
    for step in range(2):
        subject.step(step)
        control.step(1.0)
    weights, state = subject.weights(), subject.state()
    subject.targets[2] = [torch.full_like(t, float("nan")) for t in subject.targets[2]]
    subject.step(2)
    assert equal(subject.weights(), weights)
    assert equal(subject.state(), state)


@every
def test_damping_is_the_same_as_scaling_the_gradients(cls: type[Optimizer], form: str) -> None:
    by_hand, controlled = problem(cls, form), problem(cls, form)
    control = AdaptiveLR(controlled.optimizer, Reflex(damp=0.125, damp_at=(1, 4)))
    loss = by_hand.loss

    def scaled(step: int) -> torch.Tensor:
        value = loss(step)
        for parameter in by_hand.parameters:
            if step in (1, 4) and parameter.grad is not None:
                parameter.grad = parameter.grad * 0.125
        return value

    by_hand.loss = scaled  # type: ignore[method-assign]
    for step in range(STEPS):
        by_hand.step(step)
        controlled.step(step)
        control.step(1.0)
    assert equal(controlled.weights(), by_hand.weights())


@cases(form for form in FORMS if form != "differentiable")  # tensors with a history cannot be copied
def test_copies_of_a_controlled_optimizer_are_free_and_hold_the_base(cls: type[Optimizer], form: str) -> None:
    subject = problem(cls, form)
    control = AdaptiveLR(subject.optimizer, Script((0.5,)))
    run(subject, control=control)
    for copied in (copy.deepcopy(subject.optimizer), pickle.loads(pickle.dumps(subject.optimizer))):
        assert not copied._optimizer_step_pre_hooks
        assert not copied._optimizer_step_post_hooks
        assert float(copied.param_groups[0]["lr"]) == 0.02
    assert float(subject.state()["param_groups"][0]["lr"]) == 0.02
