"""What a host may answer, as values with bounds.

A host is not trusted beyond itself. Everything that it sends passes here, or through
``records/events.py``, before anything is done with it; what does not fit is a BadAnswer of that host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, TypeVar

from ..spec.addresses import is_address
from ..spec.containers import RUNTIMES, SHORT, ContainerSpec
from ..spec.errors import BadAnswer
from ..spec.frozen import frozen
from ..spec.model import Facts, GpuUser
from ..spec.packed import LARGEST, PackedFiles
from ..spec.run_name import is_run_name
from ..spec.typed_json import Mismatch, from_json

T = TypeVar("T")

#: Most GPUs, addresses, ports and processes that a host may name: beyond any machine.
MOST = 4096
#: Longest path of a file, in characters.
LONGEST_PATH = 4096
#: How far an environment is that a host builds.
BUILD_STATES = ("there", "busy", "building", "failed", "no-builder", "no-wheels")
#: How far an image is.
IMAGE_STATES = ("there", "missing", "trouble", "working", "done", "failed", "busy", "yours")
#: What becomes of an image that is to be removed.
REMOVAL_STATES = ("removed", "missing", "used", "failed", "of-host")
#: Longest message of a refusal, in characters: more than the longest path that it may name.
LONGEST_MESSAGE = 1 << 16
#: Latest moment that a host may name: the end of the year 9999.
LATEST = 253_402_300_799.0

_INTERFACE = re.compile(r"[\w.:@+~#=,%-]{1,64}\Z", re.A)
_PACKAGE = re.compile(r"[\w.-]{1,200}==[\w.+!~-]{1,100}\Z", re.A)
_FILE = re.compile(r"/[A-Za-z0-9][A-Za-z0-9._-]{0,200}\Z")
_ID = re.compile(r"[0-9a-f]{64}\Z")
_KEPT = re.compile(
    r"[0-9a-f]{20}\Z|[0-9a-f]{64}\.tar\Z|saved-[0-9]{1,20}\.tar\Z|context-[0-9a-f]{16}\Z"
)
_NAME_OF_IMAGE = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,4096}\Z")
_FOLDER = re.compile(r"[^\x00-\x1f\x7f-][^\x00-\x1f\x7f]{0,4095}\Z")


def read(kind: type[T], host: str, op: str, answer: object) -> T:
    """Return the answer to a request as a ``kind``. Raises BadAnswer."""
    try:
        return from_json(kind, answer)
    except Mismatch as error:
        raise BadAnswer(host, f"its answer to {op}: {error}") from None


def _require(fits: bool, field: str, problem: str) -> None:
    if not fits:
        raise Mismatch(problem, field)


def _require_address(value: str, field: str) -> None:
    _require(is_address(value), field, f"not an address: {value[:80]!r}")


def _require_interface(value: str | None, field: str) -> None:
    _require(value is None or _INTERFACE.match(value) is not None, field, "not a network interface")


def _require_port(value: int | None, field: str) -> None:
    _require(value is None or 0 < value < 65536, field, f"not a port: {value}")


def _require_folder(value: str, field: str) -> None:
    _require(_FOLDER.match(value) is not None, field, f"not a folder: {value[:80]!r}")


def _require_moment(value: float, field: str) -> None:
    _require(0 <= value <= LATEST, field, "not a time")


def _require_member(project: str, user: str, gpus: int) -> None:
    _require(is_run_name(project), "project", f"not the name of a project: {project[:80]!r}")
    _require(len(user) <= 256, "user", "is too long")
    _require(0 < gpus <= 1 << 16, "gpus", "not a number of GPUs")


@frozen
class Holder:
    """Who holds a GPU or has a run on a host; empty where the host could not read that."""

    user: str | int | None = None
    run: str | None = None
    since: float | None = None
    left: float | None = None  # seconds until the run ends by itself

    def __post_init__(self) -> None:
        _require_moment(self.since or 0.0, "since")
        _require(abs(self.left or 0.0) <= LATEST, "left", "not a time")


#: Most tickets of waiting runs that a host names.
MOST_TICKETS = 512


@frozen
class WaitingThere:
    """The ticket of a waiting run on a host; see ``TicketFacts`` of the agent."""

    run: str
    priority: int
    number: int
    hosts: int
    shares: tuple[tuple[int, int], ...]
    user: str = "?"
    waited: float = 0.0
    seconds: float | None = None
    aside: bool = False
    by_itself: bool = False
    only: tuple[int, ...] = ()
    within: bool = False
    part: int = 0
    no_room: bool = False

    def __post_init__(self) -> None:
        _require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")
        _require(0 <= self.part <= MOST, "part", "not a number of GPUs")
        _require(0 < len(self.shares) <= 16, "shares", "not the shares of a run")
        for one in (one for share in self.shares for one in share):
            _require(0 < one <= MOST, "shares", "not a number of nodes and of GPUs")
        _require(abs(self.priority) <= 1, "priority", "not a priority")
        _require(abs(self.number) <= 1 << 40, "number", "not a number of a ticket")
        _require(0 < self.hosts <= MOST, "hosts", "not a number of hosts")
        _require(len(self.user) <= 256, "user", "is too long")
        _require(all(0 <= one <= MOST for one in self.only), "only", "not GPUs of a host")
        for moment in (self.waited, self.seconds or 0.0):
            _require_moment(moment, "waited")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The GPUs of each node, the largest number first."""
        pairs = sorted(self.shares, key=lambda pair: -pair[1])
        return tuple(size for count, size in pairs for _ in range(count))


