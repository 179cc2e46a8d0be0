"""What goes on for each host that a run waits for, told now and then for as long as it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ..spec.frozen import frozen
from .concurrency import beside

#: Seconds before the first line about what goes on, and between two of them.
FIRST, TELL = 1.0, 10.0


@frozen
class Doing:
    """What goes on for a host, since when; how many bytes it has moved, and of how many (0: unknown)."""

    said: str
    since: float
    done: int = 0
    total: int = 0


@frozen
class Told:
    """All hosts that wait ``now``, and what goes on for the first of them."""

    now: float
    hosts: tuple[str, ...]
    host: str
    doing: Doing

    @property
    def seconds(self) -> float:
        """How long that has gone on."""
        return self.now - self.doing.since


class Doings:
    """Remembers what goes on for hosts."""

    def __init__(self) -> None:
        self._known: dict[str, Doing] = {}

    def note(self, host: str, said: str, done: int = 0, total: int = 0) -> None:
        """Remember what goes on for a host. The same words go on, and so do others as long as no bytes
        have been counted."""
        before = self._known.get(host)
        goes_on = before is not None and (before.said == said or not (before.done or done))
        since = before.since if before and goes_on else time.time()
        self._known[host] = Doing(said, since, done, total)

    def over(self, host: str) -> None:
        """Forget a host: nothing goes on for it."""
        self._known.pop(host, None)

    @asynccontextmanager
    async def told(self, tell: Callable[[Told], None]) -> AsyncIterator[None]:
        """Tell what goes on now and then, while the body runs."""

        async def every_so_often() -> None:
            await asyncio.sleep(FIRST)
            while True:
                if self._known:
                    host, doing = next(iter(self._known.items()))
                    tell(Told(time.time(), tuple(self._known), host, doing))
                await asyncio.sleep(TELL)

        async with beside(every_so_often()):
            yield
