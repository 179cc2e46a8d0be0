"""Reads the sources of data sets, and tells how far that is: those of hosts there, all others here in a
thread of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from ...records import events as ev
from ...spec.data import on_a_host
from ..concurrency import in_own_thread
from ..listeners import OnEvent
from . import listing
from .host import Host

#: Seconds between two events about one source.
EVERY = 0.25


#: Connects to a host by its name.
Reach = Callable[[str], AbstractAsyncContextManager[Host]]


async def read(
    name: str, source: str, on_event: OnEvent, reach: Reach, credential: str = ""
) -> listing.Listed:
    """Return the version that the source of a data set has now. Raises what
    :func:`listing.read_source` raises, or HostError.

    ``on_event`` gets SourceRead now and then, in the caller's loop. A caller that is cancelled ends the
    reading. ``reach`` is used for a source that is on a host.
    """
    loop, told, last = asyncio.get_running_loop(), False, time.monotonic()

    def on_read(done: int, total: int | None) -> None:
        nonlocal told, last
        if time.monotonic() - last >= EVERY:
            told, last = True, time.monotonic()
            event = ev.SourceRead(time.time(), name, done, total)
            loop.call_soon_threadsafe(on_event, event)

    def work(going_on: Callable[[], None]) -> listing.Listed:
        def on_read_here(done: int, total: int | None) -> None:
            going_on()
            on_read(done, total)

        return listing.read_source(source, on_read_here, credential)

    there = on_a_host(source)
    try:
        if there is None:
            return await in_own_thread(work)
        from . import host_listing  # few runs need it

        async with reach(there[0]) as host:
            return await host_listing.read(host, there[1], on_read)
    finally:
        if told:
            on_event(ev.SourceRead(time.time(), name, 0, is_over=True))