@frozen
class MemberThere:
    """A run that uses GPUs in a project's name, or waits for them; see ``MemberFacts`` of the agent."""

    project: str
    run: str
    user: str
    gpus: int
    age: float = 0.0
    preemptible: bool = False
    within: bool = False
    waits: bool = False
    held: str = ""

    def __post_init__(self) -> None:
        _require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")
        _require_member(self.project, self.user, self.gpus)
        _require_moment(self.age, "age")
        _require(len(self.held) <= 32, "held", "is too long")


@frozen
class BookThere:
    """What a user's book on a host says of a run; see ``BookFacts`` of the agent."""

    project: str
    run: str
    user: str
    gpus: int
    hosts: tuple[str, ...]
    preemptible: bool = False

    def __post_init__(self) -> None:
        _require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")
        _require_member(self.project, self.user, self.gpus)
        fits = len(self.hosts) <= 256 and all(len(one) <= 256 for one in self.hosts)
        _require(fits, "hosts", "more than a book names")


@frozen
class ProjectsThere:
    """How projects stand on a host: who uses GPUs now, what its books say, and who asks. ``locked``:
    this connection has the project's lock; else ``holder`` is the user who has it, if known."""

    members: tuple[MemberThere, ...]
    books: tuple[BookThere, ...]
    user: str
    locked: bool = False
    holder: str = ""

    def __post_init__(self) -> None:
        _require(len(self.members) <= MOST, "members", "more than a host names")
        _require(len(self.books) <= MOST, "books", "more than a host names")
        _require(max(len(self.user), len(self.holder)) <= 256, "user", "is too long")


@frozen
class Turns:
    """Who waits for GPUs of a host, who holds them, and which of these runs have a project."""

    tickets: tuple[WaitingThere, ...]
    leased: Mapping[int, Holder]
    members: tuple[MemberThere, ...] = ()

    def __post_init__(self) -> None:
        _require(len(self.tickets) <= MOST_TICKETS, "tickets", "more than a host names")
        _require(len(self.leased) <= MOST, "leased", "more GPUs than a host has")
        _require(len(self.members) <= MOST, "members", "more than a host names")


@frozen
class Load:
    """What a GPU does: percent of its time, degrees, MiB in use; None where its tool does not say."""

    percent: int | None = None
    celsius: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        _require(0 <= (self.percent or 0) <= 100, "percent", "not a part of its time")
        _require(abs(self.celsius or 0) <= 1000, "celsius", "not a temperature")
        _require(0 <= (self.memory or 0) <= LATEST, "memory", "not a size")


@frozen
class Now:
    """What the GPUs of a host do, by index, who uses and holds them, the runs there, and who waits."""

    gpus: Mapping[int, Load]
    gpu_users: tuple[GpuUser, ...]
    tickets: tuple[WaitingThere, ...]
    leased: Mapping[int, Holder]
    time: float
    members: tuple[MemberThere, ...] = ()
    runs: tuple[Registered, ...] = ()

    def __post_init__(self) -> None:
        _require(len(self.gpus) <= MOST, "gpus", "more than a host has")
        _require(len(self.runs) <= MOST_ENTRIES, "runs", "more than a host has")
        _require_users(self.gpu_users)
        _require_moment(self.time, "time")

    @property
    def turns(self) -> Turns:
        """The part of it that decides whose turn it is."""
        return Turns(self.tickets, self.leased, self.members)


@frozen
class Problem:
    """Why a request was refused: a code, and what belongs to it."""

    code: str
    message: str
    port: int | None = None
    gpu: int | str | None = None
    holder: Holder = Holder()

    def __post_init__(self) -> None:
        _require(len(self.message) <= LONGEST_MESSAGE, "message", "is too long")


@frozen
class Fed:
    """The answer to ``stdin``: the bytes of the user's input that were taken, from its beginning, and
    whether nobody reads more of it."""

    taken: int
    over: bool

    def __post_init__(self) -> None:
        _require(0 <= self.taken <= LARGEST, "taken", "not a number of bytes")


@frozen
class Clock:
    """The time by the host's clock."""

    time: float

    def __post_init__(self) -> None:
        _require_moment(self.time, "time")


@frozen
class Snapshot:
    """Whether the host has a version of the code; else where a copy goes, beside which version."""

    have: bool
    base: str | None = None
    folder: str = "/"
    grain: int = 1  # nanoseconds that times of files there are multiples of

    def __post_init__(self) -> None:
        _require_folder(self.folder, "folder")
        _require(0 < self.grain <= 10**10, "grain", "not a unit of time")
        plain = self.base is None or re.match(r"\w[\w.-]{0,99}\Z", self.base, re.A)
        _require(bool(plain), "base", "not the name of a version")


