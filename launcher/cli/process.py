"""Process-wide settings of the command line. The library changes none in programs that use it."""

from __future__ import annotations

import _thread
import gc
import os
import signal
import sys
import time
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, TextIO

import click

from . import terminal

_SHOW_WARNING = warnings.showwarning


def prepare() -> None:
    """Set up signals, garbage collection, warnings and fast imports."""
    terminal.guard()
    sys.unraisablehook = _unraisable
    warnings.showwarning = _show_warning
    # `pull` of an older launcher may send it before the run's handler is set.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Imports make 45,000 objects and no garbage; looking through them takes a tenth of a second.
    gc.set_threshold(100_000)
    sys.meta_path.insert(0, _QuickAsyncssh())


def finish() -> None:
    """Skip the last garbage collection."""
    gc.freeze()


def _unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """Repeat a Ctrl-C that Python dropped.

    Python ignores a KeyboardInterrupt raised in a callback, such as the one at the end of every
    import, and a start has hundreds of these.
    """
    if isinstance(ignored.exc_value, KeyboardInterrupt):
        _thread.start_new_thread(_interrupt, ())
    else:
        sys.__unraisablehook__(ignored)


def _interrupt() -> None:
    time.sleep(0.01)  # until the callback is over
    os.kill(os.getpid(), signal.SIGINT)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show launcher's warnings like its errors, without the line of code that warns.

    A FutureWarning says that an option or a key has a new name.
    """
    if issubclass(category, FutureWarning):
        click.secho("note: ", fg="yellow", err=True, nl=False)
    elif category.__module__.startswith("launcher."):
        click.secho("warning: ", fg="yellow", bold=True, err=True, nl=False)
    else:
        return _SHOW_WARNING(message, category, filename, lineno, file, line)
    return click.echo(str(message), err=True)


class _QuickAsyncssh:
    """Import asyncssh without its search for libraries.

    With ldconfig and a linker it searches five times for nettle (UMAC) and liboqs (sntrup761), which
    takes 35 ms at every start. Every OpenSSH of the last ten years offers other algorithms.
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
            try:
                load(module)
            finally:
                ctypes.util.find_library = search

        vars(spec.loader)["exec_module"] = load_quickly
        return spec
