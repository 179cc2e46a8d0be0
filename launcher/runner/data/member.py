"""A host that takes part in a copy of a data set from host to host."""

from __future__ import annotations

import time

from ...spec.errors import LauncherError
from ...transport.agent_client import Agent
from ...transport.answers.data import DataBegun, DataOpened, DataPassed
from .host import Host

#: Seconds after which a host that gets nothing from the others gets it from the source.
STUCK = 10.0


class Member:
    """What is known of a host, and what was done for it. Sets of blocks are bitmaps."""

    def __init__(self, host: Host, agent: Agent) -> None:
        self.host, self.agent = host, agent
        self.name = host.name
        self.have = 0
        self.is_whole = False
        self.error: LauncherError | None = None
        self.begun: DataBegun | None = None
        self.opened: DataOpened | None = None
        self.given: set[int] = set()  # blocks that are on their way to it
        self.sent = 0  # bytes from here
        self.seen = DataPassed("")
        self.joined = self.moved = time.monotonic()
        self.tries = self.refusals = 0
        self.is_direct = False  # other hosts give it nothing any more
        self.failed: dict[int, tuple[str, str, str]] = {}

    @classmethod
    def that_failed(cls, host: Host, error: LauncherError) -> Member:
        """Return a host that cannot take part."""
        one = cls(host, Agent.absent(host.agent.host))
        one.error = error
        return one

    @property
    def is_alive(self) -> bool:
        """Whether it takes part."""
        return self.error is None

    @property
    def places(self) -> list[list[str | int]]:
        """The addresses and ports at which other hosts may find it."""
        assert self.opened
        host = self.host.agent.host
        known = [host.address] if host.address else []
        return [
            [address, self.opened.port]
            for address in dict.fromkeys([*known, *self.opened.addresses])
        ]

    @property
    def on_their_way(self) -> int:
        """The blocks that are on their way to it."""
        found = 0
        for number in self.given:
            found |= 1 << number
        return found

    def missing(self, everything: int) -> int:
        """Return the blocks that it lacks."""
        return everything & ~self.have

    def is_stuck(self, now: float) -> bool:
        """Return whether other hosts give it nothing."""
        return self.is_direct or now > self.moved + STUCK