@frozen
class DataBegun:
    """Whether a host has a version of a data set, or another run is bringing it (``busy``); else where a
    copy goes, and the files of an earlier version."""

    have: bool
    busy: bool = False
    folder: str = "/"
    base: str = ""

    def __post_init__(self) -> None:
        _require_folder(self.folder, "folder")
        if self.base:
            _require_folder(self.base, "base")


#: Most damaged files, data sets, runs and users that a host names.
MOST_NAMED = 64


@frozen
class DataNearby:
    """Other users of a host who share a version of a data set."""

    users: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(len(self.users) <= MOST_NAMED, "users", "names too many")


@frozen
class DataTaking:
    """How far a host is with copying a version from another ``user`` of it: bytes, and once that is
    ``over`` whether all is there (``whole``), or why not."""

    bytes: int
    over: bool
    whole: bool
    user: str
    why: str

    def __post_init__(self) -> None:
        _require(self.bytes >= 0, "bytes", "is negative")
        _require(len(self.user) <= 256, "user", "is too long")
        _require(len(self.why) <= 2 * LONGEST_PATH, "why", "is too long")


@frozen
class DataRead:
    """How far a host is with reading a folder of its own: the bytes of files that it has read; once it
    is ``over`` what the folder holds, its real path, and where its manifest is. ``unfit``: why it cannot
    be a data set (see ``folder_sums.REASONS``), what that is about, and where a link leads."""

    read: int = 0
    over: bool = False
    version: str = ""
    files: int = 0
    bytes: int = 0
    folder: str = "/"
    place: str = "/"
    unfit: tuple[str, str, str] | None = None

    def __post_init__(self) -> None:
        _require(min(self.read, self.files, self.bytes) >= 0, "bytes", "is negative")
        _require_folder(self.folder, "folder")
        _require_folder(self.place, "place")
        if self.over:
            _require_version(self.version)
        if self.unfit is not None:
            from ..agent.base.folder_sums import REASONS  # few runs need it

            _require(self.unfit[0] in REASONS, "unfit", "not a reason")
            _require(max(map(len, self.unfit)) <= LONGEST_PATH, "unfit", "is too long")


@frozen
class DataExamined:
    """What differs from the manifest of a data set on a host: some paths with the reason, and how many.
    ``here``: whether the host has it at all."""

    bad: tuple[tuple[str, str], ...]
    count: int
    here: bool = True

    def __post_init__(self) -> None:
        _require(len(self.bad) <= MOST_NAMED, "bad", "names too many files")
        _require(self.count >= len(self.bad), "count", "is too small")


@frozen
class DataObjects:
    """Objects of a store that a copy on a host lacks, with their bytes."""

    objects: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        _require(len(self.objects) <= MOST, "objects", "more than was asked for")
        for path, size in self.objects:
            _require(is_inside(path) and size >= 0, "objects", f"leads elsewhere: {path[:80]!r}")


@frozen
class DataFetched:
    """The bytes that a host has read from a store, and the objects that it has not, each with a code
    and what the store said."""

    bytes: int
    failed: tuple[tuple[str, str, str], ...]

    def __post_init__(self) -> None:
        _require(self.bytes >= 0, "bytes", "is negative")
        _require(len(self.failed) <= MOST, "failed", "more than was asked for")
        for _, code, text in self.failed:
            _require(code in ("expired", "changed", "later", "refused"), "failed", "not a code")
            _require(len(text) <= 1000, "failed", "is too long")


@frozen
class DataPassed:
    """How far a host is with a copy from host to host: a bitmap of the blocks that it has, the bytes
    that came from other hosts and from the store, who it reaches, and blocks that it could not read from
    the store, each with an object, a code, and what the store said. ``keyed``: tags are no sums."""

    have: str
    took: int = 0
    heard: int = 0  # more than it took: with what has come of a block that is on its way
    read: int = 0
    reached: tuple[str, ...] = ()
    failed: tuple[tuple[int, str, str, str], ...] = ()
    keyed: bool = False

    def __post_init__(self) -> None:
        _require(re.match(r"([0-9a-f]{2}){0,131072}\Z", self.have) is not None, "have", "no bitmap")
        _require(min(self.took, self.heard, self.read) >= 0, "took", "is negative")
        _require(len(self.reached) <= MOST, "reached", "more hosts than there are")
        _require(len(self.failed) <= MOST, "failed", "more than was asked for")
        for _, path, code, text in self.failed:
            _require(code in ("expired", "changed", "later", "refused"), "failed", "not a code")
            _require(len(path) + len(text) <= 2 * LONGEST_PATH, "failed", "is too long")

    @property
    def bitmap(self) -> int:
        """The blocks that the host has."""
        return int.from_bytes(bytes.fromhex(self.have), "little")


@frozen
class DataOpened(DataPassed):
    """The same as a host begins, with the port at which it listens, all its addresses, and in how many
    blocks it cuts the set."""

    port: int = 0
    addresses: tuple[str, ...] = ()
    count: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_port(self.port, "port")
        _require(len(self.addresses) <= MOST, "addresses", "more than a host has")
        for one in self.addresses:
            _require_address(one, "addresses")


