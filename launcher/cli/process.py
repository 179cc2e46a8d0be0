"""What the command line changes about its own process. The library leaves its host program alone."""

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
    """Set up signals, garbage collection, warnings and quick imports, before anything else."""
    terminal.guard()
    sys.unraisablehook = _unraisable
    warnings.showwarning = _show_warning
    # Another launcher may ask for outputs by it before anybody here listens.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # What imports make is not garbage: 45,000 objects of a run, and a tenth of a second to find out.
    gc.set_threshold(100_000)
    sys.meta_path.insert(0, _QuickAsyncssh())


def finish() -> None:
    """Spare the garbage collector a last look at everything."""
    gc.freeze()


def _unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """Python forgets a Ctrl-C that falls into a callback, such as the one at the end of every import,
    of which there are hundreds before a run begins: it comes again."""
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
    """Show a warning of launcher's as its errors are shown, without the line of code that warns.

    A FutureWarning is a note: an option or a key has another name now.
    """
    if issubclass(category, FutureWarning):
        click.secho("note: ", fg="yellow", err=True, nl=False)
    elif category.__module__.startswith("launcher."):
        click.secho("warning: ", fg="yellow", bold=True, err=True, nl=False)
    else:
        return _SHOW_WARNING(message, category, filename, lineno, file, line)
    return click.echo(str(message), err=True)


class _QuickAsyncssh:
    """Imports asyncssh while ctypes finds no library.

    It searches for two, nettle (UMAC) and liboqs (sntrup761), by ldconfig and a linker, five times: 35
    ms at every start. Any OpenSSH of these ten years offers what remains.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return asyncssh's own spec, with a loader that does so; None for any other module."""
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
