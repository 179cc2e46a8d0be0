"""What happens in a run, as past-tense facts. The CLI and the records read nothing else.

Times are seconds since the epoch by the launching machine's clock; times from hosts are corrected by
their clock's offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, field
from typing import Any, Self

from ..spec.errors import UnreadableRecord
from ..spec.frozen import frozen
from ..spec.typed_json import Mismatch, from_json
from . import compat, formats
from .failure import Failure as Failure
from .failure import signal_name as signal_name
from .reasons import Cold, NotKept, PassedOver, ShareTrouble, StopReason, WaitReason


@frozen
class Event:
    """Base of all events. ``seq`` is the number in its host's journal, -1 for an event of this
    machine."""

    time: float
    seq: int = field(default=-1, kw_only=True)


@frozen
class StageStarted(Event):
    """The run entered ``stage``: connect, sync, wait, setup, start, run, restart, collect or store."""

    stage: str


@frozen
class HostConnected(Event):
    """A host answered and was measured; ``user`` is the account there."""

    host: str
    seconds: float
    python_version: str
    clock_offset: float
    strays: int = 0
    user: str = ""


@frozen
class OldRunEnded(Event):
    """Leftovers of an earlier run, which its launcher could not reach, were stopped on a host."""

    host: str
    run: str


@frozen
class HostFailed(Event):
    """A host cannot take part; ``code`` is that of the error."""

    host: str
    code: str
    message: str
    hint: str = ""


@frozen
class Progressed(Event):
    """How far something is. Shown on screen, never stored."""


@frozen
class CopyProgressed(Progressed):
    """A copy of ``bytes`` bytes is under way; ``done`` is how many of them are, where that is known."""

    host: str
    percent: int
    bytes: int = 0
    done: int | None = None

    @classmethod
    def so_far(cls, now: float, host: str, done: int, size: int) -> Self:
        """Return how far a host is now."""
        done = min(done, size)
        return cls(now, host, done * 100 // size if size else 100, size, done)


@frozen
class SyncProgressed(CopyProgressed):
    """Code, data or an image is on its way to a host."""


@frozen
class OutputsProgressed(CopyProgressed):
    """Outputs are on their way from a host."""


@frozen
class StoreProgressed(CopyProgressed):
    """Outputs are on their way from a host to the job's store; or from there to this machine, and
    ``host`` is ``store``."""


@frozen
class CheckProgressed(CopyProgressed):
    """A host is reading a data set again; nothing is copied."""


@frozen
class SourceRead(Progressed):
    """The source of a data set is being read here, ``bytes`` of it so far; ``total`` is None where only
    its end tells how much it is."""

    name: str
    bytes: int
    total: int | None = None
    is_over: bool = False


@frozen
class CodeSynced(Event):
    """A host has the run's own copy of the code, of ``bytes`` bytes; ``copied`` of them travelled."""

    host: str
    version: str
    files: int
    bytes: int
    copied: int
    seconds: float


@frozen
class DataGiven(Event):
    """A host has a version of a data set that the run uses; ``copied`` of its bytes travelled."""

    host: str
    name: str
    version: str
    files: int
    bytes: int
    copied: int
    seconds: float


@frozen
class DataNotPassed(Event):
    """These hosts reach none of the others, and get a data set from this machine or the store itself."""

    name: str
    hosts: tuple[str, ...]


@frozen
class DataTaken(Event):
    """A host copied a version of a data set from another user of it, who shares it there, and compared
    every sum; or did not, because of ``why``."""

    host: str
    name: str
    user: str
    bytes: int
    why: str = ""


@frozen
class CheckpointKept(Event):
    """All files of a checkpoint are where they are kept."""

    number: int
    files: int
    bytes: int
    where: str


@frozen
class CheckpointMissed(Event):
    """A checkpoint could not be kept; it is tried again."""

    why: str


@frozen
class CodeUnreadable(Event):
    """Files or folders of the workdir are not copied, because this user may not read them."""

    paths: tuple[str, ...]


@frozen
class WordsNotCopied(Event):
    """Words of the command are files here that hosts will not have: they are ignored, or outputs, or
    ``outside`` the workdir."""

    paths: tuple[str, ...]
    outside: tuple[str, ...] = ()


@frozen
class Preloaded(Event):
    """A host has imported modules ahead of its ranks, in so many seconds; or ``problem`` is why not.

    ``kept``: an attempt before, or a run, had imported them; these seconds were for a look at that.
    """

    host: str
    seconds: float
    problem: Cold | None = None
    detail: str = ""
    attempt: int = 0
    kept: bool = False