@frozen
class DataPut:
    """What became of parts of files that a host has written to a store: tag, sha256, a code and a text
    of what went wrong."""

    results: tuple[tuple[str, str, str, str], ...]

    def __post_init__(self) -> None:
        _require(len(self.results) <= MOST, "results", "more than was asked for")
        for tag, found, code, text in self.results:
            _require(len(tag) <= 256 and not set(tag) & set('"<>&'), "results", "not a tag")
            _require(re.match(r"([0-9a-f]{64})?\Z", found) is not None, "results", "not a sum")
            _require(code in ("", "changed", "refused"), "results", "not a code")
            _require(len(text) <= 1000, "results", "is too long")


@frozen
class DataSum:
    """The sha256 of a file on a host; "" if it is gone."""

    sum: str

    def __post_init__(self) -> None:
        _require(re.match(r"([0-9a-f]{64})?\Z", self.sum) is not None, "sum", "not a sum")


@frozen
class DataMissing:
    """The versions that a host does not have."""

    missing: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(len(self.missing) <= MOST, "missing", "more than was asked for")


@frozen
class DataThere:
    """A version of a data set on a host; not ``whole``: a copy that was interrupted."""

    version: str
    name: str
    bytes: int
    files: int
    used: float
    whole: bool = True
    pinned: bool = False
    runs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_version(self.version)
        _require(len(self.name) <= 64, "name", "is too long")
        _require(min(self.bytes, self.files) >= 0, "bytes", "is negative")
        _require_moment(self.used, "used")
        _require(len(self.runs) <= MOST_NAMED, "runs", "more than a host names")


def _require_version(value: str) -> None:
    _require(re.match(r"[0-9a-f]{32}\Z", value) is not None, "version", "not a version of data")


@frozen
class DataSets:
    """The data sets of a host."""

    sets: tuple[DataThere, ...]

    def __post_init__(self) -> None:
        _require(len(self.sets) <= MOST_TICKETS * 8, "sets", "more than a host has")


@frozen
class DataKept:
    """Whether a host has a version."""

    here: bool


@frozen
class DataFreed:
    """The bytes that were deleted, and the versions that are in use or pinned."""

    freed: int
    kept: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(self.freed >= 0, "freed", "is negative")
        for one in self.kept:
            _require_version(one)


@frozen
class Listening:
    """The ports on which a host listens for the others of a run."""

    port: int
    more: tuple[int, ...] = ()
    news: int | None = None

    def __post_init__(self) -> None:
        for port in (self.port, *self.more, self.news):
            _require_port(port, "port")


@frozen
class Reached:
    """The result of one attempt to reach the rendezvous; addresses only where it was reached."""

    ok: bool
    ip: str = ""
    local: str = ""
    interface: str | None = None
    error: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        _require_interface(self.interface, "interface")
        if self.ok or self.ip:
            _require_address(self.ip, "ip")
        if self.ok:
            _require_address(self.local, "local")


@frozen
class Files:
    """Outputs of a run on a host, ``(path, size, time)``, and links between them: all, or a part."""

    outputs: tuple[tuple[str, int, int], ...]
    code: tuple[tuple[str, int, int], ...]
    links: tuple[tuple[str, str], ...] = ()  # between outputs: path, and path of the target
    elsewhere: tuple[tuple[str, int, int], ...] = ()  # outside of the run's folder
    same: tuple[tuple[str, str], ...] = ()  # names of one file: one of them, and the first one

    def __post_init__(self) -> None:
        for path, size, time in (*self.outputs, *self.code, *self.elsewhere):
            _require(is_inside(path), "path", f"leads elsewhere: {path[:80]!r}")
            _require(_can_be(path), "path", f"cannot be a file here: {path[:80]!r}")
            _require(0 <= size <= LARGEST, "size", "is negative or endless")
            _require(-LARGEST <= time <= LARGEST, "time", "is endless")


#: Most paths outside of the outputs that a host names.
MOST_WRITTEN = 1024


@frozen
class Written:
    """What a run wrote outside of its outputs: a file, a folder with a slash behind it, or all that are
    not named, without a path."""

    path: str
    files: int
    bytes: int

    def __post_init__(self) -> None:
        _require(not self.path or is_inside(self.path), "path", "leads elsewhere")
        _require(len(self.path) <= LONGEST_PATH, "path", "is too long")
        _require(min(self.files, self.bytes) >= 0, "files", "is negative")


@frozen
class Listed:
    """What comes with the last part of the outputs: the sizes of the run's logs, and what the host
    left out."""

    folder: str
    logs: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...] = ()  # what the host could not read, and why
    left_out: tuple[tuple[str, str], ...] = ()  # other links and special files, and why
    unlisted: int = 0  # files that are more than a host lists
    written: tuple[Written, ...] = ()  # outside of the outputs, where that was asked for
    #: Folders outside of the run's: the path among the outputs, and the real one.
    places: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _require_folder(self.folder, "folder")
        _require(len(self.places) <= MOST, "places", "names too many folders")
        for shown, folder in self.places:
            _require(is_inside(shown) and _can_be(shown), "places", "leads elsewhere")
            _require_folder(folder, "places")
        _require(self.unlisted >= 0, "unlisted", "is negative")
        _require(len(self.written) <= MOST_WRITTEN, "written", "names too many paths")


