"""Tells how far outputs are on their way to a store, and from there."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...transport.agent_client import Agent

#: Called with a host or ``store``, with the bytes that are done, and with how many there are.
OnStored = Callable[[str, int, int], None]


class Uploading:
    """How far the files of one host are."""

    def __init__(self, host: str, total: int, tell: OnStored) -> None:
        self._host, self._total, self._tell = host, total, tell
        self._done = 0

    @contextmanager
    def heard(self, agent: Agent) -> Iterator[None]:
        """Tell what the host says of the request that it is at, until the block is left."""
        before = agent.on_working
        agent.on_working = lambda done: self._tell(self._host, self._done + done, self._total)
        try:
            yield
        finally:
            agent.on_working = before

    def add(self, size: int) -> None:
        """Count bytes that are in the store."""
        self._done += size
        self._tell(self._host, self._done, self._total)


class Downloading:
    """How far what comes from a store is. Several threads may use it."""

    def __init__(self, tell: OnStored, going_on: Callable[[], None]) -> None:
        self._tell, self._going_on = tell, going_on
        self._lock = threading.Lock()
        self._done = self._total = 0

    def expect(self, size: int) -> None:
        """Count bytes that will come, or with a minus those that are here already."""
        with self._lock:
            self._total += size
            self._tell("store", self._done, self._total)

    def came(self, size: int) -> None:
        """Count bytes that came. Raises what ``going_on`` raises, when nobody waits for them."""
        self._going_on()
        with self._lock:
            self._done += size
            self._tell("store", self._done, self._total)


def part_of(place: Path) -> Path:
    """Return where a file is while it comes: beside its place, under a name that no file is too long
    for."""
    name = hashlib.sha256(os.fsencode(place.name)).hexdigest()[:32]
    return place.with_name(f".{name}.part")
