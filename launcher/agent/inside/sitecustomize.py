"""Runs inside every Python of a run with ``--stall-timeout``: lets others ask it for its stacks.

What the ``site`` module would have found under this name comes next.
"""

from __future__ import annotations

import sys


def listen() -> None:
    """On a signal that hardly anybody uses, all threads' stacks go into memory with a name.

    ``faulthandler`` does it in C, whatever Python itself waits for. The descriptor is a high one: a
    program that counts from 3 upwards meets no gap.
    """
    import faulthandler
    import fcntl
    import os
    import resource
    import signal

    number = signal.SIGRTMAX - 7
    held: list[int] = []

    def register() -> None:
        while held:  # a fork has that of its parent
            os.close(held.pop())
        low = os.memfd_create("launcher-stacks")
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        least = min(900, most // 2) if most > 0 else 900  # -1: there is no limit
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, least)
        os.close(low)
        held.append(high)
        faulthandler.register(number, high)

    if signal.getsignal(number) == signal.SIG_DFL:
        register()
        os.register_at_fork(after_in_child=register)


def go_on() -> None:
    """Runs the ``sitecustomize`` behind this one, if there is one; this folder leaves ``sys.path``."""
    import importlib.machinery
    import importlib.util
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) != here]
    spec = importlib.machinery.PathFinder.find_spec(__name__)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[__name__] = module
        spec.loader.exec_module(module)


try:
    listen()
except Exception:  # an old Python, an old kernel: then the kernel's words have to do
    pass
if __name__ == "sitecustomize":
    go_on()
