"""Runs inside every Python of a run with ``--stall-timeout``, so that it can be asked for its stacks.

Then it runs the ``sitecustomize`` that the ``site`` module would have found without this one.
"""

from __future__ import annotations

import sys


def listen() -> None:
    """Have a signal that hardly any program uses write the stacks of all threads into a named memfd.

    ``faulthandler`` does it in C, whatever Python waits for. The descriptor is a high one, for
    programs that expect the next descriptor to be 3.
    """
    import faulthandler
    import fcntl
    import os
    import resource
    import signal

    number = signal.SIGRTMAX - 7
    held: list[int] = []

    def register() -> None:
        while held:  # a fork inherits its parent's
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


def run_next() -> None:
    """Run the ``sitecustomize`` behind this one, if any; take this folder off ``sys.path``."""
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
except Exception:  # an old Python or kernel: the kernel's view of the threads must be enough
    pass
if __name__ == "sitecustomize":
    run_next()
