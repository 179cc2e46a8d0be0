"""What a host says of images, and of its container runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from ...spec.containers import RUNTIMES, SHORT, ContainerSpec
from ...spec.frozen import frozen
from .reading import FILE, LONGEST_MESSAGE, LONGEST_PATH, MOST, MOST_NAMED, require, require_moment

#: How far an image is.
IMAGE_STATES = ("there", "missing", "trouble", "working", "done", "failed", "busy", "yours")
#: What becomes of an image that is to be removed.
REMOVAL_STATES = ("removed", "missing", "used", "failed", "of-host")
_ID = re.compile(r"[0-9a-f]{64}\Z")
#: The key of an image that a host keeps.
KEPT = re.compile(
    r"[0-9a-f]{20}\Z|[0-9a-f]{64}\.tar\Z|saved-[0-9]{1,20}\.tar\Z|context-[0-9a-f]{16}\Z"
)
#: The name of an image.
NAME_OF_IMAGE = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,4096}\Z")


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
        require(self.bytes >= 0, "bytes", "is negative")
        require(len(self.machine) <= 64, "machine", "is too long")
        require(self.state in IMAGE_STATES, "state", f"unknown: {self.state[:80]!r}")
        require(not self.id or _ID.match(self.id) is not None, "id", "not the ID of an image")
        require(self.state != "there" or self.spec is not None, "spec", "is missing")
        for name in ("program", "python", "place"):
            path = getattr(self, name)
            require(len(path) <= LONGEST_PATH, name, "is too long")
            require(not path or path.startswith("/"), name, "is no path")
        # its last part becomes the name of a file here
        require(not self.place or FILE.search(self.place) is not None, "place", "is no file")
        for name in ("said", "log", "code", "python_version", "runtime"):
            require(len(getattr(self, name)) <= LONGEST_MESSAGE, name, "is too long")


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
        require(self.state in IMAGE_STATES, "state", f"unknown: {self.state[:80]!r}")
        require(bool(self.id) or self.state != "done" or not self.machine, "id", "is missing")
        for one in (self.id, *self.bases.values()):
            require(not one or _ID.match(one) is not None, "id", "not the ID of an image")
        for name in ("program", "place"):
            path = getattr(self, name)
            require(len(path) <= LONGEST_PATH, name, "is too long")
            require(not path or path.startswith("/"), name, "is no path")
        require(not self.place or FILE.search(self.place) is not None, "place", "is no folder")
        require(self.runtime in ("", *RUNTIMES), "runtime", f"unknown: {self.runtime[:80]!r}")
        require(0 <= self.bytes <= LONGEST_MESSAGE, "bytes", "no piece of a log")
        require(len(self.bases) <= MOST_NAMED, "bases", "more than a Dockerfile names")
        for name in ("said", "log", "code", "machine"):
            require(len(getattr(self, name)) <= LONGEST_MESSAGE, name, "is too long")


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
        require(re.match(r"[0-9a-f]{20}\Z", self.key) is not None, "key", "not a key")
        require(not self.id or _ID.match(self.id) is not None, "id", "not the ID of an image")
        require(self.runtime in RUNTIMES, "runtime", f"unknown: {self.runtime[:80]!r}")
        require((self.bytes or 0) >= 0, "bytes", "is negative")
        require_moment(self.used, "used")
        for where in ("names", "runs", "containers"):
            named = getattr(self, where)
            require(len(named) <= MOST_NAMED, where, "more than a host names")
            for one in named:
                require(NAME_OF_IMAGE.match(one) is not None, where, f"not a name: {one[:80]!r}")

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
        require(len(self.code) + len(self.said) <= LONGEST_MESSAGE, "said", "is too long")


@frozen
class ImagesThere:
    """The images of a host, and by runtime, why it does not tell of its own."""

    images: tuple[ImageThere, ...]
    trouble: Mapping[str, RuntimeTrouble] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(self.images) <= MOST, "images", "more than a host has")
        require({*RUNTIMES}.issuperset(self.trouble), "trouble", "an unknown runtime")


@frozen
class ImageRemoved:
    """Whether an image is gone; else ``by`` whom it is used, or what the runtime ``said``."""

    state: str
    by: tuple[str, ...] = ()
    code: str = ""
    said: str = ""

    def __post_init__(self) -> None:
        require(self.state in REMOVAL_STATES, "state", f"unknown: {self.state[:80]!r}")
        require(len(self.by) <= MOST_NAMED, "by", "more than a host names")
        for one in (*self.by, self.code, self.said):
            require(len(one) <= LONGEST_MESSAGE, "said", "is too long")
