"""Who holds the GPUs of a host and who waits for them, as the host says."""

from __future__ import annotations

from collections.abc import Mapping

from ...spec.frozen import frozen
from ...spec.model import GpuUser
from ...spec.run_name import is_run_name
from .reading import LATEST, MOST, MOST_ENTRIES, MOST_TICKETS, require, require_moment


def _require_member(project: str, user: str, gpus: int) -> None:
    require(is_run_name(project), "project", f"not the name of a project: {project[:80]!r}")
    require(len(user) <= 256, "user", "is too long")
    require(0 < gpus <= 1 << 16, "gpus", "not a number of GPUs")


@frozen
class Holder:
    """Who holds a GPU or has a run on a host; empty where the host could not read that."""

    user: str | int | None = None
    run: str | None = None
    since: float | None = None
    left: float | None = None  # seconds until the run ends by itself

    def __post_init__(self) -> None:
        require_moment(self.since or 0.0, "since")
        require(abs(self.left or 0.0) <= LATEST, "left", "not a time")


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
    leads: bool = False
    no_leader: bool = False
    unsure: bool = False

    def __post_init__(self) -> None:
        require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")
        require(0 <= self.part <= MOST, "part", "not a number of GPUs")
        require(0 < len(self.shares) <= 16, "shares", "not the shares of a run")
        for one in (one for share in self.shares for one in share):
            require(0 < one <= MOST, "shares", "not a number of nodes and of GPUs")
        require(abs(self.priority) <= 1, "priority", "not a priority")
        require(abs(self.number) <= 1 << 40, "number", "not a number of a ticket")
        require(0 < self.hosts <= MOST, "hosts", "not a number of hosts")
        require(len(self.user) <= 256, "user", "is too long")
        require(all(0 <= one <= MOST for one in self.only), "only", "not GPUs of a host")
        for moment in (self.waited, self.seconds or 0.0):
            require_moment(moment, "waited")

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
        require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")
        _require_member(self.project, self.user, self.gpus)
        require_moment(self.age, "age")
        require(len(self.held) <= 32, "held", "is too long")


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
        require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")
        _require_member(self.project, self.user, self.gpus)
        fits = len(self.hosts) <= 256 and all(len(one) <= 256 for one in self.hosts)
        require(fits, "hosts", "more than a book names")


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
        require(len(self.members) <= MOST, "members", "more than a host names")
        require(len(self.books) <= MOST, "books", "more than a host names")
        require(max(len(self.user), len(self.holder)) <= 256, "user", "is too long")


@frozen
class Turns:
    """Who waits for GPUs of a host, who holds them, and which of these runs have a project."""

    tickets: tuple[WaitingThere, ...]
    leased: Mapping[int, Holder]
    members: tuple[MemberThere, ...] = ()

    def __post_init__(self) -> None:
        require(len(self.tickets) <= MOST_TICKETS, "tickets", "more than a host names")
        require(len(self.leased) <= MOST, "leased", "more GPUs than a host has")
        require(len(self.members) <= MOST, "members", "more than a host names")


@frozen
class Load:
    """What a GPU does: percent of its time, degrees, MiB in use; None where its tool does not say."""

    percent: int | None = None
    celsius: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        require(0 <= (self.percent or 0) <= 100, "percent", "not a part of its time")
        require(abs(self.celsius or 0) <= 1000, "celsius", "not a temperature")
        require(0 <= (self.memory or 0) <= LATEST, "memory", "not a size")


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
        require(len(self.gpus) <= MOST, "gpus", "more than a host has")
        require(len(self.runs) <= MOST_ENTRIES, "runs", "more than a host has")
        require_users(self.gpu_users)
        require_moment(self.time, "time")

    @property
    def turns(self) -> Turns:
        """The part of it that decides whose turn it is."""
        return Turns(self.tickets, self.leased, self.members)


@frozen
class Registered:
    """A run of any user that is running on a host, with the GPUs that it holds."""

    run: str
    gpus: tuple[int, ...] = ()
    user: str | int | None = None
    since: float | None = None

    def __post_init__(self) -> None:
        require_moment(self.since or 0.0, "since")


def require_users(users: tuple[GpuUser, ...]) -> None:
    """Raise Mismatch unless these are processes on GPUs of one host."""
    require(len(users) <= MOST, "gpu_users", "more than a host has")
    for use in users:
        require(0 <= use.gpu < MOST and use.memory >= 0, "gpu_users", "not a process on a GPU")
        require(max(len(use.user or ""), len(use.command)) <= 256, "gpu_users", "is too long")
        require_moment(use.since or 0.0, "gpu_users")
