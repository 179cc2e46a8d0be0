"""Reads the records of a host's journal: a host reports what happened there, within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...spec.frozen import frozen
from ...spec.typed_json import Mismatch, from_json
from .codec import decode
from .event import Event
from .files import ShareTroubled, StoredAlone, UrlsLeft
from .hosts import HostEnded, NobodyMet, OrphanTimeoutExpired, RecordPassedOver
from .processes import (
    GpusUsed,
    OrphansEnded,
    OrphansFound,
    ProcessExited,
    ProcessStarted,
    StacksTaken,
    StallBegan,
    StallEnded,
    StopRequested,
)
from .queue import BegunThere, HostsLetGo, TakenBack, WaitsAgain, WaitsOnHost, WaitsOnHosts
from .software import ImportedAnew, KeptWarm, Preloaded, StartedCold

#: What a supervisor writes about its own host. All other events are this machine's to record.
JOURNALED = (
    WaitsOnHost,
    WaitsOnHosts,
    BegunThere,
    HostsLetGo,
    TakenBack,
    WaitsAgain,
    ProcessStarted,
    ProcessExited,
    StopRequested,
    OrphansFound,
    OrphansEnded,
    GpusUsed,
    HostEnded,
    OrphanTimeoutExpired,
    StallBegan,
    StallEnded,
    StacksTaken,
    NobodyMet,
    UrlsLeft,
    StoredAlone,
    Preloaded,
    KeptWarm,
    ImportedAnew,
    StartedCold,
    ShareTroubled,
)
#: Latest moment that a record may name: the end of the year 9999.
LATEST = 253_402_300_799.0
#: Most GPUs, processes and ranks that one record names.
MOST = 1 << 16
#: Longest key of a process, reason and interface that a record names, in characters.
LONGEST = 4096


@frozen
class _Process:
    """One of the processes that OrphansFound names."""

    pid: int
    command: str = ""


@frozen
class _Standing:
    """One of the ranks that StallBegan names."""

    key: str
    rank: int | None
    pid: int
    silent: float
    cpu: float
    bytes: int
    last: str


def from_journal(
    host: str, record: Mapping[str, Any], clock_offset: float, now: float = 0.0
) -> Event | None:
    """Return the event of a record in a host's journal, with its time by this machine's clock.

    A record that no supervisor writes becomes RecordPassedOver at time ``now``: it must not enter our
    own records.
    """
    happened = record.get("at", record.get("time"))
    try:
        when = from_json(float, happened) - clock_offset
        event = decode({**record, "host": host, "time": when})
        _require_journaled(event)
        return event
    except Mismatch as error:
        problem = f"record {record.get('seq')} of its journal: {error}"[:400]
        seq = record.get("seq")
        known = seq if isinstance(seq, int) else -1
        return RecordPassedOver(now, host, problem, seq=known)


def _require_journaled(event: Event | None) -> None:
    """Raise Mismatch for an event that no supervisor writes."""
    if event is None:
        return
    if not isinstance(event, JOURNALED):
        raise Mismatch(f"a host may not report {type(event).__name__}")
    if not 0 <= event.time <= LATEST:
        raise Mismatch("not a time", "time")
    for name, value in vars(event).items():
        if isinstance(value, tuple) and len(value) > MOST:
            raise Mismatch("too many of them", name)
        if isinstance(value, str) and len(value) > LONGEST:
            raise Mismatch("too long", name)
        if name in _COUNTS and isinstance(value, int | float) and value < 0:
            raise Mismatch("is negative", name)
    if isinstance(event, OrphansFound):
        from_json(tuple[_Process, ...], event.processes)
    if isinstance(event, StallBegan):
        from_json(tuple[_Standing, ...], event.ranks)


#: Fields that count something.
_COUNTS = frozenset(
    ("attempt", "rank", "pid", "primary", "primaries", "limit", "processes", "left", "scanned",
     "unreadable", "silent", "seconds", "files", "bytes", "missing", "urls")
)  # fmt: skip
