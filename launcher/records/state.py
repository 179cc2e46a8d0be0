"""The state of a run, folded from its events by one function.

The CLI, the records and the API all use this fold, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from functools import singledispatch
from typing import Any

from ..spec.frozen import frozen
from ..spec.process_key import ProcessKey, ProcessKind
from . import events as ev
from .reasons import EndReason, StopReason

#: Which status may follow which. A run that has ended stays so.
TRANSITIONS: Mapping[str, frozenset[str]] = {
    "preparing": frozenset({"waiting", "running", "stopping", "failed", "stopped", "lost"}),
    "waiting": frozenset({"preparing", "running", "stopping", "failed", "stopped", "lost"}),
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
    """One process as last reported; ``code`` is None while it runs.

    ``primaries`` is how many primary processes the run has; ``primary`` is the same number for one of
    them, else 0. ``well``: it exited successfully, at ``ended``.
    """

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

    @property
    def is_done(self) -> bool:
        """Whether it exited successfully by itself. One that is stopped, saves and exits with 0 has not
        done what it was started for."""
        return self.well and not self.stopped


@frozen
class Loss:
    """The loss of a host. ``since`` is when the host was last heard from."""

    reason: str
    since: float


@frozen
class Departure:
    """A lost host that has left the run; ``by`` replaced it, "" when no host did."""

    reason: str
    by: str = ""


@frozen
class Expiry:
    """A host stopped the run on its own at ``time``, after ``silent`` seconds without contact."""

    time: float
    silent: float


@frozen
class Stop:
    """The first request in an attempt to stop processes; ``host`` is where the reason arose, if it
    arose on one host."""

    time: float
    why: StopReason
    host: str | None = None
    detail: str = ""


@frozen
class RunState:
    """Everything that follows from the events so far."""

    status: str = "preparing"
    ended_for: str = ""  # the reason of a run that is over
    stage: str = ""
    on_hosts: bool = False  # they may have begun with it
    waits: ev.RunWaits | None = None  # what for, while it does
    waits_on: str = (
        ""  # the host that starts it by itself, or leads, until a launcher has seen that
    )
    waits_with: tuple[str, ...] = ()  # all hosts that start it together, if there are several
    wanted: int = 0  # how many of them it begins on; 0: on all
    most: int = 0  # and how many at most, if it is elastic
    succeeds: bool = False  # another one may lead, once the first is gone
    met: ev.WaitsOnHosts | None = None  # once these are in touch
    begun_there: ev.BegunThere | None = None  # once the host that starts it, or leads, has
    begun_on: Mapping[str, ev.BegunThere] = field(default_factory=dict)  # and every one that has
    attempt: int = 0
    returned: int = 0  # the last attempt with which hosts took the run back into the queue
    all_started: bool = False
    processes: Mapping[tuple[str, str], ProcessState] = field(default_factory=dict)
    failure: ev.Failure | None = None
    fallen: ev.Failure | None = None  # the first that ended the attempt
    tolerated: tuple[ev.Failure, ...] = ()  # those that torchrun could recover from
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
        """Why the run ended; while it is stopping, its first failure or else why it was asked to."""
        if self.status != "stopping":
            return self.ended_for
        if self.failure:
            return str(self.failure.reason)
        return self.stop.why if self.stop else ""

    @property
    def primary_ended(self) -> float | None:
        """When the last primary process was done; None before, and without primaries."""
        primaries = [p for p in self.processes.values() if p.primary]
        if not primaries or sum(p.is_done for p in primaries) < primaries[0].primary:
            return None
        return max(p.ended for p in primaries)

    @property
    def is_on_its_own(self) -> bool:
        """Whether the hosts carry on without a launcher: all processes of the attempt have started, or
        the run waits on hosts that start it by themselves."""
        waits = bool(self.waits_on) and (not self.waits_with or self.met is not None)
        return waits or (self.all_started and self.stage in ("run", "collect", "store"))

    @property
    def needs_its_launcher(self) -> bool:
        """Whether nothing of it was begun on any host, so that it is over if its launcher dies."""
        begun = self.on_hosts or self.all_started or self.attempt or self.processes or self.waits_on
        return self.status in ("preparing", "waiting") and not begun

    @property
    def left_to(self) -> tuple[str, ...]:
        """The hosts that start the run by themselves."""
        return self.waits_with or ((self.waits_on,) if self.waits_on else ())

    @property
    def chosen(self) -> tuple[str, ...]:
        """The hosts on which the run has begun, of those that were to start it together."""
        return next((event.hosts for event in self.begun_on.values() if event.hosts), ())

    def has_begun_on(self, host: str) -> bool:
        """Return whether a host has begun the run on itself: who has only chosen others waits on."""
        begun = self.begun_on.get(host)
        return begun is not None and (not begun.hosts or host in begun.hosts)

    @property
    def has_begun(self) -> bool:
        """Whether a process of the run itself, not only of its setup, was started in this attempt."""
        return any(not is_setup(process.key) for process in self.processes.values())

    def counted_on(self, host: str) -> list[ProcessState]:
        """Return the processes of a host that count for its user: its ranks, without what starts them;
        all, where it has no ranks that are known."""
        mine = [process for process in self.processes.values() if process.host == host]
        ranks = [one for one in mine if ProcessKey.kind_of(one.key) is ProcessKind.RANK]
        return ranks or mine

    def counts_from(self, failure: ev.Failure) -> float:
        """Return when a failure counts: a moment later where a primary process may be exiting."""
        process = self.processes.get((failure.host, failure.key))
        waits = process is not None and process.primaries and not process.primary
        return failure.time + (PRIMARY_PATIENCE if waits else 0.0)

    def alive(self, host: str) -> int:
        """Return how many processes of a host have not exited."""
        return sum(1 for p in self.processes.values() if p.host == host and p.code is None)

    def all_succeeded(self, hosts: int) -> bool:
        """Return whether so many hosts have started processes that are all done, or whether the primary
        processes are."""
        processes = self.processes.values()
        started = {p.host for p in processes if not is_setup(p.key)}
        everybody = len(started) == hosts > 0 and all(p.is_done for p in processes)
        return everybody or self.primary_ended is not None


def fold(events: Iterable[ev.Event], state: RunState | None = None) -> RunState:
    """Return the state after ``events``, from the start or from an earlier ``state``."""
    state = state or RunState()
    for event in events:
        state = step(state, event)
    return state


def step(state: RunState, event: ev.Event) -> RunState:
    """Return the state after one event. A run that has ended stays as it is.

    Events of older attempts are ignored, and the first event of a newer attempt starts it. So the
    order in which hosts report does not matter, nor whether a launcher has recorded the restart:
    the hosts' journals alone give the same state.
    """
    if state.status in ENDED and isinstance(
        event, ev.RunRestarted | ev.WaitsAgain | ev.ProcessExited
    ):
        return state
    attempt = getattr(event, "attempt", None)
    if isinstance(event, _OF_AN_ATTEMPT) and attempt is not None and state.status not in ENDED:
        if attempt < state.attempt:
            return state
        state = _begin_attempt(state, attempt) if attempt > state.attempt else state
    return _apply(event, state)


def log_hosts(events: Iterable[ev.Event]) -> dict[str, str]:
    """Return the host of each log, by its name without the stream (``attempt-0/rank-3``): another
    attempt may run the same rank on another host."""
    started = (event for event in events if isinstance(event, ev.ProcessStarted))
    return {f"attempt-{event.attempt}/{event.key}": event.host for event in started}


#: Events that hosts report about one attempt.
_OF_AN_ATTEMPT = (
    ev.ProcessStarted,
    ev.ProcessExited,
    ev.StopRequested,
    ev.HostEnded,
    ev.StallBegan,
    ev.StallEnded,
    ev.WaitsAgain,
)


def _begin_attempt(state: RunState, attempt: int) -> RunState:
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


def _to(state: RunState, status: str) -> RunState:
    """Return the state with this status, where the table allows it: a late event changes nothing."""
    if status not in TRANSITIONS[state.status]:
        return state
    return replace(state, status=status)


#: The stages in which hosts begin.
_ON_HOSTS = frozenset({"setup", "start", "run", "restart"})


def without_launcher(state: RunState) -> RunState:
    """Return the state of a run that nobody follows: one that needed its launcher is over."""
    if not state.needs_its_launcher:
        return state
    return step(state, ev.RunEnded(0.0, "failed", str(EndReason.LAUNCHER_DIED)))


# -- what each event changes


@singledispatch
def _apply(event: ev.Event, state: RunState) -> RunState:
    """Return the state after an event; one without a function below changes nothing."""
    return state


@_apply.register
def _stage_started(event: ev.StageStarted, state: RunState) -> RunState:
    return replace(state, stage=event.stage, on_hosts=state.on_hosts or event.stage in _ON_HOSTS)


@_apply.register
def _record_passed_over(event: ev.RecordPassedOver, state: RunState) -> RunState:
    return replace(state, on_hosts=True)  # nobody knows what it said


@_apply.register
def _run_waits(event: ev.RunWaits, state: RunState) -> RunState:
    return replace(_to(state, "waiting"), waits=event)


@_apply.register
def _turn_came(event: ev.TurnCame, state: RunState) -> RunState:
    return replace(_to(state, "preparing"), waits=None)


@_apply.register
def _waits_on_host(event: ev.WaitsOnHost, state: RunState) -> RunState:
    return state if state.all_started else replace(state, waits_on=event.host)


@_apply.register
def _left_to_hosts(event: ev.LeftToHosts, state: RunState) -> RunState:
    first, *_ = event.hosts
    return replace(_left_to(event, state), waits_on=first, met=None)


@_apply.register
def _waits_on_hosts(event: ev.WaitsOnHosts, state: RunState) -> RunState:
    if state.all_started:
        return state
    return replace(_left_to(event, state), waits_on=event.host, met=event)


@_apply.register
def _begun_there(event: ev.BegunThere, state: RunState) -> RunState:
    if state.all_started or event.attempt < state.returned:
        return state
    state = replace(state, begun_on={**state.begun_on, event.host: event})
    if event.host != state.waits_on and not event.hosts:
        return state
    return replace(_to(state, "preparing"), waits=None, begun_there=state.begun_there or event)


@_apply.register
def _waits_again(event: ev.WaitsAgain, state: RunState) -> RunState:
    if event.attempt <= state.returned:
        return state
    several = event.hosts if len(event.hosts) > 1 else ()
    state = _to(_to_wait(state), "waiting")
    return replace(state, returned=event.attempt, waits_on=event.hosts[0], waits_with=several)


@_apply.register
def _process_started(event: ev.ProcessStarted, state: RunState) -> RunState:
    started = ProcessState(
        host=event.host,
        key=event.key,
        rank=event.rank,
        pid=event.pid,
        primary=event.primary,
        primaries=event.primaries,
        limits=event.limits,
    )
    state = replace(state, processes={**state.processes, (event.host, event.key): started})
    if event.rank is not None:
        state = _blamed(replace(state, reformed=max(state.reformed, event.time)))
    return _to(state, "running") if not is_setup(event.key) else state


@_apply.register
def _all_started(event: ev.AllStarted, state: RunState) -> RunState:
    if event.attempt < state.returned:
        return state
    return replace(state, all_started=True, waits_on="", waits_with=())


@_apply.register
def _process_exited(event: ev.ProcessExited, state: RunState) -> RunState:
    place = (event.host, event.key)
    before = state.processes.get(place, ProcessState(event.host, event.key, event.rank))
    after = replace(
        before, code=event.code, stopped=event.stopped, well=event.is_well, ended=event.time
    )
    state = replace(state, processes={**state.processes, place: after})
    if not event.is_well and not event.stopped:
        failure = _failure_of(event)
        if event.tolerated:
            return _blamed(replace(state, tolerated=(*state.tolerated, failure)))
        fallen = min((f for f in (state.fallen, failure) if f), key=_order)
        state = _blamed(replace(state, fallen=fallen))
    return _without_consequence(state)


@_apply.register
def _stop_requested(event: ev.StopRequested, state: RunState) -> RunState:
    if _goes_on_without(event, state):
        return state
    host = event.origin or (None if event.asked else event.host)
    stop = Stop(event.time, event.why, host, event.detail)
    if state.stop is None or _order_of_stops(stop) < _order_of_stops(state.stop):
        state = replace(state, stop=stop)
    if event.host is None or event.asked:
        state = _to(state, "stopping")
    if event.why is StopReason.TOO_FEW_HOSTS and state.fallen is None and state.tolerated:
        state = _blamed(replace(state, fallen=max(state.tolerated, key=_order)))
    return state


@_apply.register
def _run_restarted(event: ev.RunRestarted, state: RunState) -> RunState:
    return replace(_to_wait(_begin_attempt(state, event.attempt)), lost={})


@_apply.register
def _node_replaced(event: ev.NodeReplaced, state: RunState) -> RunState:
    return _departed(state, event.host, Departure(event.reason, event.by))


@_apply.register
def _nodes_reduced(event: ev.NodesReduced, state: RunState) -> RunState:
    return _departed(state, event.host, Departure(event.reason))


@_apply.register
def _host_ended(event: ev.HostEnded, state: RunState) -> RunState:
    ended = state.ended_hosts | {event.host}
    return replace(state, ended_hosts=ended, stalled=_without(state.stalled, event.host))


@_apply.register
def _gpus_used(event: ev.GpusUsed, state: RunState) -> RunState:
    return replace(state, gpus_used={**state.gpus_used, event.host: event.gpus})


@_apply.register
def _connection_dropped(event: ev.ConnectionDropped, state: RunState) -> RunState:
    return replace(state, silent={**state.silent, event.host: event.time})


@_apply.register
def _connection_resumed(event: ev.ConnectionResumed, state: RunState) -> RunState:
    return replace(state, silent=_without(state.silent, event.host))


@_apply.register
def _node_lost(event: ev.NodeLost, state: RunState) -> RunState:
    loss = Loss(event.reason, state.silent.get(event.host, event.time))
    return replace(state, lost={**state.lost, event.host: loss})


@_apply.register
def _stall_began(event: ev.StallBegan, state: RunState) -> RunState:
    return replace(state, stalled={**state.stalled, event.host: event})


@_apply.register
def _stall_ended(event: ev.StallEnded, state: RunState) -> RunState:
    return replace(state, stalled=_without(state.stalled, event.host))


@_apply.register
def _orphan_timeout_expired(event: ev.OrphanTimeoutExpired, state: RunState) -> RunState:
    if _is_not_chosen(event.host, state):
        return state
    expiry = Expiry(event.time, event.silent)
    return replace(state, expired={**state.expired, event.host: expiry})


@_apply.register
def _run_ended(event: ev.RunEnded, state: RunState) -> RunState:
    over = _to(state, event.status)
    if over is state:
        return state
    return replace(over, ended_for=event.reason, waits=None, waits_on="", waits_with=())


# -- parts of those changes


def _left_to(event: ev.LeftToHosts | ev.WaitsOnHosts, state: RunState) -> RunState:
    return replace(
        state,
        waits_with=event.hosts,
        wanted=event.wanted,
        most=event.most,
        succeeds=event.succeeds,
    )


def _to_wait(state: RunState) -> RunState:
    """Return the state without what was known of the start of the attempt before."""
    return replace(
        state,
        all_started=False,
        waits_on="",
        waits_with=(),
        wanted=0,
        most=0,
        succeeds=False,
        met=None,
        begun_there=None,
        begun_on={},
    )


def _goes_on_without(event: ev.StopRequested, state: RunState) -> bool:
    """Return whether a run goes on that is over on a host which it does not need. Who has chosen the
    others ends it for all where it cannot tell them."""
    other = _is_not_chosen(event.host, state) and event.why is not StopReason.HOSTS_PARTED
    return other or event.why is StopReason.NOT_NEEDED


def _is_not_chosen(host: str | None, state: RunState) -> bool:
    """Return whether the run has begun on other hosts."""
    return bool(state.wanted and state.chosen) and host not in (None, *state.chosen)


def _order_of_stops(stop: Stop) -> tuple[bool, float]:
    """Sort the user's own request first: a host that relays it may have a clock that is behind."""
    return stop.why is not StopReason.BY_USER, stop.time