@frozen
class KeptWarm(Event):
    """What a host has imported stays there for so many seconds once the run is over, from when no other
    attempt follows; not if it is not ``kept``, and ``why`` says why."""

    host: str
    seconds: float
    kept: bool = True
    attempt: int = 0
    why: NotKept | None = None
    detail: str = ""


@frozen
class ImportedAnew(Event):
    """A host could not use what it had imported for the attempt or the run before: it imports everything
    again."""

    host: str
    why: Cold
    detail: str = ""
    attempt: int = 0


@frozen
class StartedCold(Event):
    """A rank was not forked from the Python that has imported modules on its host: it started alone."""

    host: str
    why: Cold
    detail: str = ""
    attempt: int = 0


@frozen
class ShareTroubled(Event):
    """On a host, a path of a shared folder is not as another host wrote it; for a conflict, ``other`` is
    the host whose version all hosts have now."""

    host: str
    code: ShareTrouble
    path: str
    other: str
    detail: str = ""
    attempt: int = 0


@frozen
class CodeIsLarge(Event):
    """Much is copied to every host: ``largest`` are entries of the workdir, with their bytes."""

    bytes: int
    files: int
    largest: tuple[tuple[str, int], ...] = ()


@frozen
class NotificationFailed(Event):
    """News of the run could not be sent; ``to`` is how, without an address or a command."""

    to: str
    problem: str


@frozen
class SecretsCopied(Event):
    """Files of the code that look like secrets go to every host, as ``paths``, or are in the uncommitted
    changes that ``code.diff`` keeps here, as ``kept``. Recorded the first time."""

    paths: tuple[str, ...]
    kept: tuple[str, ...] = ()


@frozen
class RunWaits(Event):
    """The run waits for GPUs, as number ``place`` of ``waiting`` runs.

    ``runs`` are those that it waits for, and ``users`` whose they are: an empty name is somebody outside
    launcher, and ``outside`` says who and what. ``hosts`` are those out of reach. It begins by
    ``latest``, if no run comes before it; None: nobody knows. ``project`` is whose rule holds it back:
    it has ``used`` GPUs, and may have ``most`` by that rule.
    """

    place: int
    waiting: int
    why: WaitReason
    runs: tuple[str, ...] = ()
    users: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    latest: float | None = None
    outside: str = ""
    project: str = ""
    used: int = 0
    most: int = 0


@frozen
class TurnCame(Event):
    """The run may begin, after it has waited for so many ``seconds``."""

    seconds: float


@frozen
class WaitsOnHost(Event):
    """A host has all that the run needs, and starts it when its turn has come: it needs no launcher."""

    host: str


@frozen
class BegunThere(Event):
    """A host starts the run by itself, after a wait of so many ``seconds``, on these ``gpus`` and with
    these ``ports``, the first of which is the master's.

    Of several ``hosts`` that start it together, each says which these are, and what their meeting point
    is. The one that has chosen them says so, too, without GPUs if it is none of them.
    """

    host: str
    attempt: int
    seconds: float
    gpus: tuple[int, ...]
    ports: tuple[int, ...]
    hosts: tuple[str, ...] = ()
    master_addr: str = ""
    interfaces: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)


@frozen
class TakenBack(Event):
    """A host gives GPUs that the run's project had borrowed back to a ``run`` of another ``user``, which
    is within the quota of its ``project``."""

    host: str
    attempt: int
    run: str
    user: str
    project: str


@frozen
class WaitsAgain(Event):
    """A host has given GPUs back, and waits for others by itself, to start the run again on these
    ``hosts`` as this ``attempt``; the first one leads."""

    host: str
    attempt: int
    hosts: tuple[str, ...]


@frozen
class LeftToHosts(Event):
    """The run is left to several hosts, of which the first one leads: from now on they may start it, on
    as many of them as are ``wanted`` (0: on all)."""

    hosts: tuple[str, ...]
    wanted: int = 0


@frozen
class WaitsOnHosts(Event):
    """The leading ``host`` is in touch with enough of the ``hosts`` of the run, as many of which as are
    ``wanted`` (0: all) start it together when its turn has come: it needs no launcher. Hosts of an
    earlier version say here what their meeting point is."""

    host: str
    hosts: tuple[str, ...]
    master_addr: str = ""
    interfaces: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    wanted: int = 0


@frozen
class HostsLetGo(Event):
    """The run has begun without these ``hosts``, which waited for it, too: nothing of it is left there,
    but on those that are ``silent``."""

    hosts: tuple[str, ...]
    silent: tuple[str, ...] = ()


