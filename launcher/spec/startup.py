"""Start processes of our own quickly: the command line, and the follower of a detached run.

A program that uses the library decides about its own process.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def quicken() -> None:
    """Make this process's imports fast: call it before they happen."""
    # Imports make 45,000 objects and no garbage; looking through them takes a tenth of a second.
    gc.set_threshold(100_000)
    sys.meta_path.insert(0, _QuickAsyncssh())


class _Unused(ModuleType):
    """Stands for a module of which others import names that nobody uses here."""

    def __getattr__(self, name: str) -> type[Exception]:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


class _QuickAsyncssh:
    """Import asyncssh without its search for libraries, and without what launcher does not use.

    With ldconfig and a linker it searches five times for nettle (UMAC) and liboqs (sntrup761), which
    takes 35 ms at every start. Every OpenSSH of the last ten years offers other algorithms. X.509, which
    asyncssh does without where it is missing, takes 16 ms, and is for keys that no OpenSSH knows. SFTP
    and scp take 7 ms.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return asyncssh's own spec with a fast loader; None for any other module."""
        if name != "asyncssh":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_quickly(module: ModuleType) -> None:
            without: dict[str, Any] = {
                "asyncssh.crypto.x509": None,  # as the import system has what is missing
                "asyncssh.sftp": _Unused("asyncssh.sftp"),
                "asyncssh.scp": _Unused("asyncssh.scp"),
            }
            sys.modules.update(without)
            try:
                _without_libraries(load, module)
            except Exception:  # another asyncssh, which needs more of these
                for known in [one for one in sys.modules if one.startswith("asyncssh.")]:
                    del sys.modules[known]
                _without_libraries(load, module)
            finally:
                for known in without:
                    if sys.modules.get(known) is without[known]:
                        sys.modules.pop(known, None)

        vars(spec.loader)["exec_module"] = load_quickly
        return spec


def _without_libraries(load: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Load a module that finds no libraries meanwhile."""
    import ctypes.util

    search = ctypes.util.find_library
    ctypes.util.find_library = lambda name: None
    try:
        load(module)
    finally:
        ctypes.util.find_library = search
