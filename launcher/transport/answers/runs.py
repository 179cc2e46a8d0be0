"""What a host says of the runs that are there, and answers to requests about one of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...spec.frozen import frozen
from ...spec.packed import LARGEST
from ...spec.run_name import is_run_name
from ...spec.typed_json import from_json
from .queue import Holder, Registered
from .reading import LONGEST_MESSAGE, LONGEST_PATH, MOST, require, require_folder, require_moment


@frozen
class Problem:
    """Why a request was refused: a code, and what belongs to it."""

    code: str
    message: str
    port: int | None = None
    gpu: int | str | None = None
    holder: Holder = Holder()

    def __post_init__(self) -> None:
        require(len(self.message) <= LONGEST_MESSAGE, "message", "is too long")


@frozen
class Fed:
    """The answer to ``stdin``: the bytes of the user's input that were taken, from its beginning, and
    whether nobody reads more of it."""

    taken: int
    over: bool

    def __post_init__(self) -> None:
        require(0 <= self.taken <= LARGEST, "taken", "not a number of bytes")


@frozen
class Clock:
    """The time by the host's clock."""

    time: float

    def __post_init__(self) -> None:
        require_moment(self.time, "time")


#: Most files and links of a version that a host lists.
MOST_KNOWN = 1000


@frozen
class Known:
    """What a version of the code on a host holds: ``(path, size, time, mode)`` of files, and path and
    target of links."""

    files: tuple[tuple[str, int, int, int], ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        require(len(self.files) + len(self.links) <= MOST_KNOWN, "files", "too many")


@frozen
class Snapshot:
    """Whether the host has a version of the code; else where a copy goes, beside which version, and
    what that one holds where it is little."""

    have: bool
    base: str | None = None
    folder: str = "/"
    grain: int = 1  # nanoseconds that times of files there are multiples of
    known: Known | None = None

    def __post_init__(self) -> None:
        require_folder(self.folder, "folder")
        require(0 < self.grain <= 10**10, "grain", "not a unit of time")
        plain = self.base is None or re.match(r"\w[\w.-]{0,99}\Z", self.base, re.A)
        require(bool(plain), "base", "not the name of a version")


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
        require(len(self.left) <= 1 << 20, "left", "more processes than a host has")
        require(min(self.killed, self.scanned, self.unreadable) >= 0, "scanned", "is negative")


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
        require(len(self.pids) <= MOST, "pids", "more processes than a host has")
        require(0 <= self.memory < 1 << 60, "memory", "more than a host has")
        require(len(self.command) <= LONGEST_PATH, "command", "is too long")
        require_moment(self.since, "since")
        require_moment(self.left, "left")


@frozen
class Kept:
    """What a host keeps for the next run, and how many it has just ended."""

    kept: tuple[KeptPython, ...]
    ended: int

    def __post_init__(self) -> None:
        require(len(self.kept) <= MOST and self.ended >= 0, "kept", "more than a host keeps")


@frozen
class Expiry:
    """When a supervisor stopped a run on its own, and how long no launcher had reached it."""

    time: float
    silent: float

    def __post_init__(self) -> None:
        require_moment(self.time, "time")
        require_moment(self.silent, "silent")


@frozen
class Standing:
    """Whether a supervisor owns a run, by a clock that says ``now``."""

    alive: bool
    now: float
    expiry: Expiry | None = None

    def __post_init__(self) -> None:
        require_moment(self.now, "now")


@frozen
class RunThere:
    """A run of this user on a host, with the record that its launcher left there. ``waits``: the host is
    to start it. ``again``: the attempt with which it waits, having given its GPUs back; 0 for none."""

    run: str
    alive: bool
    started: bool
    record: Mapping[str, Any] | None = None
    waits: bool = False
    again: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.again < 1 << 31, "again", "not an attempt")
        require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")


@frozen
class Runs:
    """The runs of this user on a host, and the running ones of all users."""

    runs: tuple[RunThere, ...]
    going_on: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        for one in self.going_on:  # passed on with what later versions add
            from_json(Registered, one)


@frozen
class Supervised:
    """A supervisor runs; ``stayed``: it is that of the attempt before, with what that has imported."""

    stayed: int = 0


@frozen
class Contacted:
    """For how many seconds the supervisor has not answered its relay."""

    silent: float = 0.0

    def __post_init__(self) -> None:
        require_moment(self.silent, "silent")