class Outputs:
    """All outputs of a run on a host, put together from parts."""

    def __init__(self) -> None:
        self.outputs, self.code, self.elsewhere = PackedFiles(), PackedFiles(), PackedFiles()
        self.links: list[tuple[str, str]] = []
        self.same: list[tuple[str, str]] = []

    def take(self, part: Files) -> None:
        """Add a part."""
        self.outputs.extend(part.outputs)
        self.code.extend(part.code)
        self.elsewhere.extend(part.elsewhere)
        self.links += part.links
        self.same += part.same


def _can_be(path: str) -> bool:
    """Return whether a file of this machine can have that path."""
    try:
        return len(os.fsencode(path)) > 0
    except UnicodeEncodeError:
        return False


def is_inside(path: str) -> bool:
    """Return whether a path is relative and stays in its folder."""
    return (
        path != "" and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")
    )


@frozen
class Left:
    """A process that is still there."""

    pid: int
    command: str = ""


@frozen
class Swept:
    """What a look at all processes of a host has found."""

    left: tuple[Left, ...]
    killed: int
    scanned: int
    unreadable: int

    def __post_init__(self) -> None:
        _require(len(self.left) <= 1 << 20, "left", "more processes than a host has")
        _require(min(self.killed, self.scanned, self.unreadable) >= 0, "scanned", "is negative")


@frozen
class KeptPython:
    """A Python on a host that has imported modules for the next run, and stays for ``left`` seconds."""

    modules: tuple[str, ...]
    command: str
    since: float
    left: float
    pids: tuple[int, ...]
    memory: int

    def __post_init__(self) -> None:
        _require(len(self.pids) <= MOST, "pids", "more processes than a host has")
        _require(0 <= self.memory < 1 << 60, "memory", "more than a host has")
        _require(len(self.command) <= LONGEST_PATH, "command", "is too long")
        _require_moment(self.since, "since")
        _require_moment(self.left, "left")


@frozen
class Kept:
    """What a host keeps for the next run, and how many it has just ended."""

    kept: tuple[KeptPython, ...]
    ended: int

    def __post_init__(self) -> None:
        _require(len(self.kept) <= MOST and self.ended >= 0, "kept", "more than a host keeps")


@frozen
class Expiry:
    """When a supervisor stopped a run on its own, and how long no launcher had reached it."""

    time: float
    silent: float

    def __post_init__(self) -> None:
        _require_moment(self.time, "time")
        _require_moment(self.silent, "silent")


@frozen
class Standing:
    """Whether a supervisor owns a run, by a clock that says ``now``."""

    alive: bool
    now: float
    expiry: Expiry | None = None

    def __post_init__(self) -> None:
        _require_moment(self.now, "now")


@frozen
class RunThere:
    """A run of this user on a host, with the record that its launcher left there. ``waits``: the host is
    to start it."""

    run: str
    alive: bool
    started: bool
    record: Mapping[str, Any] | None = None
    waits: bool = False

    def __post_init__(self) -> None:
        _require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")


@frozen
class Registered:
    """A run of any user that is running on a host, with the GPUs that it holds."""

    run: str
    gpus: tuple[int, ...] = ()
    user: str | int | None = None
    since: float | None = None

    def __post_init__(self) -> None:
        _require_moment(self.since or 0.0, "since")


@frozen
class Runs:
    """The runs of this user on a host, and the running ones of all users."""

    runs: tuple[RunThere, ...]
    going_on: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        for one in self.going_on:  # passed on with what later versions add
            from_json(Registered, one)


#: Most runs, versions of code and agents that a host names.
MOST_ENTRIES = 20_000


@frozen
class UsedByCode:
    """A version of a source on a host: its bytes, and when a run last used it."""

    source: str
    version: str
    bytes: int
    used: float

    def __post_init__(self) -> None:
        plain = re.match(r"[0-9a-f]{1,64}\Z", self.source) and re.match(
            r"[\w.-]{1,128}\Z", self.version, re.A
        )
        _require(bool(plain), "version", "not the name of a version")
        _require(self.bytes >= 0, "bytes", "is negative")
        _require_moment(self.used, "used")


@frozen
class UsedByRun:
    """A run on a host: its bytes without the code that versions share, and when it last wrote."""

    run: str
    bytes: int
    used: float
    alive: bool

    def __post_init__(self) -> None:
        _require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")
        _require(self.bytes >= 0, "bytes", "is negative")
        _require_moment(self.used, "used")


@frozen
class UsedByAgent:
    """An agent on a host, and whether any process is one."""

    agent: str
    bytes: int
    in_use: bool

    def __post_init__(self) -> None:
        plain = re.match(r"agent-[\w.]{1,128}\Z", self.agent, re.A)
        _require(bool(plain), "agent", "not the name of an agent")
        _require(self.bytes >= 0, "bytes", "is negative")


