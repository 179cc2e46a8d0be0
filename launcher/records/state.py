"""Where a run stands: one state, folded from its events by one function.

The command line, the record and every later face use this fold, so that they can never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any

from ..spec.frozen import frozen
from ..spec.process_key import ProcessKey, ProcessKind
from . import events as ev
from .reasons import StopReason

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


@frozen
class ProcessState:
    """One process as last heard of; ``code`` is None while it runs. ``primary`` is how many
    primary processes the run has, where it is one of them; ``well`` whether it ended
    successfully, at ``ended``."""

    host: str
    key: str
    rank: int | None
    pid: int | None = None
    code: int | None = None
    stopped: bool = False
    primary: int = 0
    primaries: int = 0
    limits: str = ""
    well: bool = False
    ended: float = 0.0


@frozen
class Loss:
    """A host that the run cannot go on without; ``since`` is when it was last heard of."""

    reason: str
    since: float


@frozen
class Departure:
    """A lost host that has left the run; ``by`` took its place, "" when nobody did."""

    reason: str
    by: str = ""


@frozen
class Expiry:
    """A host that stopped the run by itself at ``time``, after ``silent`` seconds."""

    time: float
    silent: float


@frozen
class Stop:
    """The first time in an attempt that processes were asked to stop; ``host`` is where the reason
    arose, if it did on one host."""

    time: float
    why: StopReason
    host: str | None = None
    detail: str = ""


@frozen
class RunState:
    """All that follows from the events so far."""

    status: str = "preparing"
    ended_for: str = ""  # the reason of a run that is over
    stage: str = ""
    attempt: int = 0
    all_started: bool = False
    processes: Mapping[tuple[str, str], ProcessState] = field(default_factory=dict)
    failure: ev.Failure | None = None
    fallen: ev.Failure | None = None  # the first that nothing could go on after
    tolerated: tuple[ev.Failure, ...] = ()  # those that torchrun could go on after
    reformed: float = 0.0  # when the last rank was started
    stop: Stop | None = None
    ended_hosts: frozenset[str] = frozenset()
    gpus_used: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    silent: Mapping[str, float] = field(default_factory=dict)
    lost: Mapping[str, Loss] = field(default_factory=dict)
    departed: Mapping[str, Departure] = field(default_factory=dict)
    expired: Mapping[str, Expiry] = field(default_factory=dict)
    stalled: Mapping[str, ev.StallBegan] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Why the run is over; while it is stopping its first failure, or else the first wish."""
        if self.status != "stopping":
            return self.ended_for
        if self.failure:
            return str(self.failure.reason)
        return self.stop.why if self.stop else ""

    @property
    def primary_ended(self) -> float | None:
        """When the last primary process exited well; None before, and where there is none."""
        primaries = [p for p in self.processes.values() if p.primary]
        if not primaries or sum(p.well for p in primaries) < primaries[0].primary:
            return None
        return max(p.ended for p in primaries)

    def counts_from(self, failure: ev.Failure) -> float:
        """When a failure counts: where a primary process may be exiting, a moment later."""
        process = self.processes.get((failure.host, failure.key))
        waits = process is not None and process.primaries and not process.primary
        return failure.time + (PRIMARY_PATIENCE if waits else 0.0)

    def alive(self, host: str) -> int:
        """Processes of a host that have not ended."""
        return sum(1 for p in self.processes.values() if p.host == host and p.code is None)

    def all_succeeded(self, hosts: int) -> bool:
        """Whether so many hosts have started processes, and all of them have ended well."""
        processes = self.processes.values()
        started = {p.host for p in processes if not is_setup(p.key)}
        everybody = len(started) == hosts > 0 and all(p.well for p in processes)
        return everybody or self.primary_ended is not None


def fold(events: Iterable[ev.Event], state: RunState | None = None) -> RunState:
    """The state after ``events``, from the beginning or from a state before."""
    state = state or RunState()
    for event in events:
        state = step(state, event)
    return state


def step(state: RunState, event: ev.Event) -> RunState:
    """The state after one event. What has ended stays as it is.

    What hosts tell of an attempt that is over changes nothing, and the first word of a new one begins
    it. So the order in which hosts are heard does not matter, nor whether a launcher has told of the
    restart: their journals alone primary to the same state.
    """
    if state.status in ENDED and isinstance(event, ev.RunRestarted | ev.ProcessExited):
        return state
    attempt = getattr(event, "attempt", None)
    if isinstance(event, _OF_AN_ATTEMPT) and attempt is not None and state.status not in ENDED:
        if attempt < state.attempt:
            return state
        state = _anew(state, attempt) if attempt > state.attempt else state
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
            return _stopping(state, event)
        case ev.RunRestarted():
            return replace(_anew(state, event.attempt), all_started=False, lost={})
        case ev.NodeReplaced():
            return _departed(state, event.host, Departure(event.reason, event.by))
        case ev.NodesReduced():
            return _departed(state, event.host, Departure(event.reason))
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
        case ev.OrphanTimeoutExpired():
            expiry = Expiry(event.time, event.silent)
            return replace(state, expired={**state.expired, event.host: expiry})
        case ev.RunEnded():
            over = _to(state, event.status)
            return state if over is state else replace(over, ended_for=event.reason)
        case _:
            return state


