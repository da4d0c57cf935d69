"""Control among the other things a training script does: other hooks, interrupts, threads, wrappers, checkpoints."""

from __future__ import annotations

import copy
import gc
import io
import math
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

from adaptive_lr import AdaptiveLR, read_trace
from adaptive_lr.controllers import Adjustment, GradientSpike, LossVariance
from adaptive_lr.plain import from_plain, to_plain
from adaptive_lr.statistics import MEASURED_STATISTICS
from adaptive_lr.trace import explain, replay
from laws import Reflex, Script, Watch


class Recorder(torch.optim.SGD):
    """Plain gradient descent that notes the learning rate and momentum of each group as it uses them."""

    def __init__(self, parameters: Any, **defaults: Any) -> None:
        super().__init__(parameters, **{"lr": 1.0, **defaults})
        self.used: list[tuple[float, float]] = []

    def step(self, closure: Any = None) -> Any:
        self.used += [(float(group["lr"]), group["momentum"]) for group in self.param_groups]
        return super().step(closure)


class Failing(torch.optim.SGD):
    """Raises what it is told to, once gradients and learning rate are looked at."""

    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("failed")


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def backward(module: nn.Module, *, scale: float = 1.0) -> None:
    module.zero_grad()
    (scale * module(torch.ones(4, 3)).square().mean()).backward()


def through_a_file(state: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer)


# ---------------------------------------------------------------- other people's hooks, and steps inside steps


@pytest.mark.parametrize("when", ["before", "after", "global"])
def test_a_hook_of_someone_else_that_replaces_the_arguments_changes_nothing(when: str) -> None:
    module = model()
    optimizer = Recorder(module.parameters())

    def replacing(optimizer: Any, args: Any, kwargs: Any) -> Any:
        return args, dict(kwargs)

    handles = []
    if when == "before":
        handles.append(optimizer.register_step_pre_hook(replacing))
    control = AdaptiveLR(optimizer, Script((0.5,)))
    if when == "after":
        handles.append(optimizer.register_step_pre_hook(replacing))
    if when == "global":
        handles.append(register_optimizer_step_pre_hook(replacing))
    try:
        backward(module)
        optimizer.step()
        control.step(1.0)
    finally:
        for handle in handles:
            handle.remove()
    assert optimizer.used == [(0.5, 0)]
    assert control.get_last_lr() == [0.5]
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_step_that_calls_super_three_deep_is_scaled_once_and_counted_once() -> None:
    class Second(Recorder):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            self.used.append((self.param_groups[0]["lr"], 0))
            return result

    class Third(Second):
        def step(self, closure: Any = None) -> Any:
            result = super().step(closure)
            self.used.append((self.param_groups[0]["lr"], 0))
            return result

    for cls in (torch.optim.SGD, Recorder, Second):  # from here on torch calls the hooks at every depth
        cls([torch.zeros(1, requires_grad=True)], lr=1.0)
    module = model()
    optimizer = Third(module.parameters())
    seen: list[Any] = []
    control = AdaptiveLR(optimizer, (Script((0.5,)), Watch(("grad_norm",))))
    for _ in range(3):
        backward(module)
        optimizer.step()
        seen.append(control.state_dict()["layer"]["updates"])
        control.step(1.0)
    assert set(optimizer.used) == {(0.5, 0)}
    assert seen == [1, 2, 3]


def test_a_step_that_survives_a_failed_super_step_is_one_update() -> None:
    class Surviving(Failing):
        def step(self, closure: Any = None) -> Any:
            try:
                return super().step(closure)
            except RuntimeError:
                return None

    module = model()
    Failing(module.parameters(), lr=1.0)
    optimizer = Surviving(module.parameters(), lr=1.0)
    control = AdaptiveLR(optimizer, Script((0.5,)))
    backward(module)
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert control.get_last_lr() == [0.5]
    assert control.state_dict()["layer"]["updates"] == 1