@frozen
class UsedByEnvironment:
    """An environment that a host has built, when a run last asked for it, and whether one uses it."""

    env: str
    bytes: int
    used: float
    in_use: bool

    def __post_init__(self) -> None:
        _require(
            bool(re.match(r"[0-9a-f]{20}\Z", self.env)), "env", "not the key of an environment"
        )
        _require(self.bytes >= 0, "bytes", "is negative")
        _require_moment(self.used, "used")


@frozen
class UsedByImage:
    """An image that a launcher brought to a host, or a file of one that is left there."""

    image: str
    name: str
    bytes: int
    used: float
    in_use: bool

    def __post_init__(self) -> None:
        _require(_KEPT.match(self.image) is not None, "image", "not the key of an image")
        _require(_NAME_OF_IMAGE.match(self.name) is not None, "name", "not the name of an image")
        _require(self.bytes >= 0, "bytes", "is negative")
        _require_moment(self.used, "used")


@frozen
class Usage:
    """What launcher's files take on a host, and how much of its disk is free. ``stubs`` are lock files
    that an earlier version has left, ``data`` the bytes of data sets."""

    free: int
    code: tuple[UsedByCode, ...]
    runs: tuple[UsedByRun, ...]
    agents: tuple[UsedByAgent, ...]
    stubs: int = 0
    data: int = 0
    envs: tuple[UsedByEnvironment, ...] = ()
    images: tuple[UsedByImage, ...] = ()

    def __post_init__(self) -> None:
        kinds = (self.code, self.runs, self.agents, self.envs, self.images)
        most = max(len(one) for one in kinds)
        _require(most <= MOST_ENTRIES, "runs", "more than a host has")
        _require(min(self.free, self.stubs, self.data) >= 0, "free", "is negative")


@frozen
class Pruned:
    """What was to be deleted on a host and is still in use."""

    kept: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(len(self.kept) <= 2 * MOST_ENTRIES, "kept", "more than was asked for")


@frozen
class Supervised:
    """A supervisor runs; ``stayed``: it is that of the attempt before, with what that has imported."""

    stayed: int = 0


@frozen
class Contacted:
    """For how many seconds the supervisor has not answered its relay."""

    silent: float = 0.0

    def __post_init__(self) -> None:
        _require_moment(self.silent, "silent")


@frozen
class Image:
    """How far a host is with the image that a run wants; what it has, once it is there.

    ``code`` says what is in the way, and ``said`` what the runtime said of it. ``place`` is where a file
    of the image goes, or where it is, and ``bytes`` how much of it is written so far. ``machine`` is
    what kind the host is.
    """

    state: str
    id: str = ""
    runtime: str = ""
    program: str = ""
    spec: ContainerSpec | None = None
    python: str = ""
    python_version: str = ""
    code: str = ""
    said: str = ""
    log: str = ""
    place: str = ""
    bytes: int = 0
    machine: str = ""

    def __post_init__(self) -> None:
        _require(self.bytes >= 0, "bytes", "is negative")
        _require(len(self.machine) <= 64, "machine", "is too long")
        _require(self.state in IMAGE_STATES, "state", f"unknown: {self.state[:80]!r}")
        _require(not self.id or _ID.match(self.id) is not None, "id", "not the ID of an image")
        _require(self.state != "there" or self.spec is not None, "spec", "is missing")
        for name in ("program", "python", "place"):
            path = getattr(self, name)
            _require(len(path) <= LONGEST_PATH, name, "is too long")
            _require(not path or path.startswith("/"), name, "is no path")
        # its last part becomes the name of a file here
        _require(not self.place or _FILE.search(self.place) is not None, "place", "is no file")
        for name in ("said", "log", "code", "python_version", "runtime"):
            _require(len(getattr(self, name)) <= LONGEST_MESSAGE, name, "is too long")


@frozen
class ImageBuild:
    """How far a host is with the build of an image, and whether it can build one: by ``program``, for
    its ``machine``.

    ``log`` is a piece of what the build has printed, of so many ``bytes``. Once it is done, ``id`` is
    the image, and ``bases`` are the IDs of those that it began from. ``place`` is where the files go
    that it may copy.
    """

    state: str
    runtime: str = ""
    program: str = ""
    machine: str = ""
    place: str = ""
    id: str = ""
    code: str = ""
    said: str = ""
    log: str = ""
    bytes: int = 0
    bases: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.state in IMAGE_STATES, "state", f"unknown: {self.state[:80]!r}")
        _require(bool(self.id) or self.state != "done" or not self.machine, "id", "is missing")
        for one in (self.id, *self.bases.values()):
            _require(not one or _ID.match(one) is not None, "id", "not the ID of an image")
        for name in ("program", "place"):
            path = getattr(self, name)
            _require(len(path) <= LONGEST_PATH, name, "is too long")
            _require(not path or path.startswith("/"), name, "is no path")
        _require(not self.place or _FILE.search(self.place) is not None, "place", "is no folder")
        _require(self.runtime in ("", *RUNTIMES), "runtime", f"unknown: {self.runtime[:80]!r}")
        _require(0 <= self.bytes <= LONGEST_MESSAGE, "bytes", "no piece of a log")
        _require(len(self.bases) <= MOST_NAMED, "bases", "more than a Dockerfile names")
        for name in ("said", "log", "code", "machine"):
            _require(len(getattr(self, name)) <= LONGEST_MESSAGE, name, "is too long")


