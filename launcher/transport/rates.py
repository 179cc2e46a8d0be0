"""Keeps what travels between this machine and hosts to a rate: all copies together.

Copies take shares of the rate, which never add up to more. One that finds nothing left waits until
another has ended. So copies to many hosts take turns, and one alone has the whole rate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

#: Copies at once: more would get little each.
MOST = 4


class Limit:
    """A rate, in bytes a second, and what is left of it."""

    def __init__(self, rate: int) -> None:
        self.rate = self._left = rate
        self._waiting = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def share(self) -> AsyncIterator[int]:
        """Wait for a share, and give it for one copy."""
        least = max(1, self.rate // MOST)
        self._waiting += 1
        try:
            await asyncio.sleep(0)  # so that all copies that begin together count
            async with self._changed:
                await self._changed.wait_for(lambda: self._left >= least)
                mine = min(self._left, max(least, self._left // self._waiting))
                self._left -= mine
        finally:
            self._waiting -= 1
        try:
            yield mine
        finally:
            self._left += mine
            async with self._changed:
                self._changed.notify_all()


_LIMIT: ContextVar[Limit | None] = ContextVar("limit", default=None)


@contextmanager
def limited(rate: int) -> Iterator[None]:
    """Keep all copies of these tasks, together, to so many bytes a second (0: no limit). A limit that is
    set already stays."""
    if not rate or _LIMIT.get() is not None:
        yield
        return
    token = _LIMIT.set(Limit(rate))
    try:
        yield
    finally:
        _LIMIT.reset(token)


def are_limited() -> bool:
    """Return whether these tasks keep to a rate."""
    return _LIMIT.get() is not None


@asynccontextmanager
async def share() -> AsyncIterator[int]:
    """Give the share of a copy in bytes a second, once there is one; 0 without a limit."""
    limit = _LIMIT.get()
    if limit is None:
        yield 0
        return
    async with limit.share() as mine:
        yield mine


async def paced(size: int, began: float, rate: int) -> None:
    """Wait until so many bytes, which began to travel at that time of the loop, are within the rate."""
    if rate:
        await asyncio.sleep(began + size / rate - asyncio.get_running_loop().time())