@pytest.mark.parametrize("make", [KeyboardInterrupt, lambda: ExceptionGroup("two", [ValueError(), TypeError()])])
def test_an_interrupted_step_leaves_base_and_gradients(make: Callable[[], BaseException]) -> None:
    class Interrupted(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise make()

    module = model()
    optimizer = Interrupted(module.parameters(), lr=1.0, momentum=0.9)
    control = AdaptiveLR(optimizer, (Script((0.5,), (0.5,)), Reflex(skip_at=(0,))))
    backward(module)
    gradients = [p.grad for p in module.parameters()]
    interrupted = False
    try:
        optimizer.step()
    except BaseException:  # pytest.raises would keep the exception, and with it the step, alive
        interrupted = True
    assert interrupted
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (1.0, 0.9)
    assert all(p.grad is g for p, g in zip(module.parameters(), gradients, strict=True))
    assert control.get_last_lr() == [1.0]


def test_a_warning_turned_into_an_error_leaves_base_and_gradients() -> None:
    module = model()
    optimizer = torch.optim.Adagrad(module.parameters(), lr=1.0)
    AdaptiveLR(optimizer, (Reflex(skip_at=(0,)), Script((0.5,), (0.5,))))  # a momentum that Adagrad does not have
    backward(module)
    with pytest.raises(UserWarning, match="Adagrad has none"):
        optimizer.step()
    assert module.weight.grad is not None
    assert optimizer.param_groups[0]["lr"] == 1.0


# ---------------------------------------------------------------- what a step is made of


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_step_in_any_gradient_mode_is_the_same(mode: Callable[[], Any]) -> None:
    weights = []
    for within in (mode, torch.no_grad):
        module = model()
        optimizer = torch.optim.Adam(module.parameters(), lr=torch.tensor(0.1))
        control = AdaptiveLR(optimizer, (GradientSpike(), LossVariance(), Script((0.5, 0.7))))
        for _ in range(20):
            backward(module)
            with within():
                optimizer.step()
            control.step(1.0)
        weights.append(module.weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.parametrize("lr", [1, np.float64(1.0), np.float32(1.0), np.array(1.0)], ids=lambda lr: type(lr).__name__)
def test_any_number_may_be_a_learning_rate_and_is_put_back_itself(lr: Any) -> None:
    module = model()
    optimizer = Recorder(module.parameters(), lr=lr)
    control = AdaptiveLR(optimizer, Script((0.5,)))
    backward(module)
    optimizer.step()
    control.step(1.0)
    assert optimizer.used == [(0.5, 0)]
    assert optimizer.param_groups[0]["lr"] is lr


def test_a_float32_learning_rate_tensor_holds_the_product_in_float32_and_its_base_exactly() -> None:
    module = model()
    base = torch.tensor(0.1)
    optimizer = torch.optim.Adam(module.parameters(), lr=base)
    control = AdaptiveLR(optimizer, Script((0.3,)))
    backward(module)
    optimizer.step()
    assert control.get_last_lr() == [float(torch.tensor(0.1) * 0.3)]
    assert optimizer.param_groups[0]["lr"] is base
    assert torch.equal(base, torch.tensor(0.1))


@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.RMSprop])
def test_a_momentum_multiplier_of_zero_empties_the_buffer(cls: Any) -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = cls([weight], lr=1e-3, momentum=0.9)
    control = AdaptiveLR(optimizer, Script((1.0,), (1.0, 0.0, 1.0)))
    buffers = []
    for gradient in (1e4, 1.0, 0.0):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        control.step(1.0)
        buffers.append(float(optimizer.state[weight]["momentum_buffer"][0]))
    assert buffers[1] <= 1.0  # this gradient, and nothing of the one before
    assert buffers[2] == pytest.approx(0.9 * buffers[1])