@frozen
class ImageThere:
    """An image that runs on a host have used, or that a launcher brought: its names, or its path; its
    bytes, None where they are not counted; and the runs and other containers that use it now."""

    key: str
    runtime: str
    id: str
    names: tuple[str, ...]
    bytes: int | None
    used: float
    brought: bool = False
    runs: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(re.match(r"[0-9a-f]{20}\Z", self.key) is not None, "key", "not a key")
        _require(not self.id or _ID.match(self.id) is not None, "id", "not the ID of an image")
        _require(self.runtime in RUNTIMES, "runtime", f"unknown: {self.runtime[:80]!r}")
        _require((self.bytes or 0) >= 0, "bytes", "is negative")
        _require_moment(self.used, "used")
        for where in ("names", "runs", "containers"):
            named = getattr(self, where)
            _require(len(named) <= MOST_NAMED, where, "more than a host names")
            for one in named:
                _require(_NAME_OF_IMAGE.match(one) is not None, where, f"not a name: {one[:80]!r}")

    @property
    def label(self) -> str:
        """What people call it: its first name, else its ID."""
        return self.names[0] if self.names else self.id[:SHORT]


@frozen
class RuntimeTrouble:
    """Why a container runtime does not tell of its images."""

    code: str
    said: str = ""

    def __post_init__(self) -> None:
        _require(len(self.code) + len(self.said) <= LONGEST_MESSAGE, "said", "is too long")


@frozen
class ImagesThere:
    """The images of a host, and by runtime, why it does not tell of its own."""

    images: tuple[ImageThere, ...]
    trouble: Mapping[str, RuntimeTrouble] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(len(self.images) <= MOST, "images", "more than a host has")
        _require({*RUNTIMES}.issuperset(self.trouble), "trouble", "an unknown runtime")


@frozen
class ImageRemoved:
    """Whether an image is gone; else ``by`` whom it is used, or what the runtime ``said``."""

    state: str
    by: tuple[str, ...] = ()
    code: str = ""
    said: str = ""

    def __post_init__(self) -> None:
        _require(self.state in REMOVAL_STATES, "state", f"unknown: {self.state[:80]!r}")
        _require(len(self.by) <= MOST_NAMED, "by", "more than a host names")
        for one in (*self.by, self.code, self.said):
            _require(len(one) <= LONGEST_MESSAGE, "said", "is too long")


@frozen
class Missing:
    """The modules that the host's Python does not find, and the packages that it has."""

    missing: tuple[str, ...]
    packages: tuple[str, ...] = ()
    trouble: str = ""  # why the job's environment cannot be activated there

    def __post_init__(self) -> None:
        _require(len(self.trouble) <= LONGEST_MESSAGE, "trouble", "is too long")
        _require(len(self.packages) <= MOST, "packages", "more than a Python has")
        for one in self.packages:
            _require(_PACKAGE.match(one) is not None, "packages", f"not a package: {one[:80]!r}")


@frozen
class Pythons:
    """What was said of the Pythons of environments, in the order in which they were asked for."""

    said: tuple[str, ...]

    def __post_init__(self) -> None:
        for one in self.said:
            _require(len(one) <= LONGEST_PATH, "said", "is too long")


_PYTHON_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}(?:(?:a|b|rc)\d{1,4})?\Z", re.A)
_ABI = re.compile(r"[a-z]{1,8}\d{1,8}[a-z]{0,4}\Z", re.A)
_MACHINE = re.compile(r"[A-Za-z0-9_]{1,32}\Z")
_LIBC = re.compile(r"(?:glibc \d{1,4}\.\d{1,4}[\w.+-]{0,32})?\Z", re.A)
_SUM = re.compile(r"[0-9a-f]{32}\Z")
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


@frozen
class WantedWheels:
    """What decides which wheels a host needs: its Python, machine and C library ("": not glibc); and the
    ``files`` of the code that say it, with their ``sum``, and packages that are ``folders`` there."""

    python: str
    implementation: str
    abi: str
    machine: str
    libc: str
    files: tuple[str, ...]
    sum: str
    is_lock: bool
    folders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(_PYTHON_VERSION.match(self.python) is not None, "python", "not a version")
        _require(_MACHINE.match(self.implementation) is not None, "implementation", "not a name")
        _require(_ABI.match(self.abi) is not None, "abi", "not an ABI of Python")
        _require(_MACHINE.match(self.machine) is not None, "machine", "not a kind of machine")
        _require(_LIBC.match(self.libc) is not None, "libc", "not a C library")
        _require(_SUM.match(self.sum) is not None, "sum", "not a sum")
        _require(0 < len(self.files) <= 200, "files", "none, or too many")
        for path in self.files:
            fits = not path.startswith("/") and ".." not in path.split("/") and "\0" not in path
            _require(fits and 0 < len(path) <= LONGEST_PATH, "files", "not a path in the code")
        _require(len(self.folders) <= MOST, "folders", "too many")
        for name in self.folders:
            _require(_PACKAGE_NAME.match(name) is not None, "folders", "not a package")