@frozen
class AllStarted(Event):
    """Every host has started its processes; from here on the run needs no launcher."""

    attempt: int


@frozen
class HostsMet(Event):
    """Every host has connected to the master."""

    master_addr: str
    master_port: int
    interfaces: Mapping[str, str] = field(default_factory=dict)


@frozen
class PortReplaced(Event):
    """Another program took a port before ours could listen; new ports will be chosen."""

    host: str
    port: int


@frozen
class HostsSilent(Event):
    """Hosts that had not answered after so many ``seconds``: the run goes on without them."""

    hosts: tuple[str, ...]
    seconds: float


@frozen
class PackagesDiffered(Event):
    """Hosts do not have the same: by package, the hosts that have each version, "" for none. ``more``
    packages differ that are not named."""

    packages: Mapping[str, Mapping[str, tuple[str, ...]]]
    more: int = 0


@frozen
class EnvironmentBuilding(Event):
    """Hosts that build the run's environment, or wait for it or for its wheels; what ``host`` said last.
    So far ``done`` bytes of wheels were moved in ``seconds``, of ``total`` where that is known (0:
    neither)."""

    hosts: tuple[str, ...]
    host: str
    said: str
    done: int = 0
    total: int = 0
    seconds: float = 0.0


@frozen
class WheelsFetched(Event):
    """This machine has the wheels for hosts of one kind; ``fetched`` of their ``bytes`` came now."""

    wheels: int
    bytes: int
    fetched: int
    seconds: float


@frozen
class WheelsGiven(Event):
    """These hosts have the wheels of which they build, ``bytes`` each; ``copied`` bytes travelled."""

    hosts: tuple[str, ...]
    wheels: int
    bytes: int
    copied: int
    seconds: float


@frozen
class EnvironmentBuilt(Event):
    """All ``hosts`` have the run's environment; ``built`` of them had to build it."""

    hosts: int
    built: int
    seconds: float


@frozen
class ImageBringing(Event):
    """Hosts that pull, load, save or try the run's image, or wait for one; what ``host`` said last. So
    far ``done`` bytes were moved in ``seconds``, of ``total`` where that is known (0: neither)."""

    hosts: tuple[str, ...]
    host: str
    said: str
    done: int = 0
    total: int = 0
    seconds: float = 0.0


@frozen
class ImageContext(Event):
    """Much may be copied by the build of an image: ``largest`` are entries of the folder, with their
    bytes. With a ``host``, all of it is sent there."""

    bytes: int
    files: int
    largest: tuple[tuple[str, int], ...] = ()
    host: str = ""


@frozen
class SecretsInImage(Event):
    """Files that look like secrets may be copied by the build of an image. Recorded the first time."""

    paths: tuple[str, ...]


@frozen
class ImageBuilding(Event):
    """The image is built ``on`` this machine or a host, which begins the next ``step``."""

    on: str
    step: str


@frozen
class ImageBuilt(Event):
    """The image was built ``on`` this machine or a host."""

    image: str
    id: str
    on: str
    runtime: str
    seconds: float


@frozen
class ImageUnchanged(Event):
    """Nothing of which the image is built has changed since it was ``built``; ``moved`` are names of
    images that it began from, and that mean others by now."""

    image: str
    id: str
    built: float
    moved: tuple[str, ...] = ()


@frozen
class ImageNotBuilt(Event):
    """The build of the image has failed; ``lines`` are the last of its log."""

    image: str
    on: str
    lines: tuple[str, ...]


