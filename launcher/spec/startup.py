"""Start processes of our own quickly: the command line, and the follower of a detached run.

A program that uses the library decides about its own process.
"""

from __future__ import annotations

import gc
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

#: What asyncssh can do without.
_X509 = "asyncssh.crypto.x509"


def quicken() -> None:
    """Make this process's imports fast: call it before they happen."""
    # Imports make 45,000 objects and no garbage; looking through them takes a tenth of a second.
    gc.set_threshold(100_000)
    sys.meta_path.insert(0, _QuickAsyncssh())


class _QuickAsyncssh:
    """Import asyncssh without its search for libraries, and without X.509.

    With ldconfig and a linker it searches five times for nettle (UMAC) and liboqs (sntrup761), which
    takes 35 ms at every start. Every OpenSSH of the last ten years offers other algorithms. X.509, which
    asyncssh does without where it is missing, takes 16 ms, and is for keys that no OpenSSH knows.
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
            import ctypes.util

            search = ctypes.util.find_library
            ctypes.util.find_library = lambda name: None
            missing: dict[str, Any] = {_X509: None}  # as the import system wants it
            sys.modules.update(missing)
            try:
                load(module)
            finally:
                ctypes.util.find_library = search
                del sys.modules[_X509]

        vars(spec.loader)["exec_module"] = load_quickly
        return spec
