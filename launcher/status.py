"""Where a run stands: one state, folded from its events by one function.

Not responsible for the events themselves. The command line, the record and every later face use
this fold, so that they can never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import events as ev

#: Which status may follow which. An ended run stays ended.
TRANSITIONS: Mapping[str, frozenset[str]] = {
    "preparing": frozenset({"running", "stopping", "failed", "stopped", "lost"}),
    "running": frozenset({"preparing", "stopping", "succeeded", "failed", "stopped", "lost"}),
    "stopping": frozenset({"preparing", "failed", "stopped", "lost", "succeeded"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "stopped": frozenset(),
    "lost": frozenset(),
}
ENDED = frozenset(name for name, following in TRANSITIONS.items() if not following)


@dataclass(frozen=True)
class ProcessState:
    """One process as last heard of; ``code`` is None while it runs. ``lead`` is how many leads the
    run has, where it is one; ``well`` whether it ended as it should, at ``ended``."""

    host: str
    key: str
    rank: int | None
    pid: int | None = None
    code: int | None = None
    stopped: bool = False
    lead: int = 0
    leads: int = 0
    limits: str = ""
    well: bool = False
    ended: float = 0.0


@dataclass(frozen=True)
class Loss:
    """A host that the run cannot go on without; ``since`` is when it was last heard of."""

    reason: str
    since: float


@dataclass(frozen=True)
class Expiry:
    """A host that stopped the run by itself at ``time``, after ``silent`` seconds."""

    time: float
    silent: float


@dataclass(frozen=True)
class RunState:
    """All that follows from the events so far."""

    status: str = "preparing"
    reason: str = ""
    stage: str = ""
    attempt: int = 0
    all_started: bool = False
    processes: Mapping[tuple[str, str], ProcessState] = field(default_factory=dict)
    failure: ev.Failure | None = None
    ended_hosts: frozenset[str] = frozenset()
    gpus_used: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    silent: Mapping[str, float] = field(default_factory=dict)
    lost: Mapping[str, Loss] = field(default_factory=dict)
    expired: Mapping[str, Expiry] = field(default_factory=dict)
    stalled: Mapping[str, ev.StallBegan] = field(default_factory=dict)

    @property
    def lead_ended(self) -> float | None:
        """When the last of the leads ended well; None before, and where nobody leads."""
        leads = [p for p in self.processes.values() if p.lead]
        if not leads or sum(p.well for p in leads) < leads[0].lead:
            return None
        return max(p.ended for p in leads)

    def counts_from(self, failure: ev.Failure) -> float:
        """When a failure counts: where a lead may be ending, whose end it follows, a moment later."""
        process = self.processes.get((failure.host, failure.key))
        waits = process is not None and process.leads and not process.lead
        return failure.time + (LEAD_PATIENCE if waits else 0.0)

    def alive(self, host: str) -> int:
        """Processes of a host that have not ended."""
        return sum(1 for p in self.processes.values() if p.host == host and p.code is None)


def fold(events: Iterable[ev.Event], state: RunState | None = None) -> RunState:
    """The state after ``events``, from the beginning or from a state before."""
    state = state or RunState()
    for event in events:
        state = step(state, event)
    return state


def step(state: RunState, event: ev.Event) -> RunState:
    """The state after one event. What has ended stays as it is."""
    if state.status in ENDED and isinstance(
        event, ev.PortReplaced | ev.RunRestarted | ev.ProcessExited
    ):
        return state
    match event:
        case ev.StageStarted():
            return replace(state, stage=event.stage)
        case ev.ProcessStarted():
            return _started(state, event)
        case ev.AllStarted():
            return replace(state, all_started=True)
        case ev.ProcessExited():
            return _exited(state, event)
        case ev.StopRequested():
            return _to(state, "stopping", event.why) if event.host is None else state
        case ev.PortReplaced() | ev.RunRestarted():
            return replace(
                _to(state, "preparing", ""),
                all_started=False,
                processes={},
                failure=None,
                ended_hosts=frozenset(),
                stalled={},
            )
        case ev.HostEnded():
            ended = state.ended_hosts | {event.host}
            return replace(state, ended_hosts=ended, stalled=_without(state.stalled, event.host))
        case ev.GpusUsed():
            return replace(state, gpus_used={**state.gpus_used, event.host: event.gpus})
        case ev.ConnectionDropped():
            return replace(state, silent={**state.silent, event.host: event.time})
        case ev.ConnectionResumed():
            return replace(state, silent=_without(state.silent, event.host))
        case ev.NodeLost():
            loss = Loss(event.reason, state.silent.get(event.host, event.time))
            return replace(state, lost={**state.lost, event.host: loss})
        case ev.StallBegan():
            return replace(state, stalled={**state.stalled, event.host: event})
        case ev.StallEnded():
            return replace(state, stalled=_without(state.stalled, event.host))
        case ev.LeaseExpired():
            expiry = Expiry(event.time, event.silent)
            return replace(state, expired={**state.expired, event.host: expiry})
        case ev.RunEnded():
            return _to(state, event.status, event.reason)
        case _:
            return state


def _without(hosts: Mapping[str, Any], host: str) -> dict[str, Any]:
    return {name: value for name, value in hosts.items() if name != host}


def _to(state: RunState, status: str, reason: str) -> RunState:
    """The transition, where the table allows it; a late event changes nothing."""
    if status not in TRANSITIONS[state.status]:
        return state
    return replace(state, status=status, reason=reason)


def _started(state: RunState, event: ev.ProcessStarted) -> RunState:
    started = ProcessState(
        event.host,
        event.key,
        event.rank,
        event.pid,
        lead=event.lead,
        leads=event.leads,
        limits=event.limits,
    )
    processes = {**state.processes, (event.host, event.key): started}
    state = replace(state, processes=processes, attempt=event.attempt)
    return _to(state, "running", "") if not event.key.startswith(SETUP) else state


def _exited(state: RunState, event: ev.ProcessExited) -> RunState:
    place = (event.host, event.key)
    before = state.processes.get(place, ProcessState(event.host, event.key, event.rank))
    after = replace(
        before, code=event.code, stopped=event.stopped, well=event.is_well, ended=event.time
    )
    state = replace(state, processes={**state.processes, place: after})
    if not event.is_well and not event.stopped:
        failure = ev.Failure(
            event.host, event.key, event.rank, event.code, event.oom, event.time, event.action
        )
        if state.failure is None or failure.time < state.failure.time:
            state = replace(state, failure=failure)
    return _without_consequence(state)


def _without_consequence(state: RunState) -> RunState:
    """Who fails when the lead has ended well had nobody left to talk to: that is no failure."""
    over, failure = state.lead_ended, state.failure
    if over is None or failure is None or over > state.counts_from(failure) + SKEW:
        return state
    return replace(state, failure=None)


#: Seconds that a lead which is just ending has, when another process fails because of that.
LEAD_PATIENCE = 1.0


#: Seconds by which the corrected clocks of two hosts may be apart: half a round trip, and some.
SKEW = 0.25

#: The keys of the processes that run a job's ``setup`` begin so; a node's rank follows.
SETUP = "setup-"
