"""What a host says of data sets."""

from __future__ import annotations

import re

from ...spec.frozen import frozen
from .outputs import is_inside
from .reading import (
    LONGEST_PATH,
    MOST,
    MOST_NAMED,
    MOST_TICKETS,
    require,
    require_address,
    require_folder,
    require_moment,
    require_port,
)


@frozen
class DataBegun:
    """Whether a host has a version of a data set, or another run is bringing it (``busy``); else where a
    copy goes, and the files of an earlier version."""

    have: bool
    busy: bool = False
    folder: str = "/"
    base: str = ""

    def __post_init__(self) -> None:
        require_folder(self.folder, "folder")
        if self.base:
            require_folder(self.base, "base")


@frozen
class DataNearby:
    """Other users of a host who share a version of a data set."""

    users: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.users) <= MOST_NAMED, "users", "names too many")


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
        require(self.bytes >= 0, "bytes", "is negative")
        require(len(self.user) <= 256, "user", "is too long")
        require(len(self.why) <= 2 * LONGEST_PATH, "why", "is too long")


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
        require(min(self.read, self.files, self.bytes) >= 0, "bytes", "is negative")
        require_folder(self.folder, "folder")
        require_folder(self.place, "place")
        if self.over:
            _require_version(self.version)
        if self.unfit is not None:
            from ...agent.base.folder_sums import REASONS  # few runs need it

            require(self.unfit[0] in REASONS, "unfit", "not a reason")
            require(max(map(len, self.unfit)) <= LONGEST_PATH, "unfit", "is too long")


@frozen
class DataExamined:
    """What differs from the manifest of a data set on a host: some paths with the reason, and how many.
    ``here``: whether the host has it at all."""

    bad: tuple[tuple[str, str], ...]
    count: int
    here: bool = True

    def __post_init__(self) -> None:
        require(len(self.bad) <= MOST_NAMED, "bad", "names too many files")
        require(self.count >= len(self.bad), "count", "is too small")


@frozen
class DataObjects:
    """Objects of a store that a copy on a host lacks, with their bytes."""

    objects: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        require(len(self.objects) <= MOST, "objects", "more than was asked for")
        for path, size in self.objects:
            require(is_inside(path) and size >= 0, "objects", f"leads elsewhere: {path[:80]!r}")


@frozen
class DataFetched:
    """The bytes that a host has read from a store, and the objects that it has not, each with a code
    and what the store said."""

    bytes: int
    failed: tuple[tuple[str, str, str], ...]

    def __post_init__(self) -> None:
        require(self.bytes >= 0, "bytes", "is negative")
        require(len(self.failed) <= MOST, "failed", "more than was asked for")
        for _, code, text in self.failed:
            require(code in ("expired", "changed", "later", "refused"), "failed", "not a code")
            require(len(text) <= 1000, "failed", "is too long")


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
        require(re.match(r"([0-9a-f]{2}){0,131072}\Z", self.have) is not None, "have", "no bitmap")
        require(min(self.took, self.heard, self.read) >= 0, "took", "is negative")
        require(len(self.reached) <= MOST, "reached", "more hosts than there are")
        require(len(self.failed) <= MOST, "failed", "more than was asked for")
        for _, path, code, text in self.failed:
            require(code in ("expired", "changed", "later", "refused"), "failed", "not a code")
            require(len(path) + len(text) <= 2 * LONGEST_PATH, "failed", "is too long")

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
        require_port(self.port, "port")
        require(len(self.addresses) <= MOST, "addresses", "more than a host has")
        for one in self.addresses:
            require_address(one, "addresses")


@frozen
class DataPut:
    """What became of parts of files that a host has written to a store: tag, sha256, a code and a text
    of what went wrong."""

    results: tuple[tuple[str, str, str, str], ...]

    def __post_init__(self) -> None:
        require(len(self.results) <= MOST, "results", "more than was asked for")
        for tag, found, code, text in self.results:
            require(len(tag) <= 256 and not set(tag) & set('"<>&'), "results", "not a tag")
            require(re.match(r"([0-9a-f]{64})?\Z", found) is not None, "results", "not a sum")
            require(code in ("", "changed", "refused"), "results", "not a code")
            require(len(text) <= 1000, "results", "is too long")


@frozen
class DataSum:
    """The sha256 of a file on a host; "" if it is gone."""

    sum: str

    def __post_init__(self) -> None:
        require(re.match(r"([0-9a-f]{64})?\Z", self.sum) is not None, "sum", "not a sum")


@frozen
class DataMissing:
    """The versions that a host does not have."""

    missing: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.missing) <= MOST, "missing", "more than was asked for")


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
        require(len(self.name) <= 64, "name", "is too long")
        require(min(self.bytes, self.files) >= 0, "bytes", "is negative")
        require_moment(self.used, "used")
        require(len(self.runs) <= MOST_NAMED, "runs", "more than a host names")


def _require_version(value: str) -> None:
    require(re.match(r"[0-9a-f]{32}\Z", value) is not None, "version", "not a version of data")


@frozen
class DataSets:
    """The data sets of a host."""

    sets: tuple[DataThere, ...]

    def __post_init__(self) -> None:
        require(len(self.sets) <= MOST_TICKETS * 8, "sets", "more than a host has")


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
        require(self.freed >= 0, "freed", "is negative")
        for one in self.kept:
            _require_version(one)
