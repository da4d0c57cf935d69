"""Every study can be started."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import experiments

MODULES = [module.name for module in pkgutil.iter_modules(experiments.__path__) if not module.ispkg]


@pytest.mark.parametrize("name", MODULES)
def test_it_can_be_imported(name: str) -> None:
    assert importlib.import_module(f"experiments.{name}").__doc__
