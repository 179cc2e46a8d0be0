"""Whether a run that has failed is started once more, and why. Pure.

Not responsible for starting it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import events as ev
from .status import RunState

#: How often a role's exit code may start everything again, where no larger number is asked for.
RESTARTS = 3

#: How often a master port may be taken by somebody else before that is an error.
PORT_TRIES = 4

_PORT_IN_USE = re.compile(rb"EADDRINUSE|[Aa]ddress already in use")


def another_try(
    state: RunState,
    events: Sequence[ev.Event],
    last_words: bytes,
    master: str,
    port: int | None,
    max_restarts: int,
) -> str | None:
    """Why a run starts again: ``port-taken``, the reason of its failure or of a host's loss, or None
    when it ends.

    A port that another program took while torch was still being imported is no failure of the
    user's: it does not count. ``last_words`` are those of the process that failed first.
    """
    failure = state.failure
    if state.expired or (failure is None and not state.lost):
        return None
    before = [e.reason for e in events if isinstance(e, ev.RunRestarted)]
    ports = before.count("port-taken") + sum(isinstance(e, ev.PortReplaced) for e in events)
    in_use = (
        port is not None and _PORT_IN_USE.search(last_words) and str(port).encode() in last_words
    )
    if failure and not state.lost and in_use and failure.host == master and ports < PORT_TRIES:
        return "port-taken"
    if failure is not None and failure.action == "fail":
        return None
    most = max_restarts
    if failure is not None and failure.action == "restart":
        most = max(max_restarts, RESTARTS)
    tries = max(len(before), state.attempt)  # another machine's are in no record here
    if tries - before.count("port-taken") >= most:
        return None
    return next((loss.reason for loss in state.lost.values()), failure.reason if failure else None)
