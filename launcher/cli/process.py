"""Process-wide settings of the command line. The library changes none in programs that use it."""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import resource
import signal
import sys
import time
import warnings
from typing import TextIO

import click

from ..spec import startup
from . import output, terminal

#: Enough for more hosts than a run has.
DESCRIPTORS = 65_536
_SHOW_WARNING = warnings.showwarning


def prepare() -> None:
    """Set up output, signals, garbage collection, warnings and fast imports."""
    output.reopen()
    output.outlive_readers()
    terminal.guard()
    _raise_descriptors()
    sys.unraisablehook = _unraisable
    warnings.showwarning = _show_warning
    # `pull` of an older launcher may send it before the run's handler is set.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    startup.quicken()


def finish() -> None:
    """Skip the last garbage collection."""
    gc.freeze()


def _raise_descriptors() -> None:
    """Use as many descriptors as this user may: a connection takes some, and there may be 1,000."""
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


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
