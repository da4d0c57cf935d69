"""Control among the other things a training script does: several optimizers, threads, wrappers, averaging."""

from __future__ import annotations

import copy
import gc
import threading
import types
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

from adaptive_lr import AdaptiveLR
from adaptive_lr.controllers import GradientSpike, LossVariance
from adaptive_lr.statistics import MEASURED_STATISTICS
from laws import Reflex, Script, Watch
from scripts import Recorder, backward, model

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
                assert control.state_dict()["rows"]["updates"] == 8
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
