"""Which backend measures what."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from adaptive_lr.scores import NORM_LAW
from adaptive_lr_kernels import backends, measure
from adaptive_lr_kernels.backends import Backend, selected
from adaptive_lr_kernels.reflex import Past, ReflexSettings, Window, judge, scale_gradients, score_value

ONE = torch.ones(2, 3)


def test_triton_refuses_tensors_on_the_cpu() -> None:
    """But for its interpreter, which is slow and has to be asked for."""
    pytest.importorskip("triton")
    with pytest.raises(ValueError, match=r'backend "triton" must be given tensors on a GPU .* got tensors on cpu'):
        measure([ONE], backend="triton")


def test_auto_is_torch_on_the_cpu_and_imports_no_triton() -> None:
    code = (
        "import sys, torch; before = 'triton' in sys.modules; from adaptive_lr_kernels import measure; "
        "measure([torch.ones(3)]); print('triton' in sys.modules and not before)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "False"


def test_auto_is_triton_for_ordinary_tensors_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the reference for subclasses, and where Triton is missing or cannot compile for the GPU."""
    cuda, custom = torch.device("cuda", 0), torch.ones(2).as_subclass(type("Custom", (torch.Tensor,), {}))
    monkeypatch.setattr(backends, "has_triton", lambda device: True)
    assert selected("auto", cuda) == "triton"
    assert selected("auto", cuda, [ONE, None], [torch.nn.Parameter(ONE)]) == "triton"
    assert selected("auto", cuda, [ONE], [custom]) == "torch"
    assert selected("auto", torch.device("cpu"), [ONE]) == "torch"
    monkeypatch.setattr(backends, "has_triton", lambda device: False)
    assert selected("auto", cuda, [ONE]) == "torch"


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_what_is_asked_for_is_taken(backend: Backend) -> None:
    """Whether it can be is for the backend to say."""
    assert selected(backend, torch.device("cpu"), [ONE]) == backend


def test_an_unknown_backend_is_refused_by_all_that_take_one() -> None:
    window, number = Window.empty(4, "cpu"), torch.ones((), dtype=torch.float64)
    past, settings = Past.empty("cpu"), ReflexSettings(4.0, 6.0, None, NORM_LAW)
    for call in (
        lambda backend: measure([ONE], backend=backend),
        lambda backend: judge(past, number, settings, backend=backend),
        lambda backend: score_value(window, number, warmup=1, relative_floor=1e-3, backend=backend),
        lambda backend: scale_gradients([ONE], number, number.float(), backend=backend),
    ):
        with pytest.raises(ValueError, match='backend must be "auto", "triton" or "torch"; got \'numpy\''):
            call("numpy")
    assert past.read()[0] == len(window.read()) == 0


def test_the_reflex_is_torch_on_the_cpu_unless_triton_is_asked_for() -> None:
    pytest.importorskip("triton")
    window, number = Window.empty(4, "cpu"), torch.ones((), dtype=torch.float64)
    past, settings = Past.empty("cpu"), ReflexSettings(4.0, 6.0, None, NORM_LAW)
    gradient = torch.ones(3)
    for call in (
        lambda backend: judge(past, number, settings, backend=backend),
        lambda backend: score_value(window, number, warmup=1, relative_floor=1e-3, backend=backend),
        lambda backend: scale_gradients([gradient], number * 0.5, number.float() * 0.0, backend=backend),
    ):
        call("auto")
        with pytest.raises(ValueError, match='backend "triton" must be given tensors on a GPU'):
            call("triton")
    assert past.read()[0] == len(window.read()) == 1
    assert gradient.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("installed", "capability", "usable"), [(True, (8, 0), True), (True, (7, 5), False), (False, (9, 0), False)]
)
def test_triton_is_used_where_it_is_installed_and_compiles(
    installed: bool, capability: tuple[int, int], usable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert backends.has_triton.__wrapped__(torch.device("cuda", 0)) == usable