def test_damping_holds_for_every_evaluation_of_a_line_search() -> None:
    x = nn.Parameter(torch.tensor([3.0, 2.0]))
    optimizer = torch.optim.LBFGS([x], max_iter=4, line_search_fn="strong_wolfe")
    AdaptiveLR(optimizer, Reflex(damp=0.5, damp_at=(0,)))
    gather = optimizer._gather_flat_grad
    ratios: list[float] = []

    def listening() -> torch.Tensor:
        gradient = gather()
        ratios.extend((gradient / (4 * x.detach() ** 3)).tolist())
        return gradient

    optimizer._gather_flat_grad = listening

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (x**4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert len(ratios) > 4
    assert ratios == pytest.approx([0.5] * len(ratios))


def test_a_gradient_shared_by_two_parameters_is_damped_once() -> None:
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([first, second], lr=1.0)
    AdaptiveLR(optimizer, Reflex(damp=0.5, damp_at=(0,)))
    first.grad = second.grad = torch.ones(2)
    optimizer.step()
    assert first.tolist() == second.tolist() == [-0.5, -0.5]


def test_a_skipped_step_takes_back_plain_values_an_optimizer_keeps_beside_its_states() -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.state["steps"] = self.state.get("steps", 0) + 1
            return super().step(closure)

    module = model()
    optimizer = Counting(module.parameters(), lr=1.0)
    control = AdaptiveLR(optimizer, Reflex(skip_at=(0, 2)))
    counts = []
    for _ in range(4):
        backward(module)
        optimizer.step()
        control.step(1.0)
        counts.append(optimizer.state.get("steps", 0))
    assert counts == [0, 1, 1, 2]


def test_a_closure_may_return_none() -> None:
    module = model()
    optimizer = Recorder(module.parameters())
    control = AdaptiveLR(optimizer, (Script((0.5,)), GradientSpike()))
    assert optimizer.step(lambda: backward(module)) is None
    control.step(1.0)
    assert optimizer.used == [(0.5, 0)]


def test_groups_given_by_generators_and_by_names_are_controlled_and_traced_when_they_come_late(tmp_path: Path) -> None:
    early, late = model(), model()
    optimizer = torch.optim.Adam((p for p in early.parameters()), lr=0.1)
    control = AdaptiveLR(optimizer, (GradientSpike(),), trace=tmp_path)
    for step in range(4):
        if step == 2:
            optimizer.add_param_group({"params": (p for p in late.parameters()), "lr": 0.3, "name": "late"})
        backward(early)
        backward(late)
        optimizer.step()
        control.step(1.0)
    control.detach()
    record = read_trace(tmp_path)
    assert [update.lr for update in record.updates] == [(0.1,)] * 2 + [(0.1, 0.3)] * 2
    assert len(record.rows[-1].groups) == 2
    assert "Adam" in explain(record)


# ---------------------------------------------------------------- several at once


def test_two_optimizers_that_share_a_learning_rate_tensor_are_controlled_apart() -> None:
    lr = torch.tensor(1.0)
    generator, discriminator = model(), model()
    first, second = Recorder(generator.parameters(), lr=lr), Recorder(discriminator.parameters(), lr=lr)
    controls = AdaptiveLR(first, Script((0.5,))), AdaptiveLR(second, Script((0.25,)))
    for _ in range(3):
        for module, optimizer, control in zip((generator, discriminator), (first, second), controls, strict=True):
            backward(module)
            optimizer.step()
            control.step(1.0)
    assert first.used == [(0.5, 0)] * 3
    assert second.used == [(0.25, 0)] * 3
    assert float(lr) == 1.0


def test_runs_in_threads_are_the_same_as_one_after_the_other() -> None:
    torch.manual_seed(0)
    modules = [nn.Linear(3, 2) for _ in range(8)]
    apart = copy.deepcopy(modules)

    def train(module: nn.Module) -> None:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
        control = AdaptiveLR(optimizer, (GradientSpike(), LossVariance(), Script((1.0, 0.5))))
        for step in range(60):
            backward(module, scale=1e4 if step in (30, 32, 33) else 1.0)
            optimizer.step()
            control.step(1.0 + 0.01 * (step % 7))

    threads = [threading.Thread(target=train, args=(module,)) for module in modules]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for module, other in zip(modules, apart, strict=True):
        train(other)
        assert all(map(torch.equal, module.parameters(), other.parameters()))


def test_weight_averaging_and_its_schedule_are_exact_under_control() -> None:
    def train(factor: float | None) -> tuple[list[float], list[torch.Tensor]]:
        module = model()
        optimizer = Recorder(module.parameters(), momentum=0.9)
        scheduler = SWALR(optimizer, 0.05, anneal_epochs=5)
        average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        control = None if factor is None else AdaptiveLR(optimizer, Script((factor,)))
        for _ in range(8):
            backward(module)
            optimizer.step()
            scheduler.step()
            average.update_parameters(module)
            if control is not None:
                control.step(1.0)
        return [lr for lr, _ in optimizer.used], [p.detach() for p in average.parameters()]

    (used, average), (used_at_one, average_at_one), (used_at_half, _) = map(train, (None, 1.0, 0.5))
    assert used_at_one == used
    assert all(map(torch.equal, average_at_one, average))
    assert used_at_half == [0.5 * lr for lr in used]


def test_a_zero_redundancy_optimizer_is_controlled_from_outside(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.distributed warns of its own parts when it is imported
        distributed = pytest.importorskip("torch.distributed")
        if not distributed.is_available():
            pytest.skip("torch is built without torch.distributed")
        from torch.distributed.optim import ZeroRedundancyOptimizer

        distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
        try:
            weights = []
            for lr, factor in ((0.05, 1.0), (0.1, 0.5)):
                module = model()
                optimizer = ZeroRedundancyOptimizer(module.parameters(), torch.optim.Adam, lr=lr)
                scheduler = lr_scheduler.StepLR(optimizer, 3, 0.5)
                control = AdaptiveLR(optimizer, (Script((factor,)), GradientSpike()))
                for _ in range(8):
                    backward(module)
                    optimizer.step()
                    scheduler.step()
                    control.step(1.0)
                weights.append(module.weight.detach().clone())
                assert control.state_dict()["layer"]["updates"] == 8
        finally:
            distributed.destroy_process_group()
    assert torch.equal(*weights)


def test_a_scheduler_built_on_a_wrapper_of_the_optimizer_is_a_schedule() -> None:
    class Wrapper(torch.optim.Optimizer):
        """Like Accelerate's: an `Optimizer` that never calls `Optimizer.__init__`."""

        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer
            self.defaults = optimizer.defaults

        @property
        def param_groups(self) -> Any:
            return self.optimizer.param_groups

        @param_groups.setter
        def param_groups(self, groups: Any) -> None:
            self.optimizer.param_groups = groups

        def step(self, closure: Any = None) -> Any:
            return self.optimizer.step(closure)

    module = model()
    inner = Recorder(module.parameters())
    wrapper = Wrapper(inner)
    control = AdaptiveLR(wrapper, Script((0.5,)), schedule=lr_scheduler.LambdaLR(wrapper, lambda step: 0.5**step))
    for _ in range(3):
        backward(module)
        wrapper.step()
        control.step(1.0)
    assert inner.used == [(0.5, 0), (0.25, 0), (0.125, 0)]


# ---------------------------------------------------------------- memory


def reachable_tensors(*roots: Any) -> Iterator[torch.Tensor]:
    passed = (type, types.ModuleType, types.FunctionType, weakref.ref)
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, passed):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            yield thing
        todo += gc.get_referents(thing)


def test_nothing_of_a_step_is_kept_alive_after_it() -> None:
    module = model()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    watch = Watch(tuple(sorted(MEASURED_STATISTICS)))
    control = AdaptiveLR(optimizer, (watch, Reflex(damp=0.5, damp_at=(2,), skip_at=(3,))))
    gc.disable()  # at once, not when the collector comes by
    try:
        for _ in range(6):
            backward(module)
            gradients = [weakref.ref(p.grad) for p in module.parameters()]
            optimizer.step()
            control.step(1.0)
            optimizer.zero_grad()
            assert [gradient() for gradient in gradients] == [None, None]
    finally:
        gc.enable()
    assert not list(reachable_tensors(control))


# ---------------------------------------------------------------- checkpoints and traces

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 3]),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda _: 0.9),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=20),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, step_size_up=5, scale_fn=lambda _: 0.5),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 10)], milestones=[3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)], o
    ),
    "SWALR": lambda o: SWALR(o, 0.05, anneal_epochs=5),
}