def log_hosts(events: Iterable[ev.Event]) -> dict[str, str]:
    """Which host each log is of, by its name without the stream (``attempt-0/rank-3``): another
    attempt may have another host at the same place."""
    started = (event for event in events if isinstance(event, ev.ProcessStarted))
    return {f"attempt-{event.attempt}/{event.key}": event.host for event in started}


#: What hosts tell of one attempt.
_OF_AN_ATTEMPT = (
    ev.ProcessStarted,
    ev.ProcessExited,
    ev.StopRequested,
    ev.HostEnded,
    ev.StallBegan,
    ev.StallEnded,
)


def _anew(state: RunState, attempt: int) -> RunState:
    return replace(
        _to(state, "preparing"),
        attempt=attempt,
        processes={},
        failure=None,
        fallen=None,
        tolerated=(),
        reformed=0.0,
        stop=None,
        ended_hosts=frozenset(),
        stalled={},
    )


def _stopping(state: RunState, event: ev.StopRequested) -> RunState:
    host = event.origin or (None if event.asked else event.host)
    stop = Stop(event.time, event.why, host, event.detail)
    if state.stop is None or _order_of_stops(stop) < _order_of_stops(state.stop):
        state = replace(state, stop=stop)
    if event.host is None or event.asked:
        state = _to(state, "stopping")
    if event.why is StopReason.TOO_FEW_HOSTS and state.fallen is None and state.tolerated:
        state = _blamed(replace(state, fallen=max(state.tolerated, key=_order)))
    return state


def _order_of_stops(stop: Stop) -> tuple[bool, float]:
    """The user's own wish first: a host that hears of it from another may have a clock behind."""
    return stop.why is not StopReason.BY_USER, stop.time


def _without(hosts: Mapping[str, Any], host: str) -> dict[str, Any]:
    return {name: value for name, value in hosts.items() if name != host}


def _departed(state: RunState, host: str, departure: Departure) -> RunState:
    silent = _without(state.silent, host)
    return replace(state, silent=silent, departed={**state.departed, host: departure})


def _to(state: RunState, status: str) -> RunState:
    """The transition, where the table allows it; a late event changes nothing."""
    if status not in TRANSITIONS[state.status]:
        return state
    return replace(state, status=status)


def _started(state: RunState, event: ev.ProcessStarted) -> RunState:
    started = ProcessState(
        event.host, event.key, event.rank, event.pid,
        primary=event.primary, primaries=event.primaries, limits=event.limits,
    )  # fmt: skip
    state = replace(state, processes={**state.processes, (event.host, event.key): started})
    if event.rank is not None:
        state = _blamed(replace(state, reformed=max(state.reformed, event.time)))
    return _to(state, "running") if not is_setup(event.key) else state


def _exited(state: RunState, event: ev.ProcessExited) -> RunState:
    place = (event.host, event.key)
    before = state.processes.get(place, ProcessState(event.host, event.key, event.rank))
    after = replace(
        before, code=event.code, stopped=event.stopped, well=event.is_well, ended=event.time
    )
    state = replace(state, processes={**state.processes, place: after})
    if not event.is_well and not event.stopped:
        failure = ev.Failure(
            event.host, event.key, event.rank, event.code, event.oom, event.time, event.error,
            event.action, event.limit,
        )  # fmt: skip
        if event.tolerated:
            return _blamed(replace(state, tolerated=(*state.tolerated, failure)))
        fallen = min((f for f in (state.fallen, failure) if f), key=_order)
        state = _blamed(replace(state, fallen=fallen))
    return _without_consequence(state)


def _blamed(state: RunState) -> RunState:
    """torchrun's own exit says little: the first rank that failed since the group was formed is why."""
    if state.fallen is None:
        return state
    known = [f for f in state.tolerated if state.reformed <= f.time and f.rank is not None]
    return replace(state, failure=min(known, key=_order, default=state.fallen))


def _order(failure: ev.Failure) -> tuple[float, bool, str, str]:
    """By time; of two at the same moment a rank, and always the same one, is the first."""
    return failure.time, failure.rank is None, failure.host, failure.key


def _without_consequence(state: RunState) -> RunState:
    """Who fails when the primary processes have exited well had nobody left to talk to: no failure."""
    over, failure = state.primary_ended, state.failure
    if over is None or failure is None or over > state.counts_from(failure) + SKEW:
        return state
    return replace(state, failure=None, fallen=None)


#: Seconds that a primary process which is just exiting has, when another one fails because of
#: that: as launcher.agent.base.protocol says.
PRIMARY_PATIENCE = 1.0


#: Seconds by which the corrected clocks of two hosts may be apart: half a round trip, and some.
SKEW = 0.25


def is_setup(key: str) -> bool:
    """Whether a process runs a job's ``setup``."""
    return ProcessKey.kind_of(key) is ProcessKind.SETUP
