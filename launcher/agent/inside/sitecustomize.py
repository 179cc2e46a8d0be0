"""Runs inside every Python of a run with ``--stall-timeout``, so that it can be asked for its stacks,
and inside the one that imports modules for a run with ``--preload``.

Then it runs the ``sitecustomize`` that the ``site`` module would have found without this one.
"""

from __future__ import annotations

import os
import sys

#: Set for a Python that preloads: see preload.py.
PRELOAD = "LAUNCHER_PRELOAD"


def listen() -> None:
    """Have a signal that hardly any program uses write the stacks of all threads into a named memfd.

    ``faulthandler`` does it in C, whatever Python waits for. The descriptor is a high one, for
    programs that expect the next descriptor to be 3.
    """
    import faulthandler
    import fcntl
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

    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if os.path.abspath(place) != here]
    spec = importlib.machinery.PathFinder.find_spec(__name__)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[__name__] = module
        spec.loader.exec_module(module)


def preload(asked: str) -> None:
    """Import modules and fork ranks, until the run is over. Return in a rank: what follows is the start
    of its script, with nothing of ours on its stack."""
    returns = False
    try:
        import importlib.util

        spec = importlib.util.spec_from_file_location("launcher_preload", FILE)
        assert spec is not None
        assert spec.loader is not None
        helper = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(helper)
        returns = helper.serve(asked)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        if not returns:
            os._exit(1)  # never run the script here


FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "preload.py")
asked = os.environ.pop(PRELOAD, None)
if asked == "try":  # whether a Python gets this far at all
    os._exit(0)
if asked is None or asked.startswith("stacks "):
    try:
        listen()
    except Exception:  # an old Python or kernel: the kernel's view of the threads must be enough
        pass
if asked is not None and not asked.startswith("stacks "):  # else ranks have this folder there, too
    _, more, behind = os.environ["PYTHONPATH"].partition(os.pathsep)
    if more:
        os.environ["PYTHONPATH"] = behind
    else:
        del os.environ["PYTHONPATH"]
if __name__ == "sitecustomize":
    try:
        run_next()
    except Exception:  # as the site module does, which would start the script next
        if asked is None:
            raise
        sys.excepthook(*sys.exc_info())
    if asked is not None:
        preload(asked.partition(" ")[2])
