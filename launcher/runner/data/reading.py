"""Reads the sources of data sets in a thread of their own, and tells how far that is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ...records import events as ev
from ..concurrency import in_own_thread
from ..listeners import OnEvent
from . import listing

#: Seconds between two events about one source.
EVERY = 0.25


async def read(name: str, source: str, on_event: OnEvent) -> listing.Listed:
    """Return the version that the source of a data set has now. Raises what
    :func:`listing.read_source` raises.

    ``on_event`` gets SourceRead now and then, in the caller's loop. A caller that is cancelled ends the
    reading.
    """
    loop, told, last = asyncio.get_running_loop(), False, time.monotonic()

    def work(going_on: Callable[[], None]) -> listing.Listed:
        def on_read(done: int, total: int | None) -> None:
            nonlocal told, last
            going_on()
            if time.monotonic() - last >= EVERY:
                told, last = True, time.monotonic()
                event = ev.SourceRead(time.time(), name, done, total)
                loop.call_soon_threadsafe(on_event, event)

        return listing.read_source(source, on_read)

    try:
        return await in_own_thread(work)
    finally:
        if told:
            on_event(ev.SourceRead(time.time(), name, 0, is_over=True))
