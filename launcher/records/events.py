"""What happens in a run, as past-tense facts. Faces and records read nothing else.

Times are seconds since the epoch by the clock of the machine that launches; those of hosts are
corrected by their clock's offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from ..spec.errors import UnreadableRecord
from ..spec.frozen import frozen
from ..spec.typed_json import Mismatch, from_json
from . import compat, formats
from .failure import Failure as Failure
from .failure import signal_name as signal_name
from .reasons import StopReason


@frozen
class Event:
    """Base of all. ``seq`` is its number in the journal of its host, -1 for what happened here."""

    time: float
    seq: int = field(default=-1, kw_only=True)


@frozen
class StageStarted(Event):
    """The run went on to ``stage``: connect, sync, setup, start, run, restart, collect."""

    stage: str


@frozen
class HostConnected(Event):
    """A host answered and was measured."""

    host: str
    seconds: float
    python_version: str
    clock_offset: float
    strays: int = 0


@frozen
class OldRunEnded(Event):
    """An earlier run of ours had gone on there, unreachable for its launcher; it is ended now."""

    host: str
    run: str


@frozen
class HostFailed(Event):
    """A host cannot go on; ``code`` is that of the error."""

    host: str
    code: str
    message: str
    hint: str = ""


@frozen
class SyncProgressed(Event):
    """A copy is under way; for the screen, never stored."""

    host: str
    percent: int
    text: str = ""


@frozen
class CodeSynced(Event):
    """A host has the run's own copy of the code. ``copied`` is what travelled, in bytes."""

    host: str
    version: str
    files: int
    bytes: int
    copied: int
    seconds: float


@frozen
class AllStarted(Event):
    """Every host has started what the plan says: from here on it goes on without us."""

    attempt: int


@frozen
class HostsMet(Event):
    """Every host has connected to the master."""

    master_addr: str
    master_port: int
    interfaces: Mapping[str, str] = field(default_factory=dict)


@frozen
class PortReplaced(Event):
    """A port was taken by another program before ours could listen: new ones follow."""

    host: str
    port: int


@frozen
class RunRestarted(Event):
    """What failed was stopped everywhere, and all ranks start again as this ``attempt``; ``reason``
    is that of the failure or of a host's loss, or ``port-taken``."""

    attempt: int
    reason: str


@frozen
class ProcessStarted(Event):
    """A process runs. ``rank`` is None for one that starts ranks itself, and for setup; ``primaries`` is
    how many primary processes the run has, ``primary`` the same where this is one; ``limits`` is what
    it is held to."""

    host: str
    attempt: int
    key: str
    rank: int | None
    pid: int
    primary: int = 0
    limits: str = ""
    primaries: int = 0


@frozen
class ProcessExited(Event):
    """A process ended: ``code`` is its exit status, or minus the signal that killed it.

    ``stopped``: we had asked it to end. ``oom``: the kernel killed one for want of memory just then.
    ``limit``: the bytes that it may have, when that was for going over them.
    ``error``: message and traceback of torch's error file. ``tolerated``: torchrun may go on.
    ``action``: what the job says about such an exit: complete, fail, restart.
    """

    host: str
    attempt: int
    key: str
    rank: int | None
    code: int
    stopped: bool = False
    oom: bool = False
    limit: int = 0
    error: Mapping[str, str] | None = None
    tolerated: bool = False
    action: str = ""

    @property
    def is_well(self) -> bool:
        """Whether that is an end as it should be."""
        return self.action == "complete" or (self.code == 0 and not self.action)


@frozen
class StopRequested(Event):
    """Processes were asked to stop: everywhere, or on ``host``.

    A host does so on its own when one of its ranks fails; ``asked`` says that a launcher wished it.
    ``origin`` is the other host that reported ``why``. ``detail`` says more, such as the reason of a
    restart.
    """

    why: StopReason
    host: str | None = None
    processes: int = 0
    attempt: int | None = None
    asked: bool = False
    origin: str | None = None
    detail: str = ""


@frozen
class OrphansFound(Event):
    """Processes outlived every rank of a host."""

    host: str
    processes: tuple[Mapping[str, Any], ...]


@frozen
class OrphansEnded(Event):
    """They are gone."""

    host: str
    processes: int


@frozen
class GpusUsed(Event):
    """GPUs on which processes of the run were seen by ``nvidia-smi``."""

    host: str
    gpus: tuple[int, ...]


@frozen
class HostEnded(Event):
    """Nothing of the run is alive on a host, as its supervisor saw it. ``removed`` are the segments of
    shared memory that it had left in /dev/shm."""

    host: str
    left: int
    scanned: int
    unreadable: int
    attempt: int | None = None
    removed: tuple[str, ...] = ()


