"""Decide whether a failed run starts again, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ...records import events as ev
from ...records.reasons import EndReason, Reason, StopReason
from ...records.state import RunState, is_setup
from ...spec.model import Request

#: How often a role's exit code may restart everything, unless the user allows more.
RESTARTS = 3

#: How often another program may take a run's ports before that is an error.
PORT_TRIES = 4

#: How often others may be quicker with the GPUs of a run: of all who want some, one is the first.
GPU_TRIES = 20

#: Messages of torch, of sockets, and of gRPC (TensorFlow, JAX): each names the port.
_PORT_IN_USE = re.compile(
    rb"EADDRINUSE|[Aa]ddress already in use|No address added out of total \d+ resolved"
)
#: The message of ps-lite (MXNet), whose scheduler listens on the master port alone.
_MEETING_IN_USE = re.compile(rb"my_node_\.port != -1 .*bind failed")


def was_starting_again(events: Sequence[ev.Event]) -> bool:
    """Return whether the previous launcher had stopped everything to start it again."""
    for event in reversed(events):
        if isinstance(event, ev.RunRestarted):
            return False
        if isinstance(event, ev.StopRequested) and event.host is None:
            return event.why is StopReason.RESTARTING
    return False


def may_replace_ports(events: Sequence[ev.Event]) -> bool:
    """Return whether a run may try other ports once more."""
    tries = sum(
        isinstance(e, ev.PortReplaced)
        or (isinstance(e, ev.RunRestarted) and e.reason == EndReason.PORT_TAKEN)
        for e in events
    )
    return tries < PORT_TRIES


def may_look_again(events: Sequence[ev.Event]) -> bool:
    """Return whether a run that was too late for GPUs may look for others once more."""
    return sum(isinstance(event, ev.GpuTaken) for event in events) < GPU_TRIES


def gives_way(state: RunState) -> bool:
    """Return whether hosts have asked the run to stop because its project had borrowed its GPUs, before
    anything failed. From then on it has nothing to lose with a host."""
    if state.failure is not None or state.lost or state.stop is None:
        return False
    return state.stop.why is StopReason.PREEMPTED


def was_preempted(state: RunState) -> bool:
    """Return whether a run that is over on all hosts gave way before it was done. Nobody knows of the
    last processes on a host whose supervisor died meanwhile."""
    if not gives_way(state) or state.primary_ended is not None:
        return False
    known = state.ended_hosts
    return any(
        p.stopped or (p.code is None and p.host not in known) for p in state.processes.values()
    )


def another_try(
    state: RunState,
    events: Sequence[ev.Event],
    last_words: bytes,
    ports: Mapping[str, Collection[int]],
    max_restarts: int,
) -> Reason | None:
    """Return why a run starts again: a port was taken, or the reason of its failure or of a host's
    loss; None when the run ends.

    A port that another program took while torch was still being imported is not the user's failure
    and does not count. ``ports`` were free on each host, the master's first; ``last_words`` is the
    last output of the process that failed first.
    """
    failure = state.failure
    if state.expired or (failure is None and not state.lost):
        return None
    in_use = failure and _is_in_use(ports, failure.host, last_words)
    if in_use and not state.lost and may_replace_ports(events):
        return Reason(EndReason.PORT_TAKEN)
    if failure is not None and failure.action == "fail":
        return None
    most = max_restarts
    if failure is not None and failure.action == "restart":
        most = max(max_restarts, RESTARTS)
    if _restarts(events) >= most:
        return None
    for loss in state.lost.values():
        return Reason.parse(loss.reason)
    return failure.reason if failure else None


def _restarts(events: Sequence[ev.Event]) -> int:
    """Return how often the run has started again, as far as that counts."""
    before = [e.reason for e in events if isinstance(e, ev.RunRestarted)]
    free = (EndReason.PORT_TAKEN, EndReason.GPU_BUSY, StopReason.PREEMPTED)
    not_counted = sum(before.count(reason) for reason in free)
    # Attempts of another machine have no restart event here. Spares that were tried leave gaps.
    ran = {e.attempt for e in events if isinstance(e, ev.ProcessStarted) and not is_setup(e.key)}
    not_counted += len(ran & {e.attempt for e in events if isinstance(e, ev.WaitsAgain)})
    return max(len(before), len(ran - {0})) - not_counted


def may_follow(request: Request, events: Sequence[ev.Event]) -> bool:
    """Return whether another attempt may follow the one that is about to start, so that it is worth
    memory to keep what that one has imported. A port that somebody else takes is too rare for that."""
    if request.preemptible:
        return True
    most = 0 if request.job.elastic else request.max_restarts
    if any("restart" in role.on_exit for role in request.job.roles):
        most = max(most, RESTARTS)
    return _restarts(events) < most


def preloaded(events: Sequence[ev.Event], attempt: int) -> set[str]:
    """Return the hosts that have imported modules ahead for this attempt."""
    known = (event for event in events if isinstance(event, ev.Preloaded))
    return {one.host for one in known if one.attempt == attempt and one.problem is None}


def _is_in_use(ports: Mapping[str, Collection[int]], host: str, last_words: bytes) -> bool:
    """Return whether the output of a process says that another program had one of its ports."""
    if next(iter(ports), None) == host and _MEETING_IN_USE.search(last_words):
        return True
    named = any(re.search(rb"(?<!\d)%d(?!\d)" % port, last_words) for port in ports.get(host, ()))
    return named and _PORT_IN_USE.search(last_words) is not None