@pytest.mark.parametrize("kind", ["number", "tensor"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_given_as_schedule_goes_on_from_a_file_that_torch_load_accepts(name: str, kind: str) -> None:
    def start() -> tuple[nn.Module, Recorder, AdaptiveLR]:
        module = model()
        lr = torch.tensor(1.0) if kind == "tensor" else 1.0
        optimizer = Recorder(module.parameters(), lr=lr, momentum=0.9)
        laws = Script((0.5, 0.25, 1.0, 0.3), (1.0, 0.5))
        return module, optimizer, AdaptiveLR(optimizer, laws, schedule=SCHEDULERS[name](optimizer))

    def train(stop: int) -> tuple[list[tuple[float, float]], torch.Tensor]:
        module, optimizer, control = start()
        used: list[tuple[float, float]] = []
        for step in range(9):
            if step == stop:
                parts = {"module": module.state_dict(), "optimizer": optimizer.state_dict()}
                state = through_a_file({**parts, "control": control.state_dict()})
                used += optimizer.used
                module, optimizer, control = start()
                module.load_state_dict(state["module"])
                optimizer.load_state_dict(state["optimizer"])
                control.load_state_dict(state["control"])
            backward(module)
            optimizer.step()
            control.step(1.0)
        return used + optimizer.used, module.weight.detach()

    straight, resumed = train(-1), train(4)
    assert resumed[0] == straight[0]
    assert torch.equal(resumed[1], straight[1])


@pytest.mark.parametrize("place", ["after backward", "after the update"])
def test_a_checkpoint_may_be_taken_in_the_middle_of_a_step(place: str) -> None:
    def train(place: str) -> tuple[Any, ...]:
        module = model()
        optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
        control = AdaptiveLR(optimizer, (GradientSpike(), Script((0.5, 0.7, 0.9))))

        def rebuild() -> None:
            nonlocal module, optimizer, control
            gradients = [p.grad for p in module.parameters()]
            state = through_a_file([module.state_dict(), optimizer.state_dict(), control.state_dict()])
            module = model()
            optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
            control = AdaptiveLR(optimizer, (GradientSpike(), Script((0.5, 0.7, 0.9))))
            for part, saved in zip((module, optimizer, control), state, strict=True):
                part.load_state_dict(saved)
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter.grad = gradient

        for step in range(30):
            backward(module, scale=1e5 if step in (20, 22, 23) else 1.0)
            if place == "after backward":
                rebuild()
            optimizer.step()
            if place == "after the update":
                rebuild()
            control.step(1.0)
        return module.weight.detach(), control.get_last_lr(), control.factor, repr(control.decisions)

    straight, rebuilt = train("nowhere"), train(place)
    assert torch.equal(rebuilt[0], straight[0])
    assert rebuilt[1:] == straight[1:]


def test_a_summary_writer_shows_an_overflow_as_no_update_and_the_trace_replays(tmp_path: Path) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    module = model()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with tensorboard.SummaryWriter(tmp_path) as writer:
        control = AdaptiveLR(optimizer, (GradientSpike(), LossVariance()), trace=writer)
        for step in range(40):
            optimizer.zero_grad()
            loss = module(torch.randn(4, 3)).square().mean()
            scaler.scale(loss).backward()
            if step in (3, 20):
                module.weight.grad[0] = math.inf
            elif step in (30, 32, 33):
                module.weight.grad *= 1e6
            scaler.step(optimizer)
            scaler.update()
            control.step(loss)
        control.detach()
    record = read_trace(tmp_path)
    assert [update.step for update in record.updates] == list(range(38))
    assert sum(not row.updated for row in record.rows) == 2
    assert len(record.decisions) >= 3
    assert repr(record.decisions) == repr(tuple(control.decisions)) == repr(replay(record))


def test_a_trace_of_a_run_that_went_back_to_a_checkpoint_replays_to_its_decisions(tmp_path: Path) -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer, AdaptiveLR]:
        module = model()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
        return module, optimizer, AdaptiveLR(optimizer, (GradientSpike(), LossVariance()), trace=tmp_path)

    def train(run: Any, first: int, last: int) -> Any:
        module, optimizer, control = run
        for step in range(first, last):
            backward(module, scale=1e6 if step > 20 and step % 5 == 0 else 1.0)
            optimizer.step()
            control.step(1.0 + step)
            if step == 35:
                return through_a_file([module.state_dict(), optimizer.state_dict(), control.state_dict()])
        return None

    first = start()
    state = train(first, 0, 60)
    train(first, 36, 50)  # lost
    second = start()
    for part, saved in zip(second, state, strict=True):
        part.load_state_dict(saved)
    train(second, 36, 60)
    second[2].detach()
    record = read_trace(tmp_path)
    assert [update.step for update in record.updates] == list(range(60))
    assert len(record.decisions) > 5
    assert repr(record.decisions) == repr(tuple(second[2].decisions)) == repr(replay(record))


# ---------------------------------------------------------------- refusals


def test_a_law_that_fails_at_the_start_leaves_the_optimizer_as_it_was() -> None:
    class Broken(Script):
        def update(self, state: Any, statistics: Any) -> tuple[Any, Adjustment]:
            raise RuntimeError("broken")

    optimizer = torch.optim.SGD(model().parameters(), lr=1.0)
    before = dict(optimizer.param_groups[0])
    with pytest.raises(RuntimeError, match="broken"):
        AdaptiveLR(optimizer, Broken(), schedule=lambda _: 0.5)
    assert optimizer.param_groups[0] == before
    AdaptiveLR(optimizer, ())  # and free for another


def test_a_state_of_another_version_is_refused_as_such_whatever_its_keys() -> None:
    control = AdaptiveLR(torch.optim.SGD(model().parameters(), lr=1.0), ())
    with pytest.raises(ValueError, match="must be of version 1, got version 2"):
        control.load_state_dict({"version": 2, "everything": "else"})


def test_a_state_of_more_groups_than_the_optimizer_has_is_refused() -> None:
    module = model()
    optimizer = torch.optim.SGD([{"params": [module.weight]}, {"params": [module.bias]}], lr=1.0)
    control = AdaptiveLR(optimizer, GradientSpike())
    backward(module)
    optimizer.step()
    control.step(1.0)
    smaller = torch.optim.SGD(model().parameters(), lr=1.0)
    other = AdaptiveLR(smaller, GradientSpike())
    before = other.state_dict()
    with pytest.raises(ValueError, match="it has 2 parameter groups, the optimizer has 1"):
        other.load_state_dict(control.state_dict())
    assert other.state_dict() == before


def test_a_state_with_a_tuple_that_the_first_state_lacks_is_refused_rather_than_loaded_as_a_dict() -> None:
    class Inner(NamedTuple):
        value: float = 0.0

    class State(NamedTuple):
        inner: Inner | None = None

    with pytest.raises(ValueError, match="from `init` on"):
        from_plain(State(), to_plain(State(Inner(1.0))))
    assert from_plain(State(Inner()), to_plain(State(Inner(1.0)))) == State(Inner(1.0))


@pytest.mark.parametrize("loss", [np.array([1.0, 2.0]), 10**400], ids=["array", "integer"])
def test_a_loss_that_is_no_number_is_refused_with_its_name(loss: Any) -> None:
    optimizer = torch.optim.SGD(model().parameters(), lr=1.0)
    control = AdaptiveLR(optimizer, ())
    with pytest.raises(TypeError, match="loss must be a number or a tensor of one element, got"):
        control.step(loss)