@frozen
class ImageGiven(Event):
    """All hosts have the run's image, or that of some ``roles``; ``brought`` names those that lacked it.
    ``runtimes`` is what starts it, by host; an image that is a folder has no ``id``. Hosts of several
    kinds have one each: ``ids`` by kind."""

    image: str
    id: str
    runtimes: Mapping[str, str]
    brought: tuple[str, ...]
    seconds: float
    ids: Mapping[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()


@frozen
class ScriptLogWritten(Event):
    """The log of a batch script is in the file of the workdir that its ``#SBATCH`` lines name, or it is
    not, because of a ``problem``."""

    path: str
    problem: str = ""


@frozen
class OutputsGiven(Event):
    """So many hosts got so many ``files`` of the outputs of ``run``, which this run continues; without
    a ``run``, of outputs in the workdir that the command names."""

    run: str
    files: int
    hosts: int


@frozen
class GpuTaken(Event):
    """Somebody took a GPU of the plan before the run could; others are looked for."""

    host: str
    message: str


@frozen
class RunRestarted(Event):
    """Everything was stopped, and all ranks start again as this ``attempt``; ``reason`` is that of
    the failure or of the loss of a host, ``port-taken`` or ``gpu-busy``."""

    attempt: int
    reason: str


@frozen
class ProcessStarted(Event):
    """A process runs."""

    host: str
    attempt: int
    key: str
    #: None for setup, and for a process that starts ranks itself.
    rank: int | None
    pid: int
    #: How many primary processes the run has, if this is one of them; else 0.
    primary: int = 0
    #: Which limits hold, in words.
    limits: str = ""
    #: How many primary processes the run has.
    primaries: int = 0


@frozen
class ProcessExited(Event):
    """A process exited."""

    host: str
    attempt: int
    key: str
    rank: int | None
    #: Its exit status, or minus the signal that killed it.
    code: int
    #: Whether launcher had asked it to exit.
    stopped: bool = False
    #: Whether the kernel killed a process for lack of memory just then.
    oom: bool = False
    #: Its memory limit in bytes, if it had exceeded that.
    limit: int = 0
    #: Message and traceback of torch's error file.
    error: Mapping[str, str] | None = None
    #: Whether torchrun may continue without it.
    tolerated: bool = False
    #: What the job does on such an exit: complete, fail or restart.
    action: str = ""

    @property
    def is_well(self) -> bool:
        """Whether the process exited successfully."""
        return self.action == "complete" or (self.code == 0 and not self.action)


@frozen
class StopRequested(Event):
    """Processes were asked to stop: everywhere, or on ``host``."""

    why: StopReason
    host: str | None = None
    processes: int = 0
    attempt: int | None = None
    #: Whether a launcher requested it; a host also does so on its own, when one of its ranks fails.
    asked: bool = False
    #: The other host that reported ``why``.
    origin: str | None = None
    #: What ``why`` leaves out, such as the reason of a restart.
    detail: str = ""


@frozen
class NobodyMet(Event):
    """No rank of the host of rank 0 was ever connected to another: each rank worked alone."""

    host: str
    attempt: int = 0


@frozen
class UrlsLeft(Event):
    """A host has so many URLs, good for ``seconds``, by which it stores outputs with no launcher in
    touch. New ones are not recorded."""

    host: str
    seconds: float
    urls: int
    attempt: int = 0


@frozen
class StoredAlone(Event):
    """A host stored its outputs with no launcher in touch; ``missing`` counts files that it could not
    store, and ``problem`` says why it could store none."""

    host: str
    files: int
    bytes: int
    missing: int = 0
    problem: str = ""
    attempt: int = 0


@frozen
class OrphansFound(Event):
    """Processes of the run outlived every rank of a host."""

    host: str
    processes: tuple[Mapping[str, Any], ...]


@frozen
class OrphansEnded(Event):
    """Those processes were stopped."""

    host: str
    processes: int


@frozen
class GpusUsed(Event):
    """GPUs on which processes of the run were seen by ``nvidia-smi``."""

    host: str
    gpus: tuple[int, ...]


@frozen
class GpusPassedOver(Event):
    """GPUs of a host that the run did not take; ``by`` is whose they are, or what leaves them out.

    Of a run that takes what is free, ``taken`` is how many GPUs it has of ``total`` on the host.
    """

    host: str
    gpus: tuple[int, ...]
    reason: PassedOver
    by: str
    taken: int = 0
    total: int = 0


@frozen
class HostEnded(Event):
    """Nothing of the run is alive on a host, by its supervisor's count. ``removed`` are the segments
    of shared memory that the run had left in /dev/shm."""

    host: str
    left: int
    scanned: int
    unreadable: int
    attempt: int | None = None
    removed: tuple[str, ...] = ()


@frozen
class RecordPassedOver(Event):
    """A record in a host's journal, or a line of ours if ``host`` is "", could not be read and was
    ignored, for this ``problem``."""

    host: str
    problem: str


@frozen
class HostFinished(Event):
    """A host's supervisor has exited, and everything that it left was fetched."""

    host: str


@frozen
class ConnectionDropped(Event):
    """The connection to a host was lost. Its processes continue."""

    host: str
    message: str


@frozen
class ConnectionResumed(Event):
    """The connection is back after ``seconds``, and the logs continue where they stopped."""

    host: str
    seconds: float


@frozen
class LogsWaiting(Event):
    """This machine has no room for a host's logs: they wait there, and the run continues."""

    host: str
    message: str


@frozen
class LogsResumed(Event):
    """There is room for the host's logs again, and none are missing."""

    host: str


@frozen
class NodeLost(Event):
    """A host was unreachable for too long, or its supervisor died: the run cannot continue as it
    is."""

    host: str
    reason: str


@frozen
class NodeReplaced(Event):
    """The host ``by`` replaces a lost one; ``reason`` is that of the loss."""

    host: str
    by: str
    node_rank: int
    reason: str


@frozen
class NodesReduced(Event):
    """The run continues without a lost host, with these new sizes: no spare was left."""

    host: str
    num_nodes: int
    world_size: int
    reason: str


@frozen
class OrphanTimeoutExpired(Event):
    """A host stopped the run on its own: no launcher had contacted it for ``silent`` seconds."""

    host: str
    silent: float


@frozen
class StallBegan(Event):
    """No rank of a host has written output or used a CPU or GPU for ``seconds``.

    Each of ``ranks`` has key, rank, pid, silent (seconds since its last log byte), cpu (seconds used
    in total), bytes (of its logs) and last (their last line).
    """

    host: str
    seconds: float
    ranks: tuple[Mapping[str, Any], ...]
    attempt: int | None = None


@frozen
class StallEnded(Event):
    """A rank of the host makes progress again."""

    host: str
    seconds: float
    attempt: int | None = None


@frozen
class RunStalled(Event):
    """All hosts of the run stall at once. ``host`` and ``rank`` (or ``key``, the process of a role)
    name the one that is behind, if that is known; ``why`` says how."""

    seconds: float
    host: str | None = None
    rank: int | None = None
    silent: float = 0.0
    last: str = ""
    why: str = ""
    key: str = ""

    @property
    def behind(self) -> str:
        """Return which rank is behind, as a sentence."""
        if self.host is None:
            return "cannot tell which rank is behind"
        who = self.key or (f"rank {self.rank}" if self.rank is not None else "")
        who = f"{self.host} {who}".strip()
        return f"{who} is behind: {self.why}"


@frozen
class TracebackSeen(Event):
    """A process has not ended, though the last that it wrote to stderr is an exception that nobody
    caught: ``line``."""

    host: str
    key: str
    rank: int | None
    line: str
    attempt: int | None = None


@frozen
class StacksTaken(Event):
    """A host has written the stacks of its ranks to files."""

    host: str
    files: int


@frozen
class HostSwept(Event):
    """Every process in a host's /proc was checked after the end of the run."""

    host: str
    left: tuple[Mapping[str, Any], ...]
    killed: int
    scanned: int
    unreadable: int


@frozen
class OutputsPulled(Event):
    """Outputs were fetched; ``files`` and ``bytes`` count all that are here now."""

    files: int
    bytes: int
    failed: Mapping[str, str] = field(default_factory=dict)


@frozen
class RunEnded(Event):
    """The run is over."""

    status: str
    reason: str
    reason_host: str | None = None


KINDS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


def encode(event: Event) -> dict[str, Any]:
    """Return an event as JSON values, with its kind under ``event``."""
    values = {"event": type(event).__name__, **asdict(event)}
    if event.seq < 0:
        del values["seq"]
    return values


def decode(record: object) -> Event | None:
    """Return the event that a record describes; None for a kind that this version does not know.

    Unknown fields are ignored. Raises Mismatch.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("event"), str):
        raise Mismatch("not an event")
    record = compat.event(record)
    kind = KINDS.get(record["event"])
    return None if kind is None else from_json(kind, record)


def decode_lines(
    lines: bytes, file: object = "events.jsonl", before: Callable[[], int] = lambda: 0
) -> list[Event]:
    """Return the events of whole lines of JSON.

    A damaged line costs that line alone: it becomes a RecordPassedOver of no host, which names the
    file, the line and the field. ``before()`` is how many lines of the file are in front of these.
    """
    found: list[Event | None] = []
    last = 0.0
    for number, line in enumerate(lines.split(b"\n")[:-1], 1):
        try:
            event = decode(formats.parse(line, ""))
        except (Mismatch, UnreadableRecord) as error:
            problem = error.message if isinstance(error, UnreadableRecord) else str(error)
            place = f"{file}:{before() + number} is damaged: "
            event = RecordPassedOver(last, "", place + problem.removeprefix(" is damaged: "))
        found.append(event)
        last = last if event is None else event.time
    return [event for event in found if event is not None]


def damage(events: Iterable[Event]) -> str:
    """Return which lines of a record here are damaged, in words; "" where none is."""
    lines = [e.problem for e in events if isinstance(e, RecordPassedOver) and not e.host]
    more = f"; and {len(lines) - 1} more" if lines[1:] else ""
    return f"{lines[0]}{more}" if lines else ""


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
