"""The scripts in ``docs/`` that write pages, as modules."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from support import ROOT


def load(name: str) -> ModuleType:
    """Return ``docs/NAME.py``, executed."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