@frozen
class RecordPassedOver(Event):
    """The journal of a host has a record that no supervisor writes: ``problem``."""

    host: str
    problem: str


@frozen
class HostFinished(Event):
    """The supervisor of a host is gone, and everything that it left has come."""

    host: str


@frozen
class ConnectionDropped(Event):
    """The connection to a host went away. Its processes go on."""

    host: str
    message: str


@frozen
class ConnectionResumed(Event):
    """It is back, and the logs go on where they stopped."""

    host: str
    seconds: float


@frozen
class LogsWaiting(Event):
    """This machine cannot hold a host's logs: they wait there, and the run goes on."""

    host: str
    message: str


@frozen
class LogsResumed(Event):
    """There is room again, and nothing is missing."""

    host: str


@frozen
class NodeLost(Event):
    """A host could not be reached for too long, or its supervisor died: the run cannot go on
    as it is."""

    host: str
    reason: str


@frozen
class NodeReplaced(Event):
    """Another host, ``by``, takes the place of a lost one; ``reason`` is that of the loss."""

    host: str
    by: str
    node_rank: int
    reason: str


@frozen
class NodesReduced(Event):
    """The run goes on without a lost host: there is no spare. The sizes are those from now on."""

    host: str
    num_nodes: int
    world_size: int
    reason: str


@frozen
class OrphanTimeoutExpired(Event):
    """A host stopped the run by itself: nobody had reached it for ``silent`` seconds."""

    host: str
    silent: float


@frozen
class StallBegan(Event):
    """No rank of a host has written, used CPU time or a GPU for ``seconds``.

    Each of ``ranks`` has key, rank, pid, silent (seconds since its last log byte), cpu (seconds used
    in all), bytes (of its logs) and last (the last line of them).
    """

    host: str
    seconds: float
    ranks: tuple[Mapping[str, Any], ...]
    attempt: int | None = None


@frozen
class StallEnded(Event):
    """A rank of the host moves again."""

    host: str
    seconds: float
    attempt: int | None = None


@frozen
class RunStalled(Event):
    """All hosts of the run stall at once. ``host`` and ``rank``, or the process of a role ``key``, are
    behind, as far as that can be told."""

    seconds: float
    host: str | None = None
    rank: int | None = None
    silent: float = 0.0
    last: str = ""
    why: str = ""
    key: str = ""

    @property
    def behind(self) -> str:
        """Who is behind, in words."""
        if self.host is None:
            return "nothing tells which rank is behind"
        who = self.key or (f"rank {self.rank}" if self.rank is not None else "")
        who = f"{self.host} {who}".strip()
        return f"{who} is behind: {self.why}"


@frozen
class StacksTaken(Event):
    """A host has written down where its ranks stand, a file for each."""

    host: str
    files: int


@frozen
class HostSwept(Event):
    """Every process of a host was looked at after the end, from a fresh look at its /proc."""

    host: str
    left: tuple[Mapping[str, Any], ...]
    killed: int
    scanned: int
    unreadable: int


@frozen
class OutputsPulled(Event):
    """Outputs came back; ``files`` and ``bytes`` are all that are here now."""

    files: int
    bytes: int
    failed: Mapping[str, str] = field(default_factory=dict)


@frozen
class RunEnded(Event):
    """It is over."""

    status: str
    reason: str
    reason_host: str | None = None


KINDS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


def encode(event: Event) -> dict[str, Any]:
    """An event as JSON values, with its kind under ``event``."""
    values = {"event": type(event).__name__, **asdict(event)}
    if event.seq < 0:
        del values["seq"]
    return values


def decode(record: object) -> Event | None:
    """Return the event that a record describes; None for a kind that this version does not know.

    Fields that this version does not know are passed over. Raises Mismatch.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("event"), str):
        raise Mismatch("not an event")
    record = compat.event(record)
    kind = KINDS.get(record["event"])
    return None if kind is None else from_json(kind, record)


def decode_lines(
    lines: bytes, file: object = "events.jsonl", first: int | None = None
) -> list[Event]:
    """Return the events of whole lines of JSON; ``first`` is the number of the first line in the file.

    Raises UnreadableRecord naming the file, the line and the field.
    """
    found = []
    for number, line in enumerate(lines.splitlines(), first or 0):
        place = file if first is None else f"{file}:{number}"
        try:
            found.append(decode(formats.parse(line, place)))
        except Mismatch as error:
            raise UnreadableRecord(str(place), str(error)) from None
    return [event for event in found if event is not None]


#: What a supervisor writes about its own host. All other events are this machine's to record.
JOURNALED = (
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
    """Return the event that a host's journal reports, in our time.

    A record that no supervisor writes becomes RecordPassedOver: it must not stand in our own
    records. ``now`` is its time then.
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
     "unreadable", "silent", "seconds", "files")
)  # fmt: skip
