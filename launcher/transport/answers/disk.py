"""What launcher's files take on a host."""

from __future__ import annotations

import re

from ...spec.frozen import frozen
from ...spec.run_name import is_run_name
from .images import KEPT, NAME_OF_IMAGE
from .reading import MOST_ENTRIES, require, require_moment


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
        require(bool(plain), "version", "not the name of a version")
        require(self.bytes >= 0, "bytes", "is negative")
        require_moment(self.used, "used")


@frozen
class UsedByRun:
    """A run on a host: its bytes without the code that versions share, and when it last wrote."""

    run: str
    bytes: int
    used: float
    alive: bool

    def __post_init__(self) -> None:
        require(is_run_name(self.run), "run", f"not the name of a run: {self.run[:80]!r}")
        require(self.bytes >= 0, "bytes", "is negative")
        require_moment(self.used, "used")


@frozen
class UsedByAgent:
    """An agent on a host, and whether any process is one."""

    agent: str
    bytes: int
    in_use: bool

    def __post_init__(self) -> None:
        plain = re.match(r"agent-[\w.]{1,128}\Z", self.agent, re.A)
        require(bool(plain), "agent", "not the name of an agent")
        require(self.bytes >= 0, "bytes", "is negative")


@frozen
class UsedByEnvironment:
    """An environment that a host has built, when a run last asked for it, and whether one uses it."""

    env: str
    bytes: int
    used: float
    in_use: bool

    def __post_init__(self) -> None:
        require(bool(re.match(r"[0-9a-f]{20}\Z", self.env)), "env", "not the key of an environment")
        require(self.bytes >= 0, "bytes", "is negative")
        require_moment(self.used, "used")


@frozen
class UsedByImage:
    """An image that a launcher brought to a host, or a file of one that is left there."""

    image: str
    name: str
    bytes: int
    used: float
    in_use: bool

    def __post_init__(self) -> None:
        require(KEPT.match(self.image) is not None, "image", "not the key of an image")
        require(NAME_OF_IMAGE.match(self.name) is not None, "name", "not the name of an image")
        require(self.bytes >= 0, "bytes", "is negative")
        require_moment(self.used, "used")


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
        require(most <= MOST_ENTRIES, "runs", "more than a host has")
        require(min(self.free, self.stubs, self.data) >= 0, "free", "is negative")


@frozen
class Pruned:
    """What was to be deleted on a host and is still in use."""

    kept: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.kept) <= 2 * MOST_ENTRIES, "kept", "more than was asked for")