def _without(hosts: Mapping[str, Any], host: str) -> dict[str, Any]:
    return {name: value for name, value in hosts.items() if name != host}


def _departed(state: RunState, host: str, departure: Departure) -> RunState:
    silent = _without(state.silent, host)
    return replace(state, silent=silent, departed={**state.departed, host: departure})


def _failure_of(event: ev.ProcessExited) -> ev.Failure:
    return ev.Failure(
        host=event.host,
        key=event.key,
        rank=event.rank,
        code=event.code,
        oom=event.oom,
        time=event.time,
        error=event.error,
        action=event.action,
        limit=event.limit,
    )


def _blamed(state: RunState) -> RunState:
    """Blame the first rank that failed since the group was formed: torchrun's own exit says little."""
    if state.fallen is None:
        return state
    known = [f for f in state.tolerated if state.reformed <= f.time and f.rank is not None]
    return replace(state, failure=min(known, key=_order, default=state.fallen))


def _order(failure: ev.Failure) -> tuple[float, bool, str, str]:
    """Sort by time; at the same moment ranks come first, in a fixed order."""
    return failure.time, failure.rank is None, failure.host, failure.key


def _without_consequence(state: RunState) -> RunState:
    """Forget a failure after the primary processes exited successfully: it had nobody to talk to."""
    over, failure = state.primary_ended, state.failure
    if over is None or failure is None or over > state.counts_from(failure) + SKEW:
        return state
    return replace(state, failure=None, fallen=None)


#: Seconds that a failure waits for a primary process that may be exiting. The same number stands in
#: launcher.agent.base.protocol.
PRIMARY_PATIENCE = 1.0


#: Seconds by which the corrected clocks of two hosts may differ: half a round trip, and a margin.
SKEW = 0.25


def is_setup(key: str) -> bool:
    """Return whether a process runs a job's ``setup``."""
    return ProcessKey.kind_of(key) is ProcessKind.SETUP