@frozen
class Environment:
    """How far a host is with an environment that a run wants; ``python`` is there, once it is there.

    ``said`` is the last line of what builds it, the program ``tool``, and ``log`` the end of it all.
    Without one, a host says which it could be given: for its ``machine`` and ``libc``, below ``tools``.
    Without wheels, it says which are ``wanted``.
    """

    state: str
    python: str = ""
    said: str = ""
    log: str = ""
    machine: str = ""
    libc: str = ""
    tools: str = ""
    tool: str = ""
    wanted: WantedWheels | None = None

    def __post_init__(self) -> None:
        _require((self.state == "no-wheels") == (self.wanted is not None), "wanted", "out of place")
        _require(len(self.tool) <= 100, "tool", "is too long")
        _require(self.state in BUILD_STATES, "state", f"unknown: {self.state[:80]!r}")
        for name in ("python", "tools"):
            path = getattr(self, name)
            _require(len(path) <= LONGEST_PATH, name, "is too long")
            _require(not path or path.startswith("/"), name, "is no path")
        _require(len(self.said) + len(self.log) <= LONGEST_MESSAGE, "log", "is too long")


@frozen
class EchoPorts:
    """Where a host answers the network tests of the others."""

    ports: tuple[int, ...]
    high: int
    udp: int

    def __post_init__(self) -> None:
        for port in (*self.ports, self.high, self.udp):
            _require_port(port, "ports")


@frozen
class Resolved:
    """What the names of other hosts mean on a host; None where they mean nothing."""

    names: Mapping[str, tuple[str, ...] | None]


@frozen
class Route:
    """How a host has reached another one; see :class:`launcher.fleet.findings.survey.PairTest`."""

    address: str | None
    complete: tuple[str, ...]
    interface: str | None
    closed: Mapping[int, str]
    mtu: int | None = None
    mtu_expected: int | None = None
    round_trip: float | None = None
    large: bool | None = None

    def __post_init__(self) -> None:
        _require_interface(self.interface, "interface")
        for address in (self.address, *self.complete):
            _require(address is None or is_address(address), "address", "not an address")


@frozen
class Explored:
    """The routes that were asked for, in their order."""

    ways: tuple[Route, ...]


@frozen
class Measured:
    """Bytes a second to another host; None where nothing arrived."""

    bandwidth: float | None


@frozen
class Surveyed:
    """What a check measured on a host: :class:`Facts`, and more."""

    facts: Mapping[str, Any]


@frozen
class Ended:
    """How many processes of earlier runs were killed."""

    ended: int


def facts(host: str, op: str, answer: Mapping[str, Any], clock_offset: float) -> Facts:
    """Return an agent's description of its host. Raises BadAnswer."""
    found = read(Facts, host, op, {**answer, "host": host, "clock_offset": clock_offset})
    try:
        _require_facts(found)
    except Mismatch as error:
        raise BadAnswer(host, f"its answer to {op}: {error}") from None
    return found


def _require_users(users: tuple[GpuUser, ...]) -> None:
    _require(len(users) <= MOST, "gpu_users", "more than a host has")
    for use in users:
        _require(0 <= use.gpu < MOST and use.memory >= 0, "gpu_users", "not a process on a GPU")
        _require(max(len(use.user or ""), len(use.command)) <= 256, "gpu_users", "is too long")
        _require_moment(use.since or 0.0, "gpu_users")


def _require_facts(found: Facts) -> None:
    _require(max(len(found.gpus), len(found.addresses)) <= MOST, "gpus", "more than a host has")
    for name, address in found.addresses:
        _require_interface(name, "addresses")
        _require_address(address, "addresses")
    if found.ssh_address is not None:
        _require_address(re.sub(r"%[\w.-]{1,15}\Z", "", found.ssh_address), "ssh_address")
    _require_folder(found.root, "root")
    _require(len(found.machine) <= 64, "machine", "is too long")
    _require(len(found.no_paths) <= MOST, "no_paths", "more than a job needs")
    _require(len(found.silent_paths) <= MOST, "silent_paths", "more than a job needs")
    _require(len(found.own_hosts) <= 64, "own_hosts", "is too long")
    _require(len(found.hostname) <= 255, "hostname", "is too long")
    _require(len(found.user) <= 256, "user", "is too long")
    _require(len(found.python) <= LONGEST_PATH, "python", "is too long")
    _require(0 <= found.cpus <= 1 << 16, "cpus", f"not a number of CPUs: {found.cpus}")
    for name, value in found.visible.items():
        _require(len(name) + len(value) <= LONGEST_PATH, "visible", "is too long")
    _require_users(found.gpu_users)
    for gpu in found.gpus:
        _require(0 <= gpu.index < MOST and gpu.memory >= 0, "gpus", "not a GPU")
    for holder in found.leased.values():
        from_json(Holder, holder)
